"""Writes pulls of the kill switch as soon as the store takes them, and looks at what other brokers did.

Apart from the expiry loop: a store that hangs holds up neither the other (I-61).
"""

from __future__ import annotations

import asyncio

import structlog

from broker.core.errors import Fault
from broker.service.freeze import FreezeService

log = structlog.get_logger()
RETRY_S = 0.5
LOOK_S = 2.0
"""Between two looks at the store: how old the list of those who may freeze can be, and how late a freeze of another
broker comes to count here (I-02: 5 s)."""


class Freezing:
    """Two loops, so that a look that hangs holds up no write."""

    def __init__(self, freeze: FreezeService) -> None:
        self._freeze = freeze

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write())
            group.create_task(self._look())

    async def _write(self) -> None:
        while True:
            await self._freeze.pending.wait()
            self._freeze.pending.clear()
            try:
                await self._freeze.write_late()
            except Fault as fault:
                log.warning("freeze.still_unwritten", cause=fault.what)
                self._freeze.pending.set()
                await asyncio.sleep(RETRY_S)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._freeze.look()
            except Fault as fault:
                log.warning("freeze.not_looked", cause=fault.what)
