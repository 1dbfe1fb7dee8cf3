"""Whether the database can be reached. A broker that is cut off from it for five seconds ends its sessions (I-64).

What another broker revokes would not be heard of meanwhile. Nothing is issued or started either: that needs a commit.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from broker.core.clock import Clock
from broker.core.errors import Fault
from broker.service.live import LiveSessions, Scope
from broker.service.ports import Store

log = structlog.get_logger()
EVERY: Final = 1.0
"""Seconds between two looks."""
ANSWER_WITHIN: Final = 1.0
"""Seconds that an answer may take."""
WITHOUT: Final = 5.0
"""Seconds without an answer after which sessions end."""
_CLOSED_WITHIN: Final = 1.0
CUT_OFF: Final = "cut_off"
"""What a session is told that ends this way."""


class Lifeline:
    """The loop."""

    def __init__(self, *, store: Store, live: LiveSessions, clock: Clock) -> None:
        self._store, self._live, self._clock = store, live, clock
        self._heard = clock.monotonic()
        self._is_cut_off = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.step()
            await asyncio.sleep(EVERY)

    async def step(self) -> None:
        """One look; sessions that begin while the database is away, if any can, are cut at the next one."""
        if await self._answers():
            self._heard = self._clock.monotonic()
            if self._is_cut_off:
                log.warning("store.reached_again")
            self._is_cut_off = False
        elif self._clock.monotonic() - self._heard > WITHOUT:
            await self._cut()

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                await self._store.tenants()
        except (Fault, TimeoutError):
            return False
        return True

    async def _cut(self) -> None:
        if not self._is_cut_off:
            log.error("store.cut_off", seconds=WITHOUT)
        self._is_cut_off = True
        await self._live.cut(Scope(tenant=None), CUT_OFF, within=_CLOSED_WITHIN)
