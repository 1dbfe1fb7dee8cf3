"""The life of a grant: a lease with an end. Reads no clock.

Now is an argument, and enforcement also counts monotonic seconds (I-05).

APPROVED -> ACTIVE writes `not_after`; nothing ever moves it later (I-03).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from broker.core.errors import Refusal, conflict, expired
from broker.core.ids import GrantId, IdentityId, RequestId, TargetId, TenantId
from broker.core.table import step
from policy.classes import CommandClass, Tier


class GrantState(StrEnum):
    APPROVED = "approved"
    ACTIVE = "active"
    ENDING = "ending"
    STUCK = "stuck"
    EXPIRED = "expired"
    REVOKED = "revoked"


class GrantEvent(StrEnum):
    FIRST_USE = "first_use"
    END = "end"
    """Its time is over, or somebody revoked it: the access is being taken away."""
    ENDED_BY_TIME = "ended_by_time"
    ENDED_BY_REVOCATION = "ended_by_revocation"
    REVOCATION_FAILED = "revocation_failed"
    RETRY = "retry"


TRANSITIONS: Mapping[GrantState, Mapping[GrantEvent, GrantState]] = MappingProxyType(
    {
        GrantState.APPROVED: {
            GrantEvent.FIRST_USE: GrantState.ACTIVE,
            GrantEvent.ENDED_BY_TIME: GrantState.EXPIRED,
            GrantEvent.ENDED_BY_REVOCATION: GrantState.REVOKED,
        },
        GrantState.ACTIVE: {GrantEvent.END: GrantState.ENDING},
        GrantState.ENDING: {
            GrantEvent.ENDED_BY_TIME: GrantState.EXPIRED,
            GrantEvent.ENDED_BY_REVOCATION: GrantState.REVOKED,
            GrantEvent.REVOCATION_FAILED: GrantState.STUCK,
        },
        GrantState.STUCK: {GrantEvent.RETRY: GrantState.ENDING},
    }
)
OVER = frozenset({GrantState.EXPIRED, GrantState.REVOKED})
LIVE = frozenset({GrantState.APPROVED, GrantState.ACTIVE})


class EndReason(StrEnum):
    """Why a grant ended; told to the person and the agent."""

    EXPIRED = "expired"
    NEVER_STARTED = "never_started"
    REVOKED = "revoked"
    FROZEN = "frozen"
    IDENTITY_REMOVED = "identity_removed"
    RESTORED = "restored"
    """It came back with an older database: it may have been revoked since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One login on one target for one identity's key, up to a class, until an end."""

    tenant: TenantId
    id: GrantId
    request_id: RequestId
    requester: IdentityId
    identity: IdentityId
    identity_key: bytes
    target_id: TargetId
    host_key: bytes
    login: str
    ceiling: CommandClass
    flags: frozenset[str]
    ttl: timedelta
    tier: Tier
    """The target's when it was granted: a looser one later counts for new requests only (I-17)."""
    state: GrantState
    approved_at: datetime
    must_start_by: datetime
    not_after: datetime | None
    """Set once, at first use."""
    ended_at: datetime | None
    end_reason: EndReason | None
    ended_by: str
    """Who revoked it; empty where time did."""

    def deadline(self) -> datetime:
        """When it ends by itself as things stand: must-start-by before the first use, not_after from then on."""
        return self.must_start_by if self.not_after is None else self.not_after


def first_use(grant: Grant, now: datetime) -> Grant:
    """The grant, ACTIVE: the TTL runs from here. An ACTIVE one comes back unchanged.

    Raises:
        Refusal: it is over, or it waited past must_start_by.
    """
    must_be_usable(grant, now)
    if grant.state is GrantState.ACTIVE:
        return grant
    return replace(grant, state=step(TRANSITIONS, grant.state, GrantEvent.FIRST_USE), not_after=now + grant.ttl)


def must_be_usable(grant: Grant, now: datetime) -> None:
    """Raises unless something new may start under it at `now`; at the end itself it may not (I-01)."""
    if grant.state not in LIVE:
        raise over(grant)
    if now >= grant.deadline():
        raise expired("grant_expired", "the grant has expired", "request access again")


def over(grant: Grant) -> Refusal:
    """The refusal that tells the agent how its grant ended."""
    if grant.end_reason in (EndReason.EXPIRED, EndReason.NEVER_STARTED) or grant.state is GrantState.EXPIRED:
        return expired("grant_expired", "the grant has expired", "request access again")
    return conflict(
        "grant_over", f"the grant is {grant.state} ({grant.end_reason or 'ending'})", "request access again"
    )


def end(grant: Grant, reason: EndReason, *, now: datetime, by: str) -> Grant:
    """The grant on its way out.

    ENDING if it was in use (its effects still have to be undone), over at once if it never was.
    """
    stamped = replace(grant, ended_at=now, end_reason=reason, ended_by=by)
    if grant.state is GrantState.APPROVED:
        return replace(stamped, state=step(TRANSITIONS, grant.state, _final_event(reason)))
    return replace(stamped, state=step(TRANSITIONS, grant.state, GrantEvent.END))


def ended(grant: Grant) -> Grant:
    """ENDING -> EXPIRED or REVOKED: everything that the grant opened is closed."""
    if grant.end_reason is None:
        raise conflict("not_ending", "the grant is not ending")
    return replace(grant, state=step(TRANSITIONS, grant.state, _final_event(grant.end_reason)))


def stuck(grant: Grant) -> Grant:
    """ENDING -> STUCK: the access could not be taken away yet; listed, counted, retried."""
    return replace(grant, state=step(TRANSITIONS, grant.state, GrantEvent.REVOCATION_FAILED))


def retried(grant: Grant) -> Grant:
    """STUCK -> ENDING, for another try."""
    return replace(grant, state=step(TRANSITIONS, grant.state, GrantEvent.RETRY))


def _final_event(reason: EndReason) -> GrantEvent:
    by_time = reason in (EndReason.EXPIRED, EndReason.NEVER_STARTED)
    return GrantEvent.ENDED_BY_TIME if by_time else GrantEvent.ENDED_BY_REVOCATION
