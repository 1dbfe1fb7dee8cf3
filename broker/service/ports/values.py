"""What the store keeps beside the core's own values: sessions, credentials, policies, freezes, effects, keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from broker.core.credential import TRANSITIONS, CredentialEvent, CredentialState
from broker.core.ids import (
    ActionId,
    CredentialId,
    GrantId,
    IdentityId,
    RecordingId,
    SessionId,
    TargetId,
    TenantId,
)
from broker.core.secret import Secret
from broker.core.table import step

T = TypeVar("T")


class SessionState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"
    CUT = "cut"
    LOST = "lost"
    """The broker died while it was open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One use of a grant on a target, always recorded."""

    tenant: TenantId
    id: SessionId
    grant_id: GrantId
    action_id: ActionId | None
    identity: IdentityId
    target_id: TargetId
    login: str
    kind: str
    """`exec`, `sftp`, `forward` or `raw_shell`; later `shell`."""
    door: str
    """`grpc` or `ssh`."""
    recording: RecordingId
    state: SessionState
    opened_at: datetime
    closed_at: datetime | None
    end_reason: str
    recording_leaves: int
    """Frames committed at close, or at the last checkpoint while open."""
    recording_root: bytes
    """32 bytes, or empty while nothing is committed."""
    recording_state: str
    """`open`, `final`, `truncated` or `torn`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What a grant issued. Without its row a signature is worth nothing (I-08), and nothing is made elsewhere."""

    tenant: TenantId
    id: CredentialId
    grant_id: GrantId
    kind: str
    """`ssh` (ingress certificate), `token` (JWT), `egress`; else the kind of target that it was made on."""
    serial: str
    """Decimal certificate serial, the token's jti, or its name on the other side."""
    key: bytes
    """SHA-256 of the bound public key: SSH public key blob for certificates, client SPKI for tokens; see Plan.key."""
    state: CredentialState
    issued_at: datetime
    """When it was planned, where something is made elsewhere."""
    not_after: datetime
    ended_at: datetime | None
    """When nothing of it was on the other side any more."""

    def advanced(self, event: CredentialEvent, now: datetime) -> Credential:
        """The same after `event`; the only way its state changes."""
        after = step(TRANSITIONS, self.state, event)
        return replace(self, state=after, ended_at=now if after is CredentialState.ENDED else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """One stored set of Cedar files. `version` is the SHA-256 hex of policy.engine."""

    tenant: TenantId
    version: str
    sources: Mapping[str, str]
    put_by: str
    put_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """The kill switch: while a row stands, nothing is issued, approved or run in the tenant (I-61)."""

    tenant: TenantId
    frozen_by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which of a tenant's live grants are meant: those for which everything holds that is not None."""

    identities: frozenset[IdentityId] | None
    targets: frozenset[TargetId] | None
    ticket: str | None
    """Of the request that the grant came from, exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeOrder:
    """A pull of the kill switch: of one tenant, or of every one where `tenant` is None."""

    tenant: TenantId | None
    by: str
    """An identity's id; `host:UID` for whoever sits at the broker's machine."""
    name: str
    """How people know them; may be empty."""
    reason: str
    at: datetime

    def told(self) -> str:
        """Who, when and why, for those who are refused because of it."""
        return f"since {self.at:%Y-%m-%d %H:%M:%S} UTC by {self.name or self.by}: {self.reason or 'no reason given'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """A one-time enrolment right. Only the SHA-256 of the secret is kept (I-53)."""

    tenant: TenantId
    secret_sha256: bytes
    identity: IdentityId
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Something to do after commit, idempotent, retried until done (the outbox)."""

    tenant: TenantId
    id: int
    """Assigned by the store; 0 in a new one."""
    kind: str
    """`end_grant`."""
    subject: str
    attempts: int
    due_at: datetime
    why: str = ""
    """The last failure, a fixed phrase; empty while there was none."""
    failing_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingKey:
    """A recording's data key, opened. `key_id` stands in the recording's header."""

    recording: RecordingId
    key_id: str
    key: Secret[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretVersion:
    """That a secret got a value, without it."""

    tenant: TenantId
    name: str
    version: int
    """From 1 on; never used again, also after the value was deleted."""
    put_by: IdentityId
    put_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretCheckout:
    """That a grant got the value of a secret. One a grant."""

    tenant: TenantId
    credential: CredentialId
    grant: GrantId
    name: str
    version: int
    at: datetime
    ended_at: datetime | None
    """When its lease ended; the value itself cannot be taken back."""
