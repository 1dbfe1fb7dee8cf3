"""What is asked of a policy and what it answers. Values only; `engine.py` decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from policy.classes import CommandClass, Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks: an agent, or a person. `role` is "" for agents; `owner` is the person an agent belongs to, or ""."""

    kind: Literal["agent", "person"]
    id: str
    tenant: str
    teams: frozenset[str]
    role: str
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A target, as policies see it."""

    id: str
    name: str
    tenant: str
    tier: Tier
    teams: frozenset[str]
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a requester says about a request. Nobody has checked it, and policies name it so."""

    ticket: str
    """"" if none."""
    reason: bool
    """Whether one was given."""
    evidence: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessQuery:
    """May this access be asked for, and may it be granted without a person?"""

    principal: Principal
    target: Resource
    login: str
    ceiling: CommandClass
    flags: frozenset[str]
    ttl: timedelta
    claimed: Claims
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionQuery:
    """May this command run under its grant, and may it run without a person?"""

    principal: Principal
    target: Resource
    login: str
    command_class: CommandClass
    opaque: bool
    egress: bool
    outlives: bool
    ceiling: CommandClass
    verified: bool
    flags: frozenset[str]
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveQuery:
    """May `principal`, who signed already, decide what `requester` asks for?"""

    principal: Principal
    requester: Principal
    target: Resource
    subject: Literal["access", "action"]
    level: CommandClass
    """Class of the command; of an access request, its ceiling."""
    security_key: bool
    """A FIDO2 key signed, and says that its holder was present."""
    user_verified: bool
    """It also says that it asked for a PIN or a fingerprint."""
    now: datetime


Query = AccessQuery | ActionQuery | ApproveQuery


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Nobody has to be asked. `reasons` name the rules."""

    reasons: tuple[str, ...]
    watchers: frozenset[str] = frozenset()
    """Roles of whom one must watch while it runs; empty: nobody has to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedsApproval:
    """So many different people of these roles have to agree.

    `reasons`: the rules that permit it with a person, then those that forbid it without one.
    """

    quorum: int
    roles: frozenset[str]
    reasons: tuple[str, ...]
    watchers: frozenset[str] = frozenset()
    """As of a Permit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """Never, whoever agrees. `reasons` name the rules."""

    reasons: tuple[str, ...]


Decision = Permit | NeedsApproval | Deny


def stricter_of(one: Decision, other: Decision) -> Decision:
    """One answer to two questions that must both be permitted: the no of either, the people that either asks for."""
    reasons = tuple(dict.fromkeys((*one.reasons, *other.reasons)))
    if isinstance(one, Deny) or isinstance(other, Deny):
        return Deny(reasons=tuple(r for each in (one, other) if isinstance(each, Deny) for r in each.reasons))
    watchers = one.watchers | other.watchers
    asking = [each for each in (one, other) if isinstance(each, NeedsApproval)]
    if not asking:
        return Permit(reasons=reasons, watchers=watchers)
    roles = frozenset.intersection(*(each.roles for each in asking))
    if not roles:
        return Deny(reasons=reasons)  # nobody could decide both
    return NeedsApproval(quorum=max(each.quorum for each in asking), roles=roles, reasons=reasons, watchers=watchers)
