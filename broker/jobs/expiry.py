"""Ends grants on time: sleeps until the next end, looks, ends.

A sweep every few seconds is the second pair of eyes (I-01, I-02).

One failing tenant, or a store that fails, never stops the endings of the others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog

from broker.core.clock import Clock
from broker.core.errors import Fault
from broker.core.ids import TenantId
from broker.service.ending import Ending
from broker.service.ends import Ends
from broker.service.ports import Meter, Store

log = structlog.get_logger()
SWEEP_EVERY = 2.0
"""Seconds between two looks at every tenant."""


WriteLate = Callable[[], Awaitable[None]]
"""Writes what the store would not take when it happened; raises Fault if it still does not."""


class Expiry:
    """The expiry loop."""

    def __init__(
        self, *, store: Store, ending: Ending, late: Sequence[WriteLate], ends: Ends, clock: Clock, meter: Meter
    ) -> None:
        self._store, self._ending, self._late, self._ends = store, ending, late, ends
        self._clock, self._meter = clock, meter
        self._next_sweep = clock.monotonic()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._ends.sleep(self._clock.now(), SWEEP_EVERY)
            await self.step()

    async def step(self) -> None:
        """Ends what is due now."""
        tenants = self._ends.due(self._clock.now())
        if self._clock.monotonic() >= self._next_sweep:
            self._next_sweep = self._clock.monotonic() + SWEEP_EVERY
            tenants = list(dict.fromkeys([*tenants, *await self._every_tenant()]))
            await self._write_late()
        for tenant in tenants:
            await self._end(tenant)

    async def _write_late(self) -> None:
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

    async def _end(self, tenant: TenantId) -> None:
        try:
            done = await self._ending.sweep(tenant)
            await self._ending.retry_due(tenant)
        except Fault as fault:
            log.exception("expiry.failed", tenant=tenant, cause=fault.what)
            return
        now = self._clock.now()
        for grant in done.grants:
            self._meter.observe("revocation_lateness_seconds", (now - grant.deadline()).total_seconds())
