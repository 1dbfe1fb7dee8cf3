"""Keeps the furthest moment of the clocks outside the database, every few seconds (I-05). Judges no clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from broker.core.clock import Clock
from broker.core.errors import Fault
from broker.service.leases import Leases

log = structlog.get_logger()
EVERY: Final = 5.0
"""Seconds: a clock set back by less than this while the broker is down goes unseen."""


class Timekeeping:
    """The loop."""

    def __init__(self, *, leases: Leases, clock: Clock, keep: Callable[[datetime], None]) -> None:
        """`keep` blocks on the disk, and raises Fault."""
        self._leases, self._clock, self._keep = leases, clock, keep

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.step()
            await asyncio.sleep(EVERY)

    async def step(self) -> None:
        """Keeps it once. A failure is said and tried again: the log's newest entry still stands in."""
        try:
            await asyncio.to_thread(self._keep, self._leases.now(self._clock).wall)
        except Fault as fault:
            log.warning("clock.not_kept", cause=fault.what)
