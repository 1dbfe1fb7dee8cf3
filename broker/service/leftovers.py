"""What is on a target and should not be. Found by asking the targets themselves, and ended.

A broker made it and died before it said so, or a restored database knows nothing of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from datetime import datetime
from typing import Final

import structlog

from broker.core.credential import OUTSIDE, CredentialState
from broker.core.errors import Fault
from broker.core.events import AuditEvent
from broker.core.identity import Target
from broker.core.ids import CredentialId, TenantId
from broker.service.ports import CredentialIssuer, Tx
from broker.service.taking import end_credential, outside
from broker.service.world import World

log = structlog.get_logger()
_AT_ONCE: Final = 8
"""Targets that are asked side by side."""


class LeftoversService:
    """Looks behind the rows. Never ends what a live grant was given."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def sweep(self, tenant: TenantId, *, planned_before: datetime) -> int:
        """Ends what was planned before a moment and never given to anybody, and what no row knows.

        A target that cannot be reached is told to the log and asked again next time: what is there ends by itself with
        the lease that it was made for.

        Returns:
            How many were ended.
        """
        if not self._world.issuers:
            return 0
        found = await self._world.store.read(tenant, lambda tx: self._seen(tx, planned_before))
        places = asyncio.Semaphore(_AT_ONCE)

        async def bounded(target: Target, work: Awaitable[int]) -> int:
            async with places:
                return await _tried(target, work)

        async with asyncio.TaskGroup() as group:
            tries = [group.create_task(bounded(target, self._end_unheard(target, one))) for target, one in found[0]]
        async with asyncio.TaskGroup() as group:
            tries += [group.create_task(bounded(target, self._end_unknown(target))) for target in found[1]]
        return sum(task.result() for task in tries)

    def _seen(self, tx: Tx, planned_before: datetime) -> tuple[Sequence[tuple[Target, CredentialId]], Sequence[Target]]:
        unheard = [
            (one.target, one.credential.id)
            for one in outside(tx, None)
            if one.credential.state is CredentialState.PLANNED and one.credential.issued_at <= planned_before
        ]
        return unheard, [target for target in tx.targets.all() if target.kind in self._world.issuers]

    async def _end_unheard(self, target: Target, credential: CredentialId) -> int:
        """PLANNED and nobody works on it any more: whoever asked never had an answer."""
        await end_credential(self._world, target, credential)
        return 1

    async def _end_unknown(self, target: Target) -> int:
        issuer = self._world.issuers[target.kind]
        there = await issuer.leftovers(target)
        unknown = await self._world.store.read(target.tenant, lambda tx: [one for one in there if _unknown(tx, one)])
        for credential in unknown:
            await self._end_one(issuer, target, credential)
        return len(unknown)

    async def _end_one(self, issuer: CredentialIssuer, target: Target, credential: CredentialId) -> None:
        log.warning("credential.leftover", credential=credential, target=target.id)
        await issuer.end(target, credential)
        event = AuditEvent(
            tenant=target.tenant,
            name="credential.leftover_ended",
            facts={"credential": credential, "target": target.id, "kind": target.kind},
        )
        now = self._world.clock.now()
        await self._world.store.run(target.tenant, lambda tx: tx.audit.append(event, now))
        self._world.meter.count("credential_leftovers", kind=target.kind)


def _unknown(tx: Tx, credential: CredentialId) -> bool:
    row = tx.credentials.get(credential)
    return row is None or row.state not in OUTSIDE


async def _tried(target: Target, work: Awaitable[int]) -> int:
    try:
        return await work
    except Fault as fault:
        log.warning("credential.leftovers_unknown", target=target.id, cause=fault.what)
        return 0
