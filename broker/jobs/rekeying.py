"""Moves what older keys seal to newer ones, a tenant after the other. A failure is logged and tried again.

Every few seconds it also looks whether the root key was changed in its place, so that nobody has to restart a broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from broker.core.errors import Fault
from broker.core.ids import SYSTEM_TENANT, TenantId
from broker.service.ports import Meter, Store
from broker.service.vault import VaultService

log = structlog.get_logger()
EVERY = 2.0
"""Seconds."""


class Rekeying:
    """The loop over one `VaultService.tend` a tenant."""

    def __init__(self, *, look_again: Callable[[], None], store: Store, vault: VaultService, meter: Meter) -> None:
        """`look_again` reads the root keys from their places once more."""
        self._look_again, self._store, self._vault, self._meter = look_again, store, vault, meter

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.step()
            await asyncio.sleep(EVERY)

    async def step(self) -> None:
        """One pass over every tenant."""
        await asyncio.to_thread(self._look_again)
        try:
            tenants = [SYSTEM_TENANT, *await self._store.tenants()]
        except Fault as fault:
            log.warning("rekeying.failed", cause=fault.what)
            return
        behind = sum([await self._tend(tenant) for tenant in tenants])
        self._meter.gauge("vault_keys_behind", behind)

    async def _tend(self, tenant: TenantId) -> int:
        """Older tenant keys that are still there afterwards; 1 where it could not be found out."""
        try:
            return await self._vault.tend(tenant)
        except Fault as fault:
            log.warning("rekeying.failed", tenant=tenant, cause=fault.what)
            return 1
