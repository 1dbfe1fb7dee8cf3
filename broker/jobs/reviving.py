"""Keeps the embedded signer alive: notices its end, says so, starts another one. Decides nothing about signatures.

Meanwhile every question to the signer is a fault, so nothing is issued; sessions that run need no signature and go on.
"""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog

from broker.core.clock import Clock
from broker.core.errors import Fault
from broker.service.ports import Meter

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 30.0
"""Seconds before another start; doubled with each start that failed or did not live STEADY_AFTER seconds."""
STEADY_AFTER: Final = 60.0

log = structlog.get_logger()


class Child(Protocol):
    """A process of the broker's own."""

    async def ended(self) -> int:
        """Waits until it ends; its exit status, negative for a signal."""
        ...

    async def stop(self) -> None:
        """Ends it. Idempotent."""
        ...


class Reviving:
    """The loop over one child; `stop` ends the present one, whichever it is."""

    def __init__(self, *, child: Child, start: Callable[[], Awaitable[Child]], clock: Clock, meter: Meter) -> None:
        self._child, self._start, self._clock, self._meter = child, start, clock, meter
        self._pause = FIRST_PAUSE

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            began = self._clock.monotonic()
            status = await self._child.ended()
            log.error("signer.ended", status=status)
            if self._clock.monotonic() - began >= STEADY_AFTER:
                self._pause = FIRST_PAUSE
            await self._revive()

    async def stop(self) -> None:
        """Once `run` is cancelled."""
        await self._child.stop()

    async def _revive(self) -> None:
        while True:
            await sleep(self._pause)
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
            try:
                self._child = await self._start()
            except Fault as fault:
                log.exception("signer.not_started", cause=fault.what, again_in_s=self._pause)
                continue
            self._meter.count("signer_restarts")
            log.warning("signer.restarted")
            return
