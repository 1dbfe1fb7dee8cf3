"""Looks at the signer's journal every minute, so that a rolled back one is noticed. A failure is logged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from broker.core.clock import Clock
from broker.core.errors import Fault

log = structlog.get_logger()
EVERY = 60.0
"""Seconds."""


class Pinning:
    """The loop over one `look(now)`."""

    def __init__(self, *, look: Callable[[datetime], Awaitable[None]], clock: Clock) -> None:
        self._look, self._clock = look, clock

    async def run(self) -> None:
        """Until cancelled; the first look at once."""
        while True:
            await self.step()
            await asyncio.sleep(EVERY)

    async def step(self) -> None:
        """One look."""
        try:
            await self._look(self._clock.now())
        except (Fault, OSError) as fault:
            log.warning("signer.head_unknown", cause=str(fault))
