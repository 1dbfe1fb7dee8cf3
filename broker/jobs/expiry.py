"""Ends grants on time: sleeps until the next end, cuts in memory what has come, then writes it, then has it finished.

Cutting, writing and finishing go on side by side: a store that is slow, or fails, delays no cut.

A sweep every few seconds is the second pair of eyes (I-01, I-02). One failing tenant never stops the endings of others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final

import structlog

from broker.core.clock import Clock
from broker.core.errors import Fault
from broker.core.grant import Grant
from broker.core.ids import GrantId, TenantId
from broker.service.ending import SLICE, Ending
from broker.service.ends import Ends, Lapse
from broker.service.leases import Leases
from broker.service.ports import Meter, Store

log = structlog.get_logger()
SWEEP_EVERY = 2.0
"""Seconds between two looks at every tenant."""
LONGEST_SLEEP: Final = 0.5
"""Seconds after which the clocks are looked at again: a wall clock that was set ahead ends what it passed (I-05)."""
AT_ONCE: Final = 500
"""Ends that are cut before others of this process get a turn."""
SIDE_BY_SIDE: Final = 16
"""Slices of ends that are on their way to the store at the same time: they share what making them durable costs.

The store goes on with the next of them where the loop has no turn yet. A tenth of a second's work for it.
"""
AHEAD: Final = 1_024
"""Ends that are written, if so many wait, before the first of them is taken away on its target."""
HELD_S: Final = 0.25
"""For which one that is written waits with being taken away while others are about to end."""

WriteLate = Callable[[], Awaitable[None]]
"""Writes what the store would not take when it happened; raises Fault if it still does not."""


class Expiry:
    """The expiry loop."""

    def __init__(
        self,
        *,
        store: Store,
        ending: Ending,
        late: Sequence[WriteLate],
        ends: Ends,
        leases: Leases,
        clock: Clock,
        meter: Meter,
    ) -> None:
        self._store, self._ending, self._late, self._ends = store, ending, late, ends
        self._leases, self._clock, self._meter = leases, clock, meter
        self._next_sweep = clock.monotonic()
        self._struck: dict[TenantId, list[GrantId]] = {}
        """Cut, and not written yet."""
        self._written: list[tuple[TenantId, Sequence[Grant]]] = []
        """Not handed over yet: nothing of them is undone before what else has come is written."""
        self._undecided: dict[TenantId, None] = {}
        """Tenants where a decision ran out."""
        self._held_since: float | None = None
        """Monotonic: when the oldest of them was written."""
        self._to_write = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._strike_on())
            group.create_task(self._write_on())
            group.create_task(self._sweep_on())
            group.create_task(self._ending.finishing.run())

    async def step(self) -> None:
        """All that is due now, one after another."""
        await self.strike()
        await self.write()
        if self._clock.monotonic() >= self._next_sweep:
            self._next_sweep = self._clock.monotonic() + SWEEP_EVERY
            await self.sweep()
        await self._ending.finishing.drain()

    # ---- cutting: memory alone
    async def _strike_on(self) -> None:
        await self._ends.watch(self._look, lambda: self._leases.now(self._clock), LONGEST_SLEEP)

    def _look(self) -> None:
        """Cuts what has come, a slice of it: called by the loop's timer, and at once again where more has come."""
        if lapses := self._ends.due(self._leases.now(self._clock), AT_ONCE):
            self._strike(lapses)
        if self._written:  # what came ahead of them may have ended otherwise: it is calm now, and nobody else says so
            self._to_write.set()

    async def strike(self) -> None:
        """Cuts what has come; others get a turn between two slices."""
        while lapses := self._ends.due(self._leases.now(self._clock), AT_ONCE):
            self._strike(lapses)
            await asyncio.sleep(0)

    def _strike(self, lapses: Iterable[Lapse]) -> None:
        by_tenant: dict[TenantId, list[GrantId]] = {}
        for lapse in lapses:
            if lapse.grant is None:
                self._undecided[lapse.tenant] = None
                continue
            by_tenant.setdefault(lapse.tenant, []).append(lapse.grant)
            self._meter.observe("revocation_lateness_seconds", lapse.late_s)
        for tenant, grants in by_tenant.items():
            self._ending.strike(tenant, grants)
            self._struck.setdefault(tenant, []).extend(grants)
        self._to_write.set()

    # ---- writing
    async def _write_on(self) -> None:
        while True:
            await self._to_write.wait()
            self._to_write.clear()
            await self.write()

    async def write(self) -> None:
        """Writes what was cut, tenants in turn. What the store will not take is left to the sweep."""
        while self._struck or self._undecided:
            for tenant in list(self._undecided):
                del self._undecided[tenant]
                await self._for(tenant, self._ending.lapse_decisions)
            async with asyncio.TaskGroup() as group:
                for tenant, slice_ in self._next_slices():
                    group.create_task(self._for(tenant, partial(self._write_slice, slice_)))
            self._hand_over_in_time()
        self._hand_over_in_time()

    def _next_slices(self) -> list[tuple[TenantId, list[GrantId]]]:
        """At least one of each tenant, and more of a few."""
        found: list[tuple[TenantId, list[GrantId]]] = []
        while self._struck and len(found) < SIDE_BY_SIDE:
            for tenant, grants in list(self._struck.items()):
                found.append((tenant, grants[:SLICE]))
                self._struck[tenant] = grants[SLICE:]
                if not self._struck[tenant]:
                    del self._struck[tenant]
        return found

    async def _write_slice(self, grants: Sequence[GrantId], tenant: TenantId) -> None:
        self._written.append((tenant, await self._ending.write_lapsed(tenant, grants)))

    def _hand_over_in_time(self) -> None:
        """Once all is written and no end is about to come; or some have waited, whatever else comes; or many."""
        if not self._written:
            return
        now = self._clock.monotonic()
        self._held_since = now if self._held_since is None else self._held_since
        waited = now - self._held_since >= HELD_S
        many = sum(len(ended) for _, ended in self._written) >= AHEAD
        if many or waited or (not self._struck and self._ends.calm):
            self._hand_over()

    def _hand_over(self) -> None:
        self._held_since = None
        written, self._written = self._written, []
        for tenant, ended in written:
            self._ending.hand_over(tenant, ended)

    # ---- looking again
    async def _sweep_on(self) -> None:
        while True:
            await self.sweep()
            await asyncio.sleep(SWEEP_EVERY)

    async def sweep(self) -> None:
        """Looks into the store for whatever is over, in every tenant, and for what has to be finished again."""
        if not self._struck:
            self._hand_over()
        for tenant in await self._every_tenant():
            await self._for(tenant, self._ending.lapse_all)
            await self._for(tenant, self._ending.finishing.hand_due)
        for write in self._late:
            try:
                await write()
            except Fault as fault:
                log.warning("expiry.still_unwritten", cause=fault.what)

    async def _every_tenant(self) -> list[TenantId]:
        try:
            return list(await self._store.tenants())
        except Fault as fault:
            log.warning("expiry.store_failed", cause=fault.what)
            return []

    async def _for(self, tenant: TenantId, work: Callable[[TenantId], Awaitable[object]]) -> None:
        try:
            await work(tenant)
        except Fault as fault:
            log.exception("expiry.failed", tenant=tenant, cause=fault.what)
