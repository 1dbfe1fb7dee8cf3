"""Revoking by anything: an agent, a person, a target, a team, a ticket, the tenant (I-02, P22).

Found in one transaction, marked and cut in memory, then written a slice at a time. What waits for a decision in the
scope is taken back in that first transaction, so that nothing of it becomes a grant afterwards. A revocation is no ban:
who may ask can ask again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from broker.core.errors import invalid, not_found
from broker.core.grant import EndReason
from broker.core.identity import Caller, IdentityKind, Team
from broker.core.ids import GrantId, TargetId
from broker.core.request import MAX_REASON_BYTES, MAX_TICKET_BYTES, RequestEvent, advance, checked_text
from broker.core.roles import TEAM_BOUND
from broker.service import lookup, story
from broker.service.ending import Ending
from broker.service.live import Scope
from broker.service.ports import Choice, Tx
from broker.service.slices import write_ends
from broker.service.world import World

_EVERYTHING = Choice(identities=None, targets=None, ticket=None)


class Whose(StrEnum):
    """What a revocation names."""

    AGENT = "agent"
    PERSON = "person"
    TARGET = "target"
    TEAM = "team"
    """Everybody who is in it, agents and people."""
    TICKET = "ticket"
    TENANT = "tenant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """What a revocation did."""

    grants: Sequence[GrantId]
    requests: int
    """Requests that waited for a decision and were taken back."""
    sessions: int
    late: int
    """Sessions that were not closed within a second; they are being ended."""


class RevokeService:
    """Revoke."""

    def __init__(self, world: World, ending: Ending) -> None:
        self._world, self._ending = world, ending

    async def revoke(self, caller: Caller, whose: Whose, name: str, reason: str) -> Revoked:
        """Ends every grant of a scope as far as the caller may: a manager on the targets of their teams alone.

        Repeating it is harmless.

        Raises:
            Refusal: nothing of that name, or not the caller's to see; a reason that no log could keep.
            StoreFault: the store did not answer. What it had found by then is cut and counts as ended; freezing needs
                no store.
        """
        checked_text("reason", reason, MAX_REASON_BYTES)
        checked_text("ticket", name, MAX_TICKET_BYTES)
        if not name:
            raise invalid("bad_scope", "a revocation names what it is about", "say whose grants are to end")

        def unit(tx: Tx) -> tuple[Sequence[GrantId], int]:
            choice = _choice(tx, caller, whose, name)
            return tx.grants.live_ids(choice), self._withdraw(tx, caller, choice, reason)

        tenant = caller.tenant
        ids, requests = await self._world.store.run(tenant, unit)
        self._ending.hold(tenant, ids, EndReason.REVOKED, by=caller.identity, words=reason)
        scope = Scope(tenant=tenant, grants=frozenset(ids))
        cut = await self._ending.cut_all(scope, EndReason.REVOKED, reason)
        await write_ends(
            self._world, self._ending, tenant, ids, EndReason.REVOKED, by=caller.identity, words=reason
        )  # fmt: skip
        await self._ending.finishing.hand_due(tenant)
        self._world.bell.ring_all(tenant)
        self._world.meter.count("revocations", scope=whose)
        return Revoked(grants=ids, requests=requests, sessions=cut.sessions, late=len(cut.late))

    def _withdraw(self, tx: Tx, caller: Caller, choice: Choice, reason: str) -> int:
        now = self._world.clock.now()
        waiting = [
            request
            for request in tx.requests.pending()
            if (choice.identities is None or request.identity in choice.identities)
            and (choice.targets is None or request.target_id in choice.targets)
            and choice.ticket in (None, request.ticket)
        ]
        for request in waiting:
            cancelled = advance(request, RequestEvent.CANCEL, note=f"revoked: {reason}" if reason else "revoked")
            tx.requests.put(cancelled)
            tx.audit.append(story.of_request("access.cancelled", cancelled, actor=caller.identity), now)
        return len(waiting)


def _choice(tx: Tx, caller: Caller, whose: Whose, name: str) -> Choice:
    """The scope in ids. Raises Refusal `not_found` for what is not there and for what is not theirs alike (I-46)."""
    seen = _seen(tx, caller)
    match whose:
        case Whose.AGENT | Whose.PERSON:
            identity = tx.identities.by_name(IdentityKind(whose), name)
            if identity is None:
                raise not_found(whose)
            return replace(_EVERYTHING, identities=frozenset({identity.id}), targets=seen)
        case Whose.TARGET:
            target = tx.targets.by_name(name)
            if target is None or not lookup.sees_target(caller, target):
                raise not_found("target")
            return replace(_EVERYTHING, targets=frozenset({target.id}))
        case Whose.TEAM:
            team = _team(tx, caller, name)
            members = frozenset(row.id for row in tx.identities.all() if team.id in row.teams)
            return replace(_EVERYTHING, identities=members, targets=seen)
        case Whose.TICKET:
            return replace(_EVERYTHING, ticket=name, targets=seen)
        case Whose.TENANT:
            if name != caller.tenant:
                raise not_found("tenant")
            return replace(_EVERYTHING, targets=seen)


def _seen(tx: Tx, caller: Caller) -> frozenset[TargetId] | None:
    """The targets that a team's manager sees; None for those who see all."""
    if caller.role not in TEAM_BOUND:
        return None
    return frozenset(target.id for target in tx.targets.all() if lookup.sees_target(caller, target))


def _team(tx: Tx, caller: Caller, name: str) -> Team:
    team = tx.teams.by_name(name)
    if team is None or (caller.role in TEAM_BOUND and team.id not in caller.teams):
        raise not_found("team")
    return team
