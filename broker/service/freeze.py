"""The kill switch: cut first, in memory; then kept outside the store, then written, so that it survives a restart.

Lifting it is harder than pulling it (I-61). What pulls it without the store is broker.service.switch.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from broker.core.errors import StoreFault
from broker.core.events import AuditEvent
from broker.core.grant import EndReason
from broker.core.identity import Caller, IdentityStatus
from broker.core.ids import TenantId, is_id
from broker.core.request import checked_text
from broker.core.roles import Permission, holds
from broker.service import lookup, story
from broker.service.ending import Ending
from broker.service.identify import caller_of
from broker.service.late import every_one
from broker.service.live import Cut, Scope
from broker.service.ports import Choice, Freeze, FreezeOrder, Tx
from broker.service.slices import end_chosen
from broker.service.stepup import Change, signed_by
from broker.service.world import World

log = structlog.get_logger()
MAX_REASON_BYTES = 512
WRITTEN_WITHIN = timedelta(seconds=1)
"""How long whoever freezes waits for the store. What it has not taken by then is in the spool."""
EVERYTHING = Choice(identities=None, targets=None, ticket=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What a pull of the switch did."""

    sessions: int
    late: int
    """Of those, how many were not closed within a second."""
    recorded: bool
    """Whether the store has it; else it stands in the spool and is written as soon as the store takes it."""


class FreezeService:
    """Freeze, Unfreeze; what stands, and what is still to be written."""

    def __init__(self, world: World, ending: Ending) -> None:
        self._world, self._ending = world, ending
        self._orders: dict[TenantId | None, FreezeOrder] = {}
        """Pulled, and not in the store yet."""
        self._turn = asyncio.Lock()
        self.pending = asyncio.Event()
        """Set when there is something to write."""

    async def freeze(self, caller: Caller, reason: str) -> Pulled:
        """Cuts every session of the tenant, ends every grant, issues nothing more. Repeating it is harmless.

        Raises:
            StoreFault: everything was cut and this process issues nothing, but neither spool nor store keeps it: it is
                written as soon as one of them can.
        """
        checked_text("reason", reason, MAX_REASON_BYTES)
        order = FreezeOrder(
            tenant=caller.tenant, by=caller.identity, name=caller.name, reason=reason, at=self._world.clock.now()
        )
        self.close(order)
        async with asyncio.TaskGroup() as group:
            cutting = group.create_task(self.cut(order))
            keeping = group.create_task(asyncio.to_thread(self.keep, order))
        await self._write_soon(order)
        if not keeping.result() and not self.is_recorded(order):
            raise StoreFault("the freeze could not be written")
        cut = cutting.result()
        return Pulled(sessions=cut.sessions, late=len(cut.late), recorded=self.is_recorded(order))

    # ---- the steps; the first two from any thread --------------------------------------------------------------------
    def close(self, order: FreezeOrder) -> None:
        """From here on nothing is issued, decided or started."""
        # the first one's words, and a new object each time: whoever is lifting it sees that it was pulled again
        self._orders[order.tenant] = replace(self._orders.get(order.tenant, order))
        self._world.live.close(order.tenant, order.told())

    def keep(self, order: FreezeOrder) -> bool:
        """Durable outside the store; False where even that fails: it still holds while this process lives."""
        try:
            self._world.freezes.put(order)
        except StoreFault as fault:
            log.error("freeze.unspooled", tenant=order.tenant, cause=fault.what)  # noqa: TRY400
            return False
        return True

    async def cut(self, order: FreezeOrder) -> Cut:
        """Cuts what runs, and has the order written; waits at most a second for the sessions, for nothing else."""
        self.close(order)  # again: a look at the store may have passed in between
        self.pending.set()
        self._world.meter.count("freezes")
        return await self._ending.cut_all(Scope(tenant=order.tenant), EndReason.FROZEN, order.reason)

    def is_recorded(self, order: FreezeOrder) -> bool:
        """Whether nothing of it is left to write."""
        return order.tenant not in self._orders

    async def _write_soon(self, order: FreezeOrder) -> None:
        try:
            async with asyncio.timeout(WRITTEN_WITHIN.total_seconds()):
                await self.write_late()
                await self._ending.finishing.drain()
        except (StoreFault, TimeoutError):
            log.warning("freeze.unwritten", tenant=order.tenant)

    async def write_late(self) -> None:
        """Writes what was pulled and is not in the store. Raises StoreFault while that does not take it."""
        async with self._turn:
            await every_one(self._write_order(tenant, order) for tenant, order in list(self._orders.items()))

    async def _write_order(self, tenant: TenantId | None, order: FreezeOrder) -> None:
        tenants = await self._world.store.tenants() if tenant is None else [tenant]
        await every_one(self._write(each, order) for each in tenants)
        if tenant is None:
            self._world.live.reopen(None)  # each tenant is closed for itself by now
        await asyncio.to_thread(self._world.freezes.drop, tenant)
        if self._orders.get(tenant) is order:
            del self._orders[tenant]

    async def _write(self, tenant: TenantId, order: FreezeOrder) -> None:
        now = self._world.clock.now()

        def unit(tx: Tx) -> None:
            if tx.freezes.active() is None:
                tx.freezes.put(Freeze(tenant=tenant, frozen_by=order.by, reason=order.reason, at=order.at))
                tx.audit.append(_frozen(tenant, order), now)

        await self._world.store.run(tenant, unit)
        self._world.live.close(tenant, order.told())
        await end_chosen(
            self._world, self._ending, tenant, EVERYTHING, EndReason.FROZEN, by=_person(order), words=order.reason
        )
        await self._ending.finishing.hand_due(tenant)  # and waits for none of it: another tenant's freeze may be next
        self._world.bell.ring_all(tenant)

    # ---- lifting -----------------------------------------------------------------------------------------------------
    async def unfreeze(self, caller: Caller, reason: str, change: Change) -> None:
        """Lifts it; a second person signs where the tenant has two who could. What was ended stays ended."""
        checked_text("reason", reason, MAX_REASON_BYTES)
        now = self._world.clock.now()

        def unit(tx: Tx) -> None:
            signed_by(tx, caller, change, permission=Permission.UNFREEZE, second=True, now=now)
            if tx.freezes.active() is not None:
                tx.freezes.lift()
                tx.audit.append(_lifted(caller, reason), now)

        before = self._orders.get(caller.tenant)
        await self._world.store.run(caller.tenant, unit)
        if self._orders.get(caller.tenant) is not before:
            return  # pulled again while it was being lifted: that one stands
        await asyncio.to_thread(self._world.freezes.drop, caller.tenant)
        again = self._orders.get(caller.tenant)
        if again is not None and again is not before:
            await asyncio.to_thread(self.keep, again)  # its file may have gone with the old one's
            return
        self._orders.pop(caller.tenant, None)
        self._world.live.reopen(caller.tenant)

    # ---- what stands -------------------------------------------------------------------------------------------------
    async def restore_spooled(self) -> None:
        """At start, before the store is asked: what was pulled and never written holds, and will be written."""
        for order in await asyncio.to_thread(self._world.freezes.all):
            self.close(order)
            self.pending.set()

    async def restore(self, tenant: TenantId) -> None:
        """At start: a freeze that stands in the store holds in this process too; and who may pull the switch."""
        standing = await self._look(tenant)
        if standing is not None:
            self._world.live.close(tenant, standing.told())

    async def look(self) -> None:
        """What other brokers over the same store did, and who may pull the switch now. Raises StoreFault."""
        tenants = await self._world.store.tenants()
        self._world.roster.keep_only(tenants)
        for tenant in tenants:
            standing = await self._look(tenant)
            if tenant in self._orders or None in self._orders:
                continue
            if standing is None:
                self._world.live.reopen(tenant)
            elif not self._world.live.is_closed(tenant):
                self._world.live.close(tenant, standing.told())
                await self._ending.cut_all(Scope(tenant=tenant), EndReason.FROZEN, standing.reason)

    async def _look(self, tenant: TenantId) -> FreezeOrder | None:
        def unit(tx: Tx) -> tuple[FreezeOrder | None, list[Caller]]:
            people = [row for row in tx.identities.people() if row.status is IdentityStatus.ACTIVE]
            return lookup.standing_freeze(tx), [caller_of(row) for row in people if holds(row.role, Permission.FREEZE)]

        standing, able = await self._world.store.read(tenant, unit)
        self._world.roster.put(tenant, able)
        return standing


def _person(order: FreezeOrder) -> str:
    """Who pulled it, as the log knows people; empty for whoever did on the host."""
    return order.by if is_id(order.by) else ""


def _frozen(tenant: TenantId, order: FreezeOrder) -> AuditEvent:
    person = _person(order)
    return AuditEvent(
        tenant=tenant,
        name="system.frozen",
        actor=person,
        facts={"door": "grpc" if person else "host"},
        personal=story.personal(person or tenant, reason=order.reason),
    )


def _lifted(caller: Caller, reason: str) -> AuditEvent:
    return AuditEvent(
        tenant=caller.tenant,
        name="system.unfrozen",
        actor=caller.identity,
        personal=story.personal(caller.identity, reason=reason),
    )
