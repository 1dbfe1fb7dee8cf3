"""Taking access away: expiry, revocation, freeze.

What ends is cut in memory first, then written, then finished by the outbox.

A cut needs no database (I-61); a revocation that fails is a state, retried and counted (STUCK), never a lost log line.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from broker.core import action as actions
from broker.core.action import Action, ActionEvent, ActionState
from broker.core.errors import StoreFault
from broker.core.grant import LIVE, EndReason, Grant, GrantState, end
from broker.core.ids import GrantId, IdentityId, TenantId
from broker.core.request import RequestEvent
from broker.core.request import advance as advance_request
from broker.service import story
from broker.service.finishing import CUT_WITHIN, END_GRANT, FIRST_RETRY, Finishing, name_of_end
from broker.service.late import every_one
from broker.service.live import Cut, Scope
from broker.service.ports import Choice, Effect, Tx
from broker.service.world import World

log = structlog.get_logger()
REMEMBERED = 10_000
"""Grants that ended lately: whatever was started under one a moment before does not begin any more."""
SLICE: Final = 32
"""Ends that one transaction writes: others wait for the store no longer than that takes."""
_WAITING: Final = (ActionState.AWAITING, ActionState.ALLOWED)


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
        self.finishing = Finishing(world)
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
        await every_one(self._write_one(grant_id, *how) for grant_id, how in list(self._unwritten.items()))

    async def _write_one(self, grant_id: GrantId, tenant: TenantId, reason: EndReason, by: str, words: str) -> None:
        await self._write(tenant, grant_id, reason, by, words)
        self._remember(grant_id)
        self._world.ends.forget(grant_id)
        await self.finishing.hand_due(tenant)  # and waits for none of it: a target may hang

    # ---- by time
    def strike(self, tenant: TenantId, grants: Sequence[GrantId]) -> int:
        """Cuts the sessions of grants whose time is over: at once, in memory alone. `write_lapsed` is to follow.

        Returns:
            How many sessions were cut.
        """
        for grant in grants:
            self._remember(grant)
        return self._world.live.strike(tenant, grants, EndReason.EXPIRED)

    async def write_lapsed(self, tenant: TenantId, grants: Sequence[GrantId]) -> Sequence[Grant]:
        """Writes the ends of at most SLICE grants that were struck, in one transaction; returns those that ended.

        `hand_over` is to follow: nothing of them is taken away on a target before.
        The store has the last word: what lasts longer after all (its first use was never committed) is awaited again.
        """
        instant = self._world.reading()

        def unit(tx: Tx) -> tuple[list[Grant], list[Grant]]:
            live = [grant for grant in map(tx.grants.get, grants) if grant is not None and grant.state in LIVE]
            over, lasting = _parted(live, lambda grant: self._world.leases.left(grant, instant) <= 0)
            voided = _waiting_of(tx, over)
            ended = [
                self._end_in(tx, g, _timely(g), by="", voids=voided.get(g.id, ()), found_after=FIRST_RETRY)
                for g in over
            ]
            return ended, lasting

        ended, lasting = await self._world.store.run(tenant, unit)
        for grant in lasting:
            self._over.pop(grant.id, None)
            self._world.ends.expect(tenant, grant.deadline(), grant.id)
        return ended

    async def lapse_decisions(self, tenant: TenantId) -> int:
        """Ends the requests and actions that nobody decided, or started, in time; returns how many."""
        now = self._world.reading().wall
        if not await self._world.store.read(tenant, lambda tx: _any_decision_due(tx, now)):
            return 0
        made = await self._world.store.run(tenant, lambda tx: _expire_requests(tx, now) + _expire_actions(tx, now))
        self._world.bell.ring_all(tenant)
        return made

    async def lapse_all(self, tenant: TenantId) -> Due:
        """Ends everything in a tenant whose time is over, by the store's own index; idempotent."""
        ended: list[Grant] = []
        while due := await self._due(tenant):
            self.strike(tenant, due)
            written = await self.write_lapsed(tenant, due)
            self.hand_over(tenant, written)
            ended += written
            if not written:
                break  # another broker was quicker; the next sweep looks again
        return Due(grants=tuple(ended), decisions=await self.lapse_decisions(tenant))

    async def sweep(self, tenant: TenantId) -> Due:
        """As `lapse_all`, and waits until what ended is finished, or was tried."""
        due = await self.lapse_all(tenant)
        await self.finishing.drain()
        return due

    async def _due(self, tenant: TenantId) -> Sequence[GrantId]:
        now = self._world.reading().wall
        return await self._world.store.read(tenant, lambda tx: tx.grants.due(now, SLICE))

    def hand_over(self, tenant: TenantId, ended: Iterable[Grant]) -> None:
        """Has finished what `write_lapsed` wrote, and tells whoever waits for it."""
        leaving = list[Grant]()
        for grant in ended:
            self._world.ends.forget(grant.id)
            self._world.leases.forget(grant.id)
            if grant.state is GrantState.ENDING:
                leaving.append(grant)
        self.finishing.hand_all(tenant, leaving)
        self._world.bell.ring_all(tenant)

    # ---- finishing
    async def finish(self, tenant: TenantId, grant_id: GrantId) -> None:
        """ENDING -> EXPIRED or REVOKED, once nothing of the grant runs any more; else tried again later.

        Idempotent.
        """
        self._remember(grant_id)
        await self.finishing.finish(tenant, grant_id)
        self._world.ends.forget(grant_id)

    def _remember(self, grant: GrantId) -> None:
        self._over[grant] = None
        self._over.move_to_end(grant)
        while len(self._over) > REMEMBERED:
            self._over.popitem(last=False)

    async def retry_due(self, tenant: TenantId) -> int:
        """Runs the outbox effects that are due; returns how many."""
        handed = await self.finishing.hand_due(tenant)
        await self.finishing.drain()
        return handed

    # ---- by a word
    async def cut_all(self, scope: Scope, reason: EndReason, words: str) -> Cut:
        """Cuts everything that runs in a scope, without the store."""
        return await self._cut(scope, reason, words)

    async def cut_sessions(self, tenant: TenantId, identity: IdentityId) -> int:
        """Cuts everything that one identity runs, without the store."""
        return (await self._cut(Scope(tenant=tenant, identity=identity), EndReason.IDENTITY_REMOVED)).sessions

    def end_all_in(self, tx: Tx, reason: EndReason, *, by: str, only: frozenset[IdentityId] | None) -> Sequence[Grant]:
        """Ends every live grant of the tenant, or of the identities in `only`, inside a caller's transaction."""
        chosen = tx.grants.live_ids(Choice(identities=only, targets=None, ticket=None))
        live = [grant for grant in map(tx.grants.get, chosen) if grant is not None]
        voided = _waiting_of(tx, live)
        return [self._end_in(tx, grant, reason, by=by, voids=voided.get(grant.id, ())) for grant in live]

    async def end_restored(self, tenant: TenantId) -> int:
        """Ends every live grant and takes back every request: an older database holds what was revoked since.

        Returns:
            How many grants there were.
        """
        live = [grant for grant, _ in await self._world.store.read(tenant, lambda tx: tx.grants.deadlines())]
        for begin in range(0, len(live), SLICE):
            some = live[begin : begin + SLICE]
            await self._world.store.run(tenant, partial(self._end_restored_in, grants=some))
        await self._world.store.run(tenant, self._withdraw_restored_in)
        return len(live)

    def _end_restored_in(self, tx: Tx, grants: Sequence[GrantId]) -> None:
        for grant in grants:
            self.end_in(tx, grant, EndReason.RESTORED, by="", words="")

    def _withdraw_restored_in(self, tx: Tx) -> None:
        now = self._world.clock.now()
        for request in tx.requests.pending():
            cancelled = advance_request(request, RequestEvent.CANCEL, note="the database was restored")
            tx.requests.put(cancelled)
            tx.audit.append(story.of_request("access.cancelled", cancelled, actor=""), now)

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
        voids = tx.actions.in_states(_WAITING, grant=grant.id)
        self._end_in(tx, grant, reason, by=by, voids=voids, words=words)
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
        await self._world.store.run(tenant, lambda tx: self.end_in(tx, grant_id, reason, by=by, words=words))
        self._unwritten.pop(grant_id, None)

    def _end_in(
        self, tx: Tx, grant: Grant, reason: EndReason, *, by: str, voids: Iterable[Action], words: str = "",
        found_after: timedelta = timedelta(0),
    ) -> Grant:  # fmt: skip
        """`voids`: what waits or may start under it; `found_after`: when the sweep is to find what nobody finished."""
        now = self._world.clock.now()
        after = end(grant, reason, now=now, by=by)
        tx.grants.put(after)
        for action in voids:
            _void(tx, action, by=by, now=now)
        tx.audit.append(story.of_grant(name_of_end(after), after, actor=by, reason=words), now)
        if after.state is GrantState.ENDING:
            due_at = now + found_after
            effect = Effect(tenant=grant.tenant, id=0, kind=END_GRANT, subject=grant.id, attempts=0, due_at=due_at)
            tx.outbox.put(effect)
        self._world.meter.count("grants_ended", reason=reason)
        return after


def _parted(grants: Iterable[Grant], holds: Callable[[Grant], bool]) -> tuple[list[Grant], list[Grant]]:
    """Those for which it holds, and the others."""
    parts: tuple[list[Grant], list[Grant]] = [], []
    for grant in grants:
        parts[0 if holds(grant) else 1].append(grant)
    return parts


def _waiting_of(tx: Tx, grants: Sequence[Grant]) -> dict[GrantId, list[Action]]:
    """What waits or may start, by grant, in one look."""
    found: dict[GrantId, list[Action]] = {}
    for action in tx.actions.in_states(_WAITING, grant=None) if grants else ():
        found.setdefault(action.grant_id, []).append(action)
    return found


def _any_decision_due(tx: Tx, now: datetime) -> bool:
    """A look without a write: most sweeps find nothing."""
    waiting = tx.actions.in_states(_WAITING, grant=None)
    return any(now >= r.expires_at for r in tx.requests.pending()) or any(now >= a.expires_at for a in waiting)


def _timely(grant: Grant) -> EndReason:
    return EndReason.NEVER_STARTED if grant.not_after is None else EndReason.EXPIRED


def _void(tx: Tx, action: Action, *, by: str, now: datetime) -> None:
    """An action of a grant that ended before it ran (threats.md F06)."""
    cancelled = actions.advance(action, ActionEvent.CANCEL, note="its grant ended first")
    tx.actions.put(cancelled)
    tx.audit.append(story.of_action("action.cancelled", cancelled, actor=by), now)


def _expire_requests(tx: Tx, now: datetime) -> int:
    late = [r for r in tx.requests.pending() if now >= r.expires_at]
    for request in late:
        expired = advance_request(request, RequestEvent.TIME_OUT, note="nobody decided in time")
        tx.requests.put(expired)
        tx.audit.append(story.of_request("access.expired", expired, actor=""), now)
    return len(late)


def _expire_actions(tx: Tx, now: datetime) -> int:
    late = [a for a in tx.actions.in_states(_WAITING, grant=None) if now >= a.expires_at]
    for action in late:
        note = "nobody decided in time" if action.state is ActionState.AWAITING else "not started in time"
        expired = actions.advance(action, ActionEvent.TIME_OUT, note=note)
        tx.actions.put(expired)
        tx.audit.append(story.of_action("action.expired", expired, actor=""), now)
    return len(late)
