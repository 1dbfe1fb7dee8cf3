"""When to look for endings: one heap of moments for the whole process. The store stays the truth.

This only says when to look.
"""

from __future__ import annotations

import asyncio
import heapq
from datetime import datetime

from broker.core.ids import TenantId


class Ends:
    """Moments at which something of a tenant ends. Kept by services, drained by the expiry job."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, TenantId]] = []
        self._sooner = asyncio.Event()

    def expect(self, tenant: TenantId, at: datetime) -> None:
        """Something of `tenant` ends at `at`. May be said twice, and before the commit: looking in vain is harmless."""
        heapq.heappush(self._heap, (at, tenant))
        if self._heap[0][0] == at:
            self._sooner.set()

    async def sleep(self, now: datetime, longest: float) -> None:
        """Until the next moment, a sooner one that is said meanwhile, or `longest` seconds."""
        wait = longest
        if self._heap:
            wait = min(longest, max(0.0, (self._heap[0][0] - now).total_seconds()))
        self._sooner.clear()
        try:
            async with asyncio.timeout(wait):
                await self._sooner.wait()
        except TimeoutError:
            return

    def due(self, now: datetime) -> list[TenantId]:
        """The tenants of every moment that has come, each once; they are taken out."""
        found: dict[TenantId, None] = {}
        while self._heap and self._heap[0][0] <= now:
            found[heapq.heappop(self._heap)[1]] = None
        return list(found)
