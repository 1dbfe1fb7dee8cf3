"""The store as services see it: rows by aggregate, one unit of work, one tenant.

Implementations normalise what they raise: only Refusal and Fault leave a port.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from broker.core.action import Action, ActionState
from broker.core.approval import Approval, Subject
from broker.core.events import AuditEvent
from broker.core.glass import BreakGlass, GlassId
from broker.core.grant import Grant, GrantState
from broker.core.identity import Identity, IdentityKind, Target, Team
from broker.core.ids import (
    ActionId,
    AuditId,
    CredentialId,
    GrantId,
    IdentityId,
    RecordingId,
    RequestId,
    SessionId,
    TargetId,
    TeamId,
    TenantId,
)
from broker.core.request import AccessRequest
from broker.core.secret import Secret
from broker.service.ports.values import (
    Choice,
    Credential,
    Effect,
    Freeze,
    JoinToken,
    PolicyVersion,
    RecordingKey,
    SecretCheckout,
    SecretVersion,
    Session,
)
from broker.service.ports.vault import Sealed, VaultRows

T = TypeVar("T")


class IdentityRows(Protocol):
    def get(self, identity: IdentityId) -> Identity | None: ...
    def by_name(self, kind: IdentityKind, name: str) -> Identity | None: ...
    def by_key(self, key: bytes) -> Identity | None:
        """By SHA-256 of the client SPKI; only ACTIVE ones."""
        ...

    def all(self) -> Sequence[Identity]: ...
    def people(self) -> Sequence[Identity]:
        """Without the agents."""
        ...

    def put(self, identity: Identity) -> None:
        """Insert or replace, teams and approval keys included. Raises Refusal `name_taken`."""
        ...

    def put_join(self, token: JoinToken) -> None: ...
    def take_join(self, secret_sha256: bytes, now: datetime) -> IdentityId | None:
        """Spends the token: exactly one caller ever gets the identity; None if unknown, spent or late."""
        ...

    def forget_joins(self, now: datetime) -> int:
        """Drops join tokens that ended before `now`; returns how many."""
        ...


class TeamRows(Protocol):
    def get(self, team: TeamId) -> Team | None: ...
    def by_name(self, name: str) -> Team | None: ...
    def all(self) -> Sequence[Team]: ...
    def put(self, team: Team) -> None: ...


class TargetRows(Protocol):
    def get(self, target: TargetId) -> Target | None: ...
    def by_name(self, name: str) -> Target | None: ...
    def all(self) -> Sequence[Target]: ...
    def put(self, target: Target) -> None: ...


class RequestRows(Protocol):
    def get(self, request: RequestId) -> AccessRequest | None: ...
    def claimed(self, request: RequestId) -> tuple[str, str, str] | None:
        """Ticket, reason and evidence as they were written: what every use of a grant is decided by again."""
        ...

    def put(self, request: AccessRequest) -> None: ...
    def pending(self) -> Sequence[AccessRequest]:
        """Oldest first."""
        ...

    def count_pending(self, identity: IdentityId | None) -> int:
        """Of one identity, or of the tenant where None."""
        ...


class GrantRows(Protocol):
    def get(self, grant: GrantId) -> Grant | None: ...
    def put(self, grant: Grant) -> None: ...
    def in_states(self, states: Iterable[GrantState]) -> Sequence[Grant]: ...
    def live_ids(self, choice: Choice) -> Sequence[GrantId]:
        """Ids alone, oldest first: cheap with very many."""
        ...

    def count(self, states: Iterable[GrantState]) -> int: ...
    def due(self, now: datetime, limit: int) -> Sequence[GrantId]:
        """Live ones whose deadline has come, the longest overdue first; read from an index alone."""
        ...

    def deadlines(self) -> Sequence[tuple[GrantId, datetime]]:
        """Of every live one, the soonest first; read from an index alone."""
        ...

    def revoked_since(self, since: datetime) -> Sequence[tuple[GrantId, TargetId]]:
        """What somebody ended, rather than time, at `since` or later, and where it was; the newest first."""
        ...

    def page(self, *, identity: IdentityId | None, after: GrantId | None, limit: int) -> Sequence[Grant]:
        """Newest first."""
        ...


class ActionRows(Protocol):
    def get(self, action: ActionId) -> Action | None: ...
    def put(self, action: Action) -> None: ...
    def in_states(self, states: Iterable[ActionState], *, grant: GrantId | None) -> Sequence[Action]:
        """Oldest first; of one grant, or of the tenant where None."""
        ...

    def count_awaiting(self, identity: IdentityId | None) -> int: ...
    def awaiting_with_key(self, key: bytes, grant: GrantId) -> Action | None:
        """The AWAITING action of a grant with this action key, if any (a retry merges into it)."""
        ...

    def denied_since(self, key: bytes, identity: IdentityId, since: datetime) -> Action | None:
        """The newest action of an identity with this key that a person denied at or after `since` (cool-down)."""
        ...

    def page(
        self, *, grant: GrantId | None, identity: IdentityId | None, after: ActionId | None, limit: int
    ) -> Sequence[Action]: ...


class ApprovalRows(Protocol):
    def add(self, approval: Approval) -> None:
        """One row a person and subject: a second decision of the same person raises Refusal `already_decided`."""
        ...

    def of(self, subject: Subject, subject_id: str) -> Sequence[Approval]: ...
    def spend(self, subject: Subject, subject_id: str) -> bool:
        """Marks the approvals as used; False if they already were (single use, I-13, I-63)."""
        ...


class SessionRows(Protocol):
    def get(self, session: SessionId) -> Session | None: ...
    def put(self, session: Session) -> None: ...
    def open(self, grant: GrantId | None) -> Sequence[Session]: ...
    def page(self, *, identity: IdentityId | None, after: SessionId | None, limit: int) -> Sequence[Session]:
        """Newest first."""
        ...


class CredentialRows(Protocol):
    def add(self, credential: Credential) -> None: ...
    def put(self, credential: Credential) -> None:
        """Replaces its state; everything else of it never changes."""
        ...

    def get(self, credential: CredentialId) -> Credential | None: ...
    def outside(self, grant: GrantId | None) -> Sequence[Credential]:
        """Those that something may be of on the other side, oldest first; of one grant, or of the tenant where None."""
        ...

    def by_serial(self, kind: str, serial: str) -> Credential | None: ...
    def count(self, grant: GrantId, kinds: Iterable[str]) -> int:
        """How many of these kinds a grant has issued."""
        ...


class PolicyRows(Protocol):
    def current(self) -> PolicyVersion | None: ...
    def by_version(self, version: str) -> PolicyVersion | None:
        """One that was ever put: what decided an old action can be read again."""
        ...

    def put(self, version: PolicyVersion) -> None: ...


class FreezeRows(Protocol):
    def active(self) -> Freeze | None: ...
    def put(self, freeze: Freeze) -> None: ...
    def lift(self) -> None: ...


class IdempotencyRows(Protocol):
    def find(self, identity: IdentityId, method: str, key: str) -> tuple[bytes, str] | None:
        """(SHA-256 of the request, id of what it made) of an earlier call with this key."""
        ...

    def put(
        self, identity: IdentityId, method: str, key: str, request_sha256: bytes, made: str, now: datetime
    ) -> None: ...

    def forget(self, before: datetime) -> int:
        """Drops keys that were used before `before`; returns how many."""
        ...


class SeenRows(Protocol):
    def first_time(self, purpose: str, nonce: bytes, expires_at: datetime) -> bool:
        """True for exactly one caller a (purpose, nonce); rows may be dropped after `expires_at`."""
        ...

    def forget(self, now: datetime) -> int:
        """Drops what expired before `now`; returns how many."""
        ...


class OutboxRows(Protocol):
    def put(self, effect: Effect) -> None: ...
    def due(self, now: datetime, limit: int) -> Sequence[Effect]: ...
    def of(self, kind: str, subject: str) -> Sequence[Effect]:
        """What waits for one subject, due or not."""
        ...

    def done(self, effect: Effect) -> None: ...
    def retry(self, effect: Effect, due_at: datetime, *, why: str, now: datetime) -> None:
        """Counts a failed try, says why, and keeps since when they fail."""
        ...

    def hasten(self, effect: Effect, due_at: datetime) -> None:
        """The same try, at another moment."""
        ...


class AuditRows(Protocol):
    def append(self, event: AuditEvent, now: datetime) -> AuditId:
        """Puts the finished entry (canonical bytes, digests, sealed disclosures) into the log's outbox (I-31)."""
        ...


class KeyRows(Protocol):
    def new_recording_key(self, recording: RecordingId) -> RecordingKey:
        """A fresh 32-byte DEK, stored wrapped by the tenant's recordings key; the row lives outside the file."""
        ...

    def recording_key(self, recording: RecordingId) -> RecordingKey | None: ...
    def search_key(self) -> Secret[bytes]:
        """What the words of this tenant's recordings are hidden under; made if there is none."""
        ...

    def secret(self, name: str) -> Secret[bytes] | None: ...
    def use_secret(self, name: str, use: Callable[[bytearray], T]) -> T | None:
        """What `use` makes of the value, which lives in this one buffer and is zeroed when `use` is over (I-51)."""
        ...

    def put_secret(self, name: str, value: Secret[bytes]) -> Sealed:
        """The next version of the value; the one before is gone."""
        ...

    def put_value(self, name: str, value: bytes | bytearray, *, version: int) -> Sealed:
        """As put_secret, under a version that the caller counts: of secrets whose row may have been dropped."""
        ...

    def drop_secret(self, name: str) -> bool:
        """Deletes the value; says whether there was one."""
        ...

    @property
    def rekeying(self) -> VaultRows:
        """The tenant's own keys, which all of the above are sealed under."""
        ...


class SecretRows(Protocol):
    """Secrets that people put: versions and checkouts. Values are in KeyRows."""

    def newest(self, name: str) -> int:
        """The newest version of a secret; 0 where it never had one."""
        ...

    def add_version(self, version: SecretVersion) -> None: ...
    def all(self) -> Sequence[SecretVersion]:
        """The newest version of each, by name."""
        ...

    def kept(self) -> frozenset[str]:
        """Names that have a value now."""
        ...

    def check_out(self, checkout: SecretCheckout) -> bool:
        """True for exactly one caller a grant, ever."""
        ...

    def checkout(self, credential: CredentialId) -> SecretCheckout | None: ...
    def checkouts(self, name: str, version: int) -> Sequence[SecretCheckout]: ...
    def open_on(self, target: TargetId) -> Sequence[SecretCheckout]:
        """Of grants on a target, whose lease has not ended."""
        ...

    def end_checkout(self, checkout: SecretCheckout) -> None:
        """Writes its `ended_at`."""
        ...


class GlassRows(Protocol):
    """Sealed credentials (I-62)."""

    def get(self, glass: GlassId) -> BreakGlass | None: ...
    def put(self, glass: BreakGlass) -> None: ...
    def all(self) -> Sequence[BreakGlass]:
        """Oldest first."""
        ...

    def owing_review(self) -> Sequence[BreakGlass]:
        """Those that were used and that nobody looked at yet."""
        ...

    def of_request(self, request: RequestId) -> BreakGlass | None:
        """The one that was opened under an access request."""
        ...


class Tx(Protocol):
    """One unit of work's view of one tenant. Valid only inside the unit."""

    @property
    def identities(self) -> IdentityRows: ...
    @property
    def teams(self) -> TeamRows: ...
    @property
    def targets(self) -> TargetRows: ...
    @property
    def requests(self) -> RequestRows: ...
    @property
    def grants(self) -> GrantRows: ...
    @property
    def actions(self) -> ActionRows: ...
    @property
    def approvals(self) -> ApprovalRows: ...
    @property
    def sessions(self) -> SessionRows: ...
    @property
    def credentials(self) -> CredentialRows: ...
    @property
    def policies(self) -> PolicyRows: ...
    @property
    def freezes(self) -> FreezeRows: ...
    @property
    def idempotency(self) -> IdempotencyRows: ...
    @property
    def seen(self) -> SeenRows: ...
    @property
    def outbox(self) -> OutboxRows: ...
    @property
    def audit(self) -> AuditRows: ...
    @property
    def keys(self) -> KeyRows: ...
    @property
    def secrets(self) -> SecretRows: ...
    @property
    def glasses(self) -> GlassRows: ...


class Store(Protocol):
    """Units of work. A unit is a plain synchronous function.

    It may not block on anything but its Tx, and may run again after a conflict.
    """

    async def run(self, tenant: TenantId, unit: Callable[[Tx], T]) -> T:
        """One transaction, durable when this returns. An exception rolls the unit back and comes out as it was.

        Raises:
            StoreFault: the database could not (read-only, full, locked, gone); nothing was written.
        """
        ...

    async def read(self, tenant: TenantId, unit: Callable[[Tx], T]) -> T:
        """Reads only; a write in it fails."""
        ...

    async def read_aside(self, tenant: TenantId, unit: Callable[[Tx], T]) -> T:
        """As `read`, for a look through very many rows: nothing else of this process waits for it."""
        ...

    async def tenants(self) -> Sequence[TenantId]:
        """Every tenant but `_system`."""
        ...
