"""Taking access away: expiry, revocation, freeze.

What ends is cut in memory first, then written, then finished by the outbox.

A cut needs no database (I-61); a revocation that fails is a state, retried and counted (STUCK), never a lost log line.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from broker.core import action as actions
from broker.core.action import Action, ActionEvent, ActionState
from broker.core.errors import Fault, StoreFault
from broker.core.grant import LIVE, OVER, EndReason, Grant, GrantState, end, ended, retried, stuck
from broker.core.ids import GrantId, IdentityId, TenantId
from broker.core.request import RequestEvent
from broker.core.request import advance as advance_request
from broker.service import story
from broker.service.live import Cut, Scope
from broker.service.ports import Effect, Tx
from broker.service.world import World

log = structlog.get_logger()
END_GRANT = "end_grant"
"""The outbox effect that closes everything a grant opened."""
CUT_WITHIN = 1.0
"""Seconds in which sessions are cut (I-01, I-02)."""
REMEMBERED = 10_000
"""Grants that ended lately: whatever was started under one a moment before does not begin any more."""
FIRST_RETRY = timedelta(seconds=2)
LONGEST_RETRY = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What one sweep found and ended."""

    grants: tuple[Grant, ...]
    decisions: int
    """Requests and actions that nobody decided, or started, in time."""


class Ending:
    """The endings of grants. Nothing here asks policy: an end is never refused."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._unwritten: dict[GrantId, tuple[TenantId, EndReason, str, str]] = {}
        """Ends that the store would not take yet: nothing starts under them, the sweep writes them."""
        self._over: OrderedDict[GrantId, None] = OrderedDict()
        """Ends that were finished lately."""

    def has_ended(self, grant: GrantId) -> bool:
        """Whether this grant ended while this process ran, written or not. For what was let in before it did."""
        return grant in self._unwritten or grant in self._over

    def is_ended(self, grant: GrantId) -> bool:
        """Whether an end of this grant waits to be written: it counts already."""
        return grant in self._unwritten

    async def end(self, tenant: TenantId, grant_id: GrantId, reason: EndReason, *, by: str, words: str = "") -> int:
        """Ends one grant: nothing new starts, sessions are cut within a second, the end is written and finished.

        `words` are an operator's, for the person in a session and for the log.

        Returns:
            How many sessions were cut. A store that fails does not stop the cut: the end is written as soon as it can
            be.
        """
        self._unwritten[grant_id] = (tenant, reason, by, words)
        cut = await self._cut(Scope(tenant=tenant, grant=grant_id), reason, words)
        try:
            await self._write(tenant, grant_id, reason, by, words)
        except StoreFault as fault:
            log.exception("revocation.unwritten", tenant=tenant, grant_id=grant_id, cause=fault.what)
        else:
            await self.finish(tenant, grant_id)
        return cut.sessions

    async def write_late(self) -> None:
        """Writes the ends that the store would not take when they happened."""
        for grant_id, (tenant, reason, by, words) in list(self._unwritten.items()):
            await self._write(tenant, grant_id, reason, by, words)
            await self.finish(tenant, grant_id)

    async def sweep(self, tenant: TenantId) -> Due:
        """Ends everything in a tenant whose time is over; idempotent. Also what was ended but never finished."""
        now = self._world.clock.now()
        if not await self._world.store.read(tenant, lambda tx: _anything_due(tx, now)):
            return Due(grants=(), decisions=0)

        def unit(tx: Tx) -> Due:
            over = [g for g in tx.grants.in_states(LIVE) if now >= g.deadline()]
            ending = tuple(self._end_in(tx, grant, _timely(grant), by="") for grant in over)
            return Due(grants=ending, decisions=_expire_requests(self._world, tx) + _expire_actions(self._world, tx))

        due = await self._world.store.run(tenant, unit)
        self._world.bell.ring_all(tenant)
        for grant in due.grants:
            self._remember(grant.id)
        for grant in due.grants:
            await self._cut(Scope(tenant=tenant, grant=grant.id), grant.end_reason or EndReason.EXPIRED)
            await self.finish(tenant, grant.id)
        return due

    async def finish(self, tenant: TenantId, grant_id: GrantId) -> None:
        """ENDING -> EXPIRED or REVOKED, once nothing of the grant runs any more; else STUCK, and again later.

        Idempotent.
        """
        self._remember(grant_id)
        cut = await self._cut(Scope(tenant=tenant, grant=grant_id), EndReason.EXPIRED)
        try:
            await self._world.targets.end_grant(tenant, grant_id)
            failed = bool(cut.late)
        except Fault as fault:
            log.warning("revocation.failed", tenant=tenant, grant_id=grant_id, cause=fault.what)
            failed = True
        await self._world.store.run(tenant, lambda tx: self._finish_in(tx, grant_id, failed=failed))
        self._world.leases.forget(grant_id)
        self._world.bell.ring_all(tenant)

    def _remember(self, grant: GrantId) -> None:
        self._over[grant] = None
        self._over.move_to_end(grant)
        while len(self._over) > REMEMBERED:
            self._over.popitem(last=False)

    async def retry_due(self, tenant: TenantId) -> int:
        """Runs the outbox effects that are due; returns how many."""
        now = self._world.clock.now()
        effects = await self._world.store.read(tenant, lambda tx: tx.outbox.due(now, 100))
        for effect in effects:
            await self.finish(tenant, GrantId(effect.subject))
        return len(effects)

    async def cut_all(self, scope: Scope, reason: EndReason, words: str) -> Cut:
        """Cuts everything that runs in a scope, without the store."""
        return await self._cut(scope, reason, words)

    async def cut_sessions(self, tenant: TenantId, identity: IdentityId) -> int:
        """Cuts everything that one identity runs, without the store."""
        return (await self._cut(Scope(tenant=tenant, identity=identity), EndReason.IDENTITY_REMOVED)).sessions

    def end_all_in(self, tx: Tx, reason: EndReason, *, by: str, only: frozenset[str] | None) -> Sequence[Grant]:
        """Ends every live grant of the tenant, or of the identities in `only`, inside a caller's transaction."""
        live = [g for g in tx.grants.in_states(LIVE) if only is None or g.identity in only]
        return [self._end_in(tx, grant, reason, by=by) for grant in live]

    def withdraw_all_in(self, tx: Tx, identity: IdentityId, *, by: str) -> None:
        """Takes back every request of an identity that still waits, inside a caller's transaction."""
        now = self._world.clock.now()
        for request in (waiting for waiting in tx.requests.pending() if waiting.identity == identity):
            cancelled = advance_request(request, RequestEvent.CANCEL, note="its requester was suspended")
            tx.requests.put(cancelled)
            tx.audit.append(story.of_request("access.cancelled", cancelled, actor=by), now)

    def hold(self, tenant: TenantId, ids: Iterable[GrantId], reason: EndReason, *, by: str, words: str) -> None:
        """From now on these grants count as ended, before that is written: nothing starts under them."""
        for grant_id in ids:
            self._unwritten.setdefault(grant_id, (tenant, reason, by, words))

    def let_go(self, ids: Iterable[GrantId]) -> None:
        """Their ends are written: the rows say it from now on."""
        for grant_id in ids:
            self._unwritten.pop(grant_id, None)
            self._remember(grant_id)

    def end_in(self, tx: Tx, grant_id: GrantId, reason: EndReason, *, by: str, words: str) -> bool:
        """Ends one grant inside a caller's transaction; False where it was over already."""
        grant = tx.grants.get(grant_id)
        if grant is None or grant.state not in LIVE:
            return False
        self._end_in(tx, grant, reason, by=by, words=words)
        return True

    async def _cut(self, scope: Scope, reason: str, words: str = "") -> Cut:
        started = self._world.clock.monotonic()
        cut = await self._world.live.cut(scope, reason, within=CUT_WITHIN, words=words)
        if cut.sessions:
            self._world.meter.observe("revocation_duration_seconds", self._world.clock.monotonic() - started)
        if cut.late:
            log.error("session.cut_late", tenant=scope.tenant, sessions=list(cut.late))
        return cut

    async def _write(self, tenant: TenantId, grant_id: GrantId, reason: EndReason, by: str, words: str) -> None:
        def unit(tx: Tx) -> None:
            grant = tx.grants.get(grant_id)
            if grant is not None and grant.state in LIVE:
                self._end_in(tx, grant, reason, by=by, words=words)

        await self._world.store.run(tenant, unit)
        self._unwritten.pop(grant_id, None)

    def _end_in(self, tx: Tx, grant: Grant, reason: EndReason, *, by: str, words: str = "") -> Grant:
        now = self._world.clock.now()
        after = end(grant, reason, now=now, by=by)
        tx.grants.put(after)
        for action in tx.actions.in_states((ActionState.AWAITING, ActionState.ALLOWED), grant=grant.id):
            _void(tx, action, by=by, now=now)
        tx.audit.append(story.of_grant(_name_of_end(after), after, actor=by, reason=words), now)
        if after.state is GrantState.ENDING:
            tx.outbox.put(Effect(tenant=grant.tenant, id=0, kind=END_GRANT, subject=grant.id, attempts=0, due_at=now))
        self._world.meter.count("grants_ended", reason=reason)
        return after

    def _finish_in(self, tx: Tx, grant_id: GrantId, *, failed: bool) -> None:
        now = self._world.clock.now()
        grant = tx.grants.get(grant_id)
        effects = [e for e in tx.outbox.due(now + LONGEST_RETRY, 1000) if e.kind == END_GRANT and e.subject == grant_id]
        if grant is not None and grant.state not in OVER | LIVE:
            ending = retried(grant) if grant.state is GrantState.STUCK else grant
            after = stuck(ending) if failed else ended(ending)
            tx.grants.put(after)
            if after.state is not grant.state:
                tx.audit.append(story.of_grant(_name_of_end(after), after, actor=after.ended_by), now)
        for effect in effects:
            if failed:
                tx.outbox.retry(effect, now + min(FIRST_RETRY * 2**effect.attempts, LONGEST_RETRY))
            else:
                tx.outbox.done(effect)


def _anything_due(tx: Tx, now: datetime) -> bool:
    """A look without a write: most sweeps find nothing."""
    waiting = tx.actions.in_states((ActionState.AWAITING, ActionState.ALLOWED), grant=None)
    return (
        any(now >= g.deadline() for g in tx.grants.in_states(LIVE))
        or any(now >= r.expires_at for r in tx.requests.pending())
        or any(now >= a.expires_at for a in waiting)
    )


def _timely(grant: Grant) -> EndReason:
    return EndReason.NEVER_STARTED if grant.not_after is None else EndReason.EXPIRED


def _name_of_end(grant: Grant) -> str:
    return {
        GrantState.ENDING: "grant.ending",
        GrantState.EXPIRED: "grant.expired",
        GrantState.REVOKED: "grant.revoked",
        GrantState.STUCK: "grant.stuck",
    }[grant.state]


def _void(tx: Tx, action: Action, *, by: str, now: datetime) -> None:
    """An action of a grant that ended before it ran (threats.md F06)."""
    cancelled = actions.advance(action, ActionEvent.CANCEL, note="its grant ended first")
    tx.actions.put(cancelled)
    tx.audit.append(story.of_action("action.cancelled", cancelled, actor=by), now)


def _expire_requests(world: World, tx: Tx) -> int:
    now = world.clock.now()
    late = [r for r in tx.requests.pending() if now >= r.expires_at]
    for request in late:
        expired = advance_request(request, RequestEvent.TIME_OUT, note="nobody decided in time")
        tx.requests.put(expired)
        tx.audit.append(story.of_request("access.expired", expired, actor=""), now)
    return len(late)


def _expire_actions(world: World, tx: Tx) -> int:
    now = world.clock.now()
    waiting = tx.actions.in_states((ActionState.AWAITING, ActionState.ALLOWED), grant=None)
    late = [a for a in waiting if now >= a.expires_at]
    for action in late:
        note = "nobody decided in time" if action.state is ActionState.AWAITING else "not started in time"
        expired = actions.advance(action, ActionEvent.TIME_OUT, note=note)
        tx.actions.put(expired)
        tx.audit.append(story.of_action("action.expired", expired, actor=""), now)
    return len(late)
