"""The kill switch: cut first, in memory; then written, so that it survives a restart.

Lifting it is harder than pulling it (I-61).
"""

from __future__ import annotations

import structlog

from broker.core.errors import StoreFault
from broker.core.events import AuditEvent
from broker.core.grant import EndReason
from broker.core.identity import Caller
from broker.core.ids import TenantId
from broker.core.request import checked_text
from broker.core.roles import Permission
from broker.service import story
from broker.service.ending import Ending
from broker.service.ports import Freeze, Tx
from broker.service.stepup import Change, signed_by
from broker.service.world import World

log = structlog.get_logger()
MAX_REASON_BYTES = 512


class FreezeService:
    """Freeze, Unfreeze."""

    def __init__(self, world: World, ending: Ending) -> None:
        self._world, self._ending = world, ending
        self._unwritten: dict[TenantId, tuple[Caller, str]] = {}

    async def freeze(self, caller: Caller, reason: str) -> int:
        """Cuts every session of the tenant, ends every grant, issues nothing more. Repeating it is harmless.

        Returns:
            How many sessions were cut.

        Raises:
            StoreFault: everything was cut and this process issues nothing, but it is not written down yet: it will be
            as soon as the store takes it.
        """
        checked_text("reason", reason, MAX_REASON_BYTES)
        tenant = caller.tenant
        self._world.live.close(tenant)
        cut = await self._ending.freeze_cut(tenant, reason)
        self._unwritten[tenant] = (caller, reason)
        try:
            await self._write(tenant)
        except StoreFault:
            log.exception("freeze.unwritten", tenant=tenant)
            raise
        return cut

    async def write_late(self) -> None:
        """Writes the freezes that the store would not take when they happened: a restart must not lift them."""
        for tenant in list(self._unwritten):
            await self._write(tenant)

    async def _write(self, tenant: TenantId) -> None:
        held = self._unwritten.get(tenant)
        if held is None:
            return  # written, or lifted, while another one was
        caller, reason = held
        now = self._world.clock.now()

        def unit(tx: Tx) -> None:
            if tx.freezes.active() is None:
                tx.freezes.put(Freeze(tenant=tenant, frozen_by=caller.identity, reason=reason, at=now))
                tx.audit.append(_told("system.frozen", caller, reason), now)
            self._ending.end_all_in(tx, EndReason.FROZEN, by=caller.identity, only=None)

        await self._world.store.run(tenant, unit)
        self._unwritten.pop(tenant, None)
        await self._ending.retry_due(tenant)
        self._world.bell.ring_all(tenant)

    async def unfreeze(self, caller: Caller, reason: str, change: Change) -> None:
        """Lifts it; a second person signs where the tenant has two who could. What was ended stays ended."""
        checked_text("reason", reason, MAX_REASON_BYTES)
        now = self._world.clock.now()

        def unit(tx: Tx) -> None:
            signed_by(tx, caller, change, permission=Permission.UNFREEZE, second=True, now=now)
            if tx.freezes.active() is not None:
                tx.freezes.lift()
                tx.audit.append(_told("system.unfrozen", caller, reason), now)

        await self._world.store.run(caller.tenant, unit)
        self._unwritten.pop(caller.tenant, None)
        self._world.live.reopen(caller.tenant)

    async def restore(self, tenant: TenantId) -> None:
        """At start: a freeze that stands in the store holds in this process too."""
        if await self._world.store.read(tenant, lambda tx: tx.freezes.active()) is not None:
            self._world.live.close(tenant)


def _told(name: str, caller: Caller, reason: str) -> AuditEvent:
    return AuditEvent(
        tenant=caller.tenant, name=name, actor=caller.identity, personal=story.personal(caller.identity, reason=reason)
    )
