"""When each grant ends: one heap of deadlines for the whole process, one sleeper over it. The store stays the truth.

A deadline is counted on the monotonic clock from the moment it was said, so a wall clock that moves back or stands
still moves no end away; one that jumps ahead brings every end nearer (I-05). Never a timer a grant.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from broker.core.clock import Instant
from broker.core.ids import GrantId, TenantId

_STEP_S: Final = 0.05
"""A wall clock that gained more than this on the monotonic one was set, or the machine slept."""
_SLACK: Final = 1024
"""Entries of grants that ended otherwise may make up half of the heap, and this many more."""
_CALM_S: Final = 0.05
"""Without an end for so long ahead: time for what can wait."""
_ROUND_UP_S: Final = 0.0005
"""Timers of the loop know whole milliseconds: the nearest one may come before the end."""
_NO_GRANT: Final = GrantId("")
_Entry = tuple[float, float, TenantId, GrantId]
"""Monotonic second, wall second, whose, and which grant: none where a decision of the tenant runs out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lapse:
    """A moment that has come."""

    tenant: TenantId
    grant: GrantId | None
    """None: some request or action of the tenant waits no longer."""
    late_s: float
    """Seconds since then, by the monotonic clock."""


class Ends:
    """Moments at which something ends. Said by services from any thread, taken out by the expiry job."""

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._armed: dict[GrantId, _Entry] = {}
        """Of each grant the entry that counts: others of it in the heap are skipped."""
        self._said: list[tuple[datetime, TenantId, GrantId | None]] = []
        self._stale = 0
        self._soonest: datetime | None = None
        self._ahead: float | None = None
        self._lock = threading.Lock()
        self._wake: Callable[[], object] | None = None
        """Said that a sooner end was named; None where nobody watches, or was told already."""
        self._calm = asyncio.Event()
        self._calm.set()
        self._look: Callable[[], None] | None = None
        """What the timer of whoever watches calls."""
        self._looks_at = math.inf
        """By the loop's clock."""

    def __len__(self) -> int:
        """How many grants are waited for."""
        return len(self._armed)

    def expect(self, tenant: TenantId, at: datetime, grant: GrantId | None = None) -> None:
        """A grant of `tenant`, or something that waits there for a decision, ends at `at`; the last word counts.

        May be said before the commit: looking in vain is harmless.
        """
        with self._lock:
            self._said.append((at, tenant, grant))
            wake = self._wake if self._soonest is None or at < self._soonest else None
            if wake is not None:
                self._wake = None
        if wake is not None:
            wake()

    def arm(self, ends: Iterable[tuple[TenantId, GrantId, datetime]], now: Instant) -> None:
        """As `expect` for many grants at once, at start."""
        for tenant, grant, at in ends:
            self._heap.append(self._entry(at, tenant, grant, now))
        heapq.heapify(self._heap)

    def forget(self, grant: GrantId) -> None:
        """It has ended already."""
        self._stale += self._armed.pop(grant, None) is not None

    async def watch(self, look: Callable[[], None], reading: Callable[[], Instant], longest: float) -> None:
        """Calls `look` at once, at every end, when a sooner one is said, and every `longest` seconds. Never returns.

        The loop's timer itself calls it: what waits for its turn in the loop is behind it. Raises what it raises.
        """
        loop = asyncio.get_running_loop()
        broken: asyncio.Future[None] = loop.create_future()
        timer: asyncio.Handle | None = None

        def wake() -> None:
            nonlocal timer
            self._looks_at = math.inf  # what a look cuts leads to no other look
            if timer is not None:
                timer.cancel()
            if broken.done():
                return
            with self._lock:
                self._wake = said
            try:
                look()
                left = self.left(reading(), longest)
                (self._calm.set if left > _CALM_S or not self._heap else self._calm.clear)()
                self._looks_at = loop.time() + left
                timer = loop.call_later(left + _ROUND_UP_S, wake) if left else loop.call_soon(wake)
            except Exception as error:  # noqa: BLE001  whatever it is, it is the watcher's
                broken.set_exception(error)

        said = partial(loop.call_soon_threadsafe, wake)
        self._look = wake
        wake()
        try:
            await broken
        finally:
            self._calm.set()
            self._look, self._looks_at = None, math.inf
            with self._lock:
                self._wake = None
            if timer is not None:
                timer.cancel()

    def glance(self, now: float) -> None:
        """Calls `look` where an end has come that the timer has had no turn for; else nothing. On the loop alone.

        For what the loop does in one turn for hundreds of others: it looks at its timers between two turns. `now` is by
        the loop's clock.
        """
        if now >= self._looks_at and self._look is not None:
            self._look()

    @property
    def calm(self) -> bool:
        """Whether nothing ends within the next moments, as the last look saw it; always where nobody watches."""
        return self._calm.is_set()

    async def until_calm(self, longest: float) -> None:
        """Lets those go first whose end is about to come: returns once it is calm, after `longest` seconds at most."""
        if self._calm.is_set() or longest <= 0:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(longest):
                await self._calm.wait()

    def left(self, now: Instant, longest: float) -> float:
        """Seconds until the next end, `longest` at most."""
        self._take_in(now)
        return min(longest, max(0.0, self._heap[0][0] - now.mono)) if self._heap else longest

    def due(self, now: Instant, most: int) -> list[Lapse]:
        """What has come by now, the soonest first, at most `most`; it is taken out."""
        self._take_in(now)
        found: list[Lapse] = []
        while self._heap and self._heap[0][0] <= now.mono and len(found) < most:
            entry = heapq.heappop(self._heap)
            at, _, tenant, grant = entry
            if grant and self._armed.get(grant) is not entry:
                self._stale -= 1
                continue
            self._armed.pop(grant, None)
            found.append(Lapse(tenant=tenant, grant=grant or None, late_s=now.mono - at))
        return found

    def _take_in(self, now: Instant) -> None:
        self._follow_the_wall(now)
        with self._lock:
            said, self._said = self._said, []
            for at, tenant, grant in said:
                heapq.heappush(self._heap, self._entry(at, tenant, grant, now))
            if self._stale > len(self._armed) + _SLACK:
                self._drop_stale()
            self._soonest = datetime.fromtimestamp(self._heap[0][1], tz=now.wall.tzinfo) if self._heap else None

    def _entry(self, at: datetime, tenant: TenantId, grant: GrantId | None, now: Instant) -> _Entry:
        entry = (now.mono + (at - now.wall).total_seconds(), at.timestamp(), tenant, grant or _NO_GRANT)
        if grant is not None:
            self._stale += grant in self._armed
            self._armed[grant] = entry
        return entry

    def _follow_the_wall(self, now: Instant) -> None:
        """A wall clock that was set ahead brings every end nearer; one that was set back moves none away."""
        ahead, before = now.wall.timestamp() - now.mono, self._ahead
        if before is not None and abs(ahead - before) <= _STEP_S:
            return
        self._ahead = ahead
        if before is not None and ahead > before:
            self._drop_stale()
            self._heap = [(min(mono, wall - ahead), wall, tenant, grant) for mono, wall, tenant, grant in self._heap]
            self._armed = {entry[3]: entry for entry in self._heap if entry[3]}
            heapq.heapify(self._heap)

    def _drop_stale(self) -> None:
        self._heap = [entry for entry in self._heap if not entry[3] or self._armed.get(entry[3]) is entry]
        heapq.heapify(self._heap)
        self._stale = 0
