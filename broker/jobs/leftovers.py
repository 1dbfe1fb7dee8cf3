"""Looks every minute for what is on targets and should not be. One failing tenant never stops the others."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

import structlog

from broker.core.clock import Clock
from broker.core.errors import Fault
from broker.core.ids import TenantId
from broker.service.leftovers import LeftoversService
from broker.service.ports import Store

log = structlog.get_logger()
EVERY: Final = 60.0
"""Seconds."""
WITHIN: Final = 300.0
"""Seconds that one tenant's targets may take in all."""
UNHEARD_FOR: Final = timedelta(minutes=2)
"""Longer than any making takes: what is still only planned then was given up."""


class Leftovers:
    """The loop."""

    def __init__(self, *, store: Store, leftovers: LeftoversService, clock: Clock) -> None:
        self._store, self._leftovers, self._clock = store, leftovers, clock

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            await self.step()

    async def step(self) -> None:
        """One pass over every tenant."""
        try:
            tenants = await self._store.tenants()
        except Fault as fault:
            log.warning("leftovers.failed", cause=fault.what)
            return
        # side by side: the targets of one that hang hold up no other's
        async with asyncio.TaskGroup() as group:
            for tenant in tenants:
                group.create_task(self._sweep(tenant))

    async def _sweep(self, tenant: TenantId) -> None:
        try:
            async with asyncio.timeout(WITHIN):
                await self._leftovers.sweep(tenant, planned_before=self._clock.now() - UNHEARD_FOR)
        except Fault as fault:
            log.warning("leftovers.failed", tenant=tenant, cause=fault.what)
        except TimeoutError:
            log.warning("leftovers.too_slow", tenant=tenant)
