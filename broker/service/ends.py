"""When to look for endings: one heap of moments for the whole process. The store stays the truth.

This only says when to look.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
from datetime import datetime

from broker.core.ids import TenantId


class Ends:
    """Moments at which something of a tenant ends. Said by services from any thread, drained by the expiry job."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, TenantId]] = []
        self._lock = threading.Lock()
        self._sooner = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def expect(self, tenant: TenantId, at: datetime) -> None:
        """Something of `tenant` ends at `at`. May be said twice, and before the commit: looking in vain is harmless."""
        with self._lock:
            heapq.heappush(self._heap, (at, tenant))
            soonest = self._heap[0][0] == at
        if soonest and self._loop is not None:
            self._loop.call_soon_threadsafe(self._sooner.set)

    async def sleep(self, now: datetime, longest: float) -> None:
        """Until the next moment, a sooner one that is said meanwhile, or `longest` seconds."""
        self._loop = asyncio.get_running_loop()
        self._sooner.clear()
        with self._lock:
            next_at = self._heap[0][0] if self._heap else None
        wait = longest if next_at is None else min(longest, max(0.0, (next_at - now).total_seconds()))
        try:
            async with asyncio.timeout(wait):
                await self._sooner.wait()
        except TimeoutError:
            return

    def due(self, now: datetime) -> list[TenantId]:
        """The tenants of every moment that has come, each once; they are taken out."""
        found: dict[TenantId, None] = {}
        with self._lock:
            while self._heap and self._heap[0][0] <= now:
                found[heapq.heappop(self._heap)[1]] = None
        return list(found)
