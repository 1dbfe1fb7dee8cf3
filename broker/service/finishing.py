"""What an end still has to undo: ENDING -> EXPIRED or REVOKED, or STUCK after some tries, and tried on.

Some run at once, fairly among targets, each with a limit: a target that hangs holds up the endings of no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from broker.core.errors import Fault
from broker.core.grant import LIVE, OVER, EndReason, Grant, GrantState, ended, retried, stuck
from broker.core.ids import GrantId, TargetId, TenantId
from broker.service import story
from broker.service.lanes import Lanes, Places
from broker.service.live import Scope
from broker.service.ports import Effect, Tx
from broker.service.taking import take_away
from broker.service.world import World

log = structlog.get_logger()
END_GRANT: Final = "end_grant"
"""The outbox effect that closes everything a grant opened."""
TRIES: Final = 3
"""Failures after which a grant is STUCK: said aloud, listed, and tried again all the same."""
FIRST_RETRY: Final = timedelta(seconds=2)
LONGEST_RETRY: Final = timedelta(minutes=5)
FINISH_WITHIN: Final = 10.0
"""Seconds that one try may take."""
CUT_WITHIN: Final = 1.0
"""Seconds in which sessions are cut (I-01, I-02)."""
_PLACES: Final = Places(in_all=32, a_lane=2, for_troubled=16)
_AT_ONCE: Final = 200
"""Effects that one look at the outbox hands in."""
_STILL_OPEN: Final = "sessions are still open"
_TOO_SLOW: Final = "it took too long"
_Piece = tuple[TenantId, tuple[GrantId, ...]]


class Finishing:
    """Finishes what `Ending` began."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lanes: Lanes[_Piece] = Lanes(_PLACES)
        self._handed: set[tuple[TenantId, GrantId]] = set()
        self._changed = asyncio.Event()

    def hand(self, tenant: TenantId, grant: GrantId, target: TargetId) -> None:
        """To be finished when its target's turn comes. Handed twice it is finished once."""
        if (tenant, grant) not in self._handed:
            self._handed.add((tenant, grant))
            self._lanes.put(f"{tenant} {target}", (tenant, (grant,)))
            self._changed.set()

    def hand_all(self, tenant: TenantId, grants: Iterable[Grant]) -> None:
        """As `hand` for grants whose ends were just written: those that opened nothing are finished together."""
        fresh = {grant.id: grant for grant in grants if (tenant, grant.id) not in self._handed}
        if len(fresh) == 1:
            [grant] = fresh.values()
            self.hand(tenant, grant.id, grant.target_id)
        elif fresh:
            self._handed.update((tenant, grant) for grant in fresh)
            self._lanes.put(tenant, (tenant, tuple(fresh)))
            self._changed.set()

    async def hand_due(self, tenant: TenantId) -> int:
        """Hands in what the outbox says is due; returns how many."""
        now = self._world.clock.now()
        due = await self._world.store.read(tenant, lambda tx: self._due(tenant, tx, now))
        for grant in due:
            self.hand(tenant, grant.id, grant.target_id)
        return len(due)

    def _due(self, tenant: TenantId, tx: Tx, now: datetime) -> list[Grant]:
        """Without those that wait for their turn already: the loop waits while hundreds of rows are looked up."""
        effects: list[Effect] = [effect for effect in tx.outbox.due(now, _AT_ONCE) if effect.kind == END_GRANT]
        names = [name for name in (GrantId(effect.subject) for effect in effects) if (tenant, name) not in self._handed]
        return _rows(tx, names)

    async def run(self) -> None:
        """Finishes what is handed in, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                self._start_what_may(group)
                await self._changed.wait()

    async def drain(self) -> None:
        """Finishes what was handed in; returns when nothing is left that this call could do."""
        async with asyncio.TaskGroup() as group:
            while self._lanes:
                self._changed.clear()
                self._start_what_may(group)
                await self._changed.wait()

    def _start_what_may(self, group: asyncio.TaskGroup) -> None:
        while (found := self._lanes.take()) is not None:
            group.create_task(self._one(*found))

    async def _one(self, lane: str, piece: _Piece) -> None:
        tenant, grants = piece
        left: Sequence[Grant] = ()
        failed = True
        try:
            if len(grants) == 1:
                failed = bool(await self.finish(tenant, *grants))
            else:
                left, failed = await self._finish_together(tenant, grants), False
        except Fault as fault:  # the store would not take it: the sweep finds the effect again
            log.warning("revocation.unfinished", tenant=tenant, grant_id=grants[0], of=len(grants), cause=fault.what)
        finally:
            self._lanes.done(lane, failed=failed)
            self._handed.difference_update((tenant, grant) for grant in grants)
            for grant in left:
                self.hand(tenant, grant.id, grant.target_id)
            self._changed.set()

    async def _finish_together(self, tenant: TenantId, grants: Sequence[GrantId]) -> Sequence[Grant]:
        """In one transaction those of which nothing runs and nothing is on a target; returns the others.

        Waits for no session and no target: one that hangs holds up none of these.

        Raises:
            StoreFault: how it went could not be written.
        """
        plain = list[GrantId]()
        for grant in grants:
            cut = await self._world.live.cut(Scope(tenant=tenant, grant=grant), EndReason.EXPIRED, within=0)
            if not cut.sessions:
                plain.append(grant)
        opened = await self._world.store.read(tenant, lambda tx: {of for of in plain if tx.credentials.outside(of)})
        async with asyncio.TaskGroup() as group:
            tries = {of: group.create_task(self._close(tenant, of)) for of in plain if of not in opened}
        closed = [grant for grant, tried in tries.items() if tried.result()]
        if closed:
            await self._world.store.run(tenant, lambda tx: self._finish_each_in(tx, closed))
            for grant in closed:
                self._world.leases.forget(grant)
            self._world.bell.ring_all(tenant)
        done = frozenset(closed)
        others = [grant for grant in grants if grant not in done]
        return await self._world.store.read(tenant, lambda tx: _rows(tx, others)) if others else ()

    async def _close(self, tenant: TenantId, grant: GrantId) -> bool:
        """Closes what a grant pooled; False where that takes longer than it may: it is tried alone."""
        try:
            async with asyncio.timeout(CUT_WITHIN):
                await self._world.targets.end_grant(tenant, grant)
        except (Fault, TimeoutError):
            return False
        return True

    def _finish_each_in(self, tx: Tx, grants: Iterable[GrantId]) -> None:
        for grant in grants:
            self._finish_in(tx, grant, "")

    async def finish(self, tenant: TenantId, grant_id: GrantId) -> str:
        """One try. Idempotent.

        Returns:
            Why it failed, a fixed phrase; empty if nothing of the grant is left.

        Raises:
            StoreFault: how it went could not be written.
        """
        why = await self._take_away(tenant, grant_id)
        if why:
            log.warning("revocation.failed", tenant=tenant, grant_id=grant_id, cause=why)
        await self._world.store.run(tenant, lambda tx: self._finish_in(tx, grant_id, why))
        self._world.leases.forget(grant_id)
        self._world.bell.ring_all(tenant)
        return why

    async def _take_away(self, tenant: TenantId, grant_id: GrantId) -> str:
        scope = Scope(tenant=tenant, grant=grant_id)
        try:
            async with asyncio.timeout(FINISH_WITHIN):
                cut = await self._world.live.cut(scope, EndReason.EXPIRED, within=CUT_WITHIN)
                await take_away(self._world, tenant, grant_id)
        except Fault as fault:
            return fault.what
        except TimeoutError:
            return _TOO_SLOW
        return _STILL_OPEN if cut.late else ""

    def _finish_in(self, tx: Tx, grant_id: GrantId, why: str) -> None:
        now = self._world.clock.now()
        effects = tx.outbox.of(END_GRANT, grant_id)
        grant = tx.grants.get(grant_id)
        if grant is not None and grant.state not in OVER | LIVE:
            tries = 1 + max((effect.attempts for effect in effects), default=0)
            self._put(tx, grant, _after(grant, failed=bool(why), tries=tries), why, now)
        for effect in effects:
            if why:
                tx.outbox.retry(effect, now + self._pause(effect.attempts), why=why, now=now)
            else:
                tx.outbox.done(effect)

    def _put(self, tx: Tx, before: Grant, after: Grant, why: str, now: datetime) -> None:
        is_stuck = after.state is GrantState.STUCK
        if why:
            self._world.meter.count("revocation_failures", stuck="yes" if is_stuck else "no")
        if after.state is before.state:
            return
        tx.grants.put(after)
        tx.audit.append(story.of_grant(name_of_end(after), after, actor=after.ended_by), now)
        if is_stuck:
            log.error("grant.stuck", tenant=after.tenant, grant_id=after.id, target=after.target_id, cause=why)

    def _pause(self, attempts: int) -> timedelta:
        """Longer each time, and never the same for two: what failed together does not come back together."""
        jitter = 1 + self._world.entropy.token(1)[0] / 1024
        pause: timedelta = min(FIRST_RETRY * (1 << min(attempts, 16)), LONGEST_RETRY)
        return pause * jitter


def _rows(tx: Tx, grants: Iterable[GrantId]) -> list[Grant]:
    return [row for row in map(tx.grants.get, grants) if row is not None]


def name_of_end(grant: Grant) -> str:
    """The audit event of a grant on its way out."""
    return {
        GrantState.ENDING: "grant.ending",
        GrantState.EXPIRED: "grant.expired",
        GrantState.REVOKED: "grant.revoked",
        GrantState.STUCK: "grant.stuck",
    }[grant.state]


def _after(grant: Grant, *, failed: bool, tries: int) -> Grant:
    """STUCK stays STUCK while it fails, ENDING becomes it at the last of the first tries."""
    if not failed:
        return ended(retried(grant) if grant.state is GrantState.STUCK else grant)
    return stuck(grant) if grant.state is GrantState.ENDING and tries >= TRIES else grant
