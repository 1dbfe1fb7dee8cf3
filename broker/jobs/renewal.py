"""Renews what the broker shows to its clients before it ends. A failure is logged and tried again.

The old one goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from broker.core.clock import Clock
from broker.core.errors import Fault

log = structlog.get_logger()
EVERY = 300.0
"""Seconds."""


class Renewal:
    """The renewal loop over one `renew_if_due(now)`."""

    def __init__(self, *, renew_if_due: Callable[[datetime], Awaitable[None]], clock: Clock) -> None:
        self._renew_if_due, self._clock = renew_if_due, clock

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            await self.step()

    async def step(self) -> None:
        """One look."""
        try:
            await self._renew_if_due(self._clock.now())
        except Fault as fault:
            log.exception("certificate.not_renewed", cause=fault.what)
