"""Dropping what was kept only to be used once.

Spent nonces, old idempotency keys, join tokens nobody redeemed (I-60).
"""

from __future__ import annotations

from datetime import timedelta

from broker.core.ids import TenantId
from broker.service.ports import Tx
from broker.service.world import World

IDEMPOTENCY_FOR = timedelta(hours=24)
"""How long a retried call still finds what it made."""


class Forgetting:
    """One pass over a tenant. Idempotent; nothing that still counts is touched."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def run(self, tenant: TenantId) -> int:
        """Returns how many rows were dropped."""
        now = self._world.clock.now()

        def unit(tx: Tx) -> int:
            keys = tx.idempotency.forget(now - IDEMPOTENCY_FOR)
            return keys + tx.seen.forget(now) + tx.identities.forget_joins(now)

        return await self._world.store.run(tenant, unit)
