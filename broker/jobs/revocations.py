"""Keeps the targets' revocation lists: woken by whatever ends grants, and every few seconds anyway."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from broker.core.errors import Fault
from broker.core.ids import TenantId
from broker.service.ports import Store
from broker.service.revocations import TOPIC, Revocations
from broker.service.wake import Bell, heard

log = structlog.get_logger()
EVERY: Final = 5.0
"""Seconds: a ring may have been in another broker."""
TENANTS_EVERY: Final = 10.0


class KeepingLists:
    """A loop for each tenant: one whose targets are slow holds up no other."""

    def __init__(self, *, store: Store, revocations: Revocations, bell: Bell) -> None:
        self._store, self._revocations, self._bell = store, revocations, bell

    async def run(self) -> None:
        """Until cancelled."""
        known: set[TenantId] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                for tenant in await self._new(known):
                    known.add(tenant)
                    group.create_task(self._tend(tenant, group))
                await asyncio.sleep(TENANTS_EVERY)

    async def _new(self, known: set[TenantId]) -> list[TenantId]:
        try:
            return [tenant for tenant in await self._store.tenants() if tenant not in known]
        except Fault as fault:
            log.warning("revocation_list.failed", cause=fault.what)
            return []

    async def _tend(self, tenant: TenantId, group: asyncio.TaskGroup) -> None:
        with self._bell.listen(tenant, TOPIC) as rung:
            while True:
                await heard(rung, EVERY)
                try:
                    await self._revocations.tend(tenant, group)
                except Fault as fault:
                    log.warning("revocation_list.failed", tenant=tenant, cause=fault.what)
