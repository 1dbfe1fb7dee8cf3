"""The life of an access request. Reads no clock, store or socket: now is an argument.

PENDING ends in one of four ways; a timeout is `expired`, never `denied`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from broker.core.errors import Refusal, conflict, expired, invalid
from broker.core.ids import GrantId, IdentityId, RequestId, TargetId, TenantId, is_agent
from broker.core.records import AccessRecord, digest_of
from broker.core.table import step
from policy.classes import CommandClass

PENDING_FOR = timedelta(minutes=10)
"""How long a person has to decide (I-13)."""
MUST_START_WITHIN = timedelta(minutes=15)
"""How long an approved grant waits for its first use."""
MIN_TTL = timedelta(seconds=1)
MAX_TTL = timedelta(hours=24)
"""The ceiling of ceilings; policy may say less (I-03)."""
MAX_REASON_BYTES = 2_048
MAX_TICKET_BYTES = 128
MAX_EVIDENCE_BYTES = 8_192


class RequestState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class RequestEvent(StrEnum):
    APPROVE = "approve"
    DENY = "deny"
    TIME_OUT = "time_out"
    CANCEL = "cancel"


TRANSITIONS: Mapping[RequestState, Mapping[RequestEvent, RequestState]] = MappingProxyType(
    {
        RequestState.PENDING: {
            RequestEvent.APPROVE: RequestState.APPROVED,
            RequestEvent.DENY: RequestState.DENIED,
            RequestEvent.TIME_OUT: RequestState.EXPIRED,
            RequestEvent.CANCEL: RequestState.CANCELLED,
        },
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRequest:
    """Who wants which login on which target, up to which class, for how long. Everything in its record is immutable."""

    tenant: TenantId
    id: RequestId
    requester: IdentityId
    """The person behind it: the agent's owner where it has one, else the identity itself."""
    identity: IdentityId
    """The agent or person whose key asked; the only one who can use the grant."""
    identity_key: bytes
    """SHA-256 of the SPKI of that identity's client key."""
    target_id: TargetId
    host_key: bytes
    """SHA-256 of the target's pinned host public key blob."""
    login: str
    ceiling: CommandClass
    flags: frozenset[str]
    ttl: timedelta
    reason: str
    """Written by the requester: untrusted, shown fenced, in no digest."""
    ticket: str
    evidence: str
    policy_version: str
    nonce: bytes
    quorum: int
    """How many distinct people must say yes; 0 where policy granted it unattended."""
    approver_roles: frozenset[str]
    state: RequestState
    created_at: datetime
    expires_at: datetime
    grant_id: GrantId | None
    note: str
    """Why it was denied or cancelled, for the requester."""

    def record(self) -> AccessRecord:
        """What an approver signs."""
        return AccessRecord(
            tenant=self.tenant,
            request_id=self.id,
            requester=self.requester,
            agent_id=self.identity if is_agent(self.identity) else "",
            agent_key=self.identity_key,
            target_id=self.target_id,
            host_key=self.host_key,
            login=self.login,
            ceiling=self.ceiling.word,
            flags=self.flags,
            ttl=self.ttl,
            policy_version=self.policy_version,
            nonce=self.nonce,
        )

    def digest(self) -> bytes:
        """SHA-256 of the record, 32 bytes."""
        return digest_of(self.record().encoded())


def checked_ttl(ttl: timedelta) -> timedelta:
    """`ttl`, if it is a whole number of seconds from 1 s to MAX_TTL (I-03)."""
    if ttl < MIN_TTL:
        raise invalid("ttl_too_short", "the TTL must be at least 1 second", "ask for a TTL from 1s to 24h")
    if ttl > MAX_TTL:
        raise invalid("ttl_too_long", "the TTL is longer than 24 hours", "ask for a TTL from 1s to 24h")
    if ttl % timedelta(seconds=1):
        raise invalid("ttl_fraction", "the TTL must be whole seconds", "round it up")
    return ttl


def checked_text(name: str, text: str, limit: int) -> str:
    """`text`, if it has at most `limit` bytes of UTF-8, no NUL and no lone surrogate: what every store can keep."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise _bad_text(name) from None
    if "\0" in text:
        raise _bad_text(name)
    if size > limit:
        raise invalid("text_too_long", f"{name} is longer than {limit} bytes", f"shorten {name}")
    return text


def advance(request: AccessRequest, event: RequestEvent, *, note: str) -> AccessRequest:
    """The request after `event`; the only way its state changes."""
    if request.state in TRANSITIONS:
        return replace(request, state=step(TRANSITIONS, request.state, event), note=note)
    raise already_decided(request.state)


def must_be_open(request: AccessRequest, now: datetime) -> None:
    """Raises unless a decision still counts: pending, and not late."""
    if request.state is not RequestState.PENDING:
        raise already_decided(request.state)
    if now >= request.expires_at:
        raise expired("request_expired", "the access request has expired", "ask again")


def _bad_text(name: str) -> Refusal:
    return invalid("bad_text", f"{name} holds a character that is not text", f"send {name} as UTF-8 without NUL")


def already_decided(state: StrEnum) -> Refusal:
    """The refusal of a second decision."""
    return conflict(
        "already_decided", f"it is already {state}", "look at it again: somebody was faster, or it timed out"
    )
