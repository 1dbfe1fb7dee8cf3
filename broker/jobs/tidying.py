"""Drops, once an hour, what was kept only to be used once. A failure is logged and tried again an hour later."""

from __future__ import annotations

import asyncio

import structlog

from broker.core.errors import Fault
from broker.service.forgetting import Forgetting
from broker.service.ports import Store

log = structlog.get_logger()
EVERY = 3600.0
"""Seconds."""


class Tidying:
    """The hourly loop."""

    def __init__(self, *, store: Store, forgetting: Forgetting) -> None:
        self._store, self._forgetting = store, forgetting

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            await self.step()

    async def step(self) -> None:
        """One pass over every tenant."""
        try:
            for tenant in await self._store.tenants():
                dropped = await self._forgetting.run(tenant)
                log.info("rows.forgotten", tenant=tenant, rows=dropped)
        except Fault as fault:
            log.warning("tidying.failed", cause=fault.what)
