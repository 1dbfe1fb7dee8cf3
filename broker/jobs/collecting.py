"""Collects garbage where nobody waits for it: no collection comes between an end and its cut (I-01, P16).

Left to itself Python collects whenever enough was made, so in the very second in which hundreds of sessions end: 30 ms
over the youngest of what they leave, 0.2 to 0.4 s over everything that 500 sessions hold.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from typing import Final, Protocol

import structlog

from broker.core.clock import Clock
from broker.service.ends import Ends
from broker.service.leases import Leases

log = structlog.get_logger()
EVERY: Final = 0.1
"""Seconds between two looks."""
AGAIN: Final = 10.0
"""Seconds for which Python collects by itself where nobody could tell how large the process is."""
ENOUGH: Final = 2_000
"""Objects for which a collection of the youngest is worth while."""
SHORTLY: Final = 0.05
"""Seconds without an end that it wants before it: what `Ends.calm` said at the last look may be over."""
LONGEST: Final = 4.0
"""Seconds for which it waits for that: what some hundred sessions leave that end in one second takes 0.2 s."""
AHEAD: Final = 1.0
"""Seconds without an end that one over everything wants before it."""
GROWN: Final = 1.25
"""By how much memory grows until one over everything is due."""
GROWN_FAR: Final = 1.5
"""And until it waits for no end any more."""


class Garbage(Protocol):
    """The process's garbage; broker.adapters.system.SystemGarbage is it."""

    def by_hand(self) -> AbstractContextManager[None]: ...
    def waiting(self) -> int: ...
    def collect_young(self) -> None: ...
    def collect_all(self) -> None: ...
    def resident(self) -> int:
        """Raises OSError where it cannot be told, as without a free descriptor."""
        ...


class Collecting:
    """The loop."""

    def __init__(self, *, garbage: Garbage, ends: Ends, leases: Leases, clock: Clock) -> None:
        self._garbage, self._ends, self._leases, self._clock = garbage, ends, leases, clock
        self._resident: int | None = None
        """When everything was collected last, or at the first look."""
        self._since: float | None = None
        """Monotonic: since when a collection waits for calm."""

    async def run(self) -> None:
        """Until cancelled. Python collects by itself for a while after a look that failed."""
        while True:
            try:
                await self._by_hand()
            except OSError as error:
                log.warning("garbage.left_to_python", why=error.strerror, seconds=AGAIN)
            await asyncio.sleep(AGAIN)

    async def _by_hand(self) -> None:
        with self._garbage.by_hand():
            while True:
                await asyncio.sleep(EVERY)
                self.step()

    def step(self) -> None:
        """One look. Raises OSError as `Garbage.resident` does."""
        now = self._clock.monotonic()
        if self._garbage.waiting() < ENOUGH:
            self._since = None
            return
        self._since = now if self._since is None else self._since
        if now - self._since < LONGEST and not self._is_free(SHORTLY):
            return
        self._since = None
        self._garbage.collect_young()
        if self._may_take_long():
            self._garbage.collect_all()
            self._resident = self._garbage.resident()

    def _may_take_long(self) -> bool:
        resident = self._garbage.resident()
        if not self._resident:
            self._resident = resident
            return False
        grown = resident / self._resident
        if grown < GROWN:
            return False
        return grown >= GROWN_FAR or self._is_free(AHEAD)

    def _is_free(self, seconds: float) -> bool:
        """Whether no end comes within so many."""
        return self._ends.left(self._leases.now(self._clock), seconds) >= seconds
