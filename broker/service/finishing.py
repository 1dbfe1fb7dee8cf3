"""What an end still has to undo: ENDING -> EXPIRED or REVOKED, or STUCK after some tries, and tried on.

Some run at once, fairly among targets, each with a limit: a target that hangs holds up the endings of no other.
"""

from __future__ import annotations

import asyncio
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
_Piece = tuple[TenantId, GrantId]


class Finishing:
    """Finishes what `Ending` began."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lanes: Lanes[_Piece] = Lanes(_PLACES)
        self._handed: set[_Piece] = set()
        self._changed = asyncio.Event()

    def hand(self, tenant: TenantId, grant: GrantId, target: TargetId) -> None:
        """To be finished when its target's turn comes. Handed twice it is finished once."""
        if (tenant, grant) not in self._handed:
            self._handed.add((tenant, grant))
            self._lanes.put(f"{tenant} {target}", (tenant, grant))
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
        return [grant for grant in map(tx.grants.get, names) if grant is not None]

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
        failed = True
        try:
            failed = bool(await self.finish(*piece))
        except Fault as fault:  # the store would not take it: the sweep finds the effect again
            log.warning("revocation.unfinished", tenant=piece[0], grant_id=piece[1], cause=fault.what)
        finally:
            self._lanes.done(lane, failed=failed)
            self._handed.discard(piece)
            self._changed.set()

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
