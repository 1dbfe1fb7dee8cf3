"""Drops, once an hour, what was kept only to be used once. A failure is logged and tried again an hour later."""

from __future__ import annotations

import asyncio

import structlog

from broker.core.errors import Fault
from broker.core.ids import TenantId
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
            tenants = await self._store.tenants()
        except Fault as fault:
            log.warning("tidying.failed", cause=fault.what)
            return
        for tenant in tenants:
            await self._tidy(tenant)

    async def _tidy(self, tenant: TenantId) -> None:
        try:
            dropped = await self._forgetting.run(tenant)
        except Fault as fault:
            log.warning("tidying.failed", tenant=tenant, cause=fault.what)
            return
        log.info("rows.forgotten", tenant=tenant, rows=dropped)
