"""How long a grant still lasts, by both clocks, and whether the wall clock can be trusted at all (I-05).

The end is kept twice: as `not_after` in the store, and from the first sight on as a monotonic second in this process.
The earlier one wins, so a wall clock that moves back or stands still lengthens nothing.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from broker.core.clock import Clock, Instant
from broker.core.errors import Blame, Refusal
from broker.core.grant import Grant, must_be_usable
from broker.core.ids import GrantId

MAX_STEP_BACK = timedelta(seconds=5)
_OVER_FOR: Final = 600.0
"""Seconds after its end for which a grant's own deadline is kept; then one moment stands for all that came before."""
_SLACK: Final = 1024
"""Deadlines that are kept before anybody looks which of them are long over."""
_AS_ONE_S: Final = 0.001
"""Two clocks that were read within this were read together."""
_TRIES: Final = 5


def both(clock: Clock) -> Instant:
    """A reading of both clocks, made again where the processor was taken away in the middle of it.

    What is left of a delay makes an end earlier, never later: the monotonic one is read first.
    """
    closest, least = _reading(clock)
    for _ in range(_TRIES - 1):
        if least < _AS_ONE_S:
            break
        instant, gap = _reading(clock)
        if gap < least:
            closest, least = instant, gap
    return closest


def _reading(clock: Clock) -> tuple[Instant, float]:
    """Both clocks, and the seconds that passed while they were read."""
    instant = Instant(mono=clock.monotonic(), wall=clock.now())
    return instant, clock.monotonic() - instant.mono


class Leases:
    """The monotonic deadlines of this process, and a watch over the wall clock. Asked from any thread."""

    def __init__(self) -> None:
        self._counting, self._watching = threading.Lock(), threading.Lock()
        """Over the deadlines, and over the furthest reading: whoever only looks at the clocks waits for no count."""
        self._deadlines: dict[GrantId, tuple[float, datetime]] = {}
        """The monotonic second of its end, and the moment that its row says."""
        self._passed: datetime | None = None
        """What was to end at this moment or before is over, whatever a clock says from now on."""
        self._look_at = _SLACK
        """How many deadlines there may be before the next look."""
        self._high: Instant | None = None

    def __len__(self) -> int:
        """How many deadlines are kept."""
        return len(self._deadlines)

    def remember(self, high: Instant) -> None:
        """The latest moment that an earlier process is known to have seen, at start: the clock may not be behind it."""
        with self._watching:
            if self._high is None or high.wall > self._high.wall:
                self._high = high

    def trusted(self, instant: Instant) -> Instant:
        """`instant`, unless the wall clock fell more than 5 s behind the monotonic one since the last reading.

        Raises:
            Refusal: `clock_moved_back`: nothing is issued or run until the clock has caught up.
        """
        if self.behind(instant) > MAX_STEP_BACK:
            raise Refusal(
                "clock_moved_back",
                "the broker's clock moved back; nothing is issued until it is right again",
                blame=Blame.UNAVAILABLE,
                way_out="an operator must check the broker's clock",
            )
        return instant

    def behind(self, instant: Instant) -> timedelta:
        """How far the wall clock is behind where the monotonic one says it must be; remembers the furthest reading.

        Time that passed on the monotonic clock has passed: a wall clock that was set back while nobody looked shows
        too. A reading from before the furthest one, which a unit of work keeps while it waits for its turn, is measured
        by where the wall clock must have been then.
        """
        with self._watching:
            high = self._high or instant
            expected = high.wall + timedelta(seconds=instant.mono - high.mono)
            if expected - instant.wall <= MAX_STEP_BACK and instant.wall >= high.wall:
                self._high = instant
            return expected - instant.wall

    def latest(self, instant: Instant) -> Instant:
        """`instant`, its wall clock put forward to where the monotonic one and an earlier process say it must be.

        By this reading ends are looked for: a clock that was set back brings nothing back to life.
        """
        return replace(instant, wall=max(instant.wall, instant.wall + self.behind(instant)))

    def now(self, clock: Clock) -> Instant:
        """`latest` of a reading taken now."""
        return self.latest(both(clock))

    def left(self, grant: Grant, instant: Instant) -> float:
        """Seconds until the grant ends, never more than at any earlier call; zero or less means over.

        Counted anew where its row has another end: at its first use, and where an earlier first use was not written.
        """
        wall = (grant.deadline() - self.latest(instant).wall).total_seconds()
        # every reading may bring the end nearer, none takes it further away: what was over once stays over (I-05)
        deadline = instant.mono + wall
        with self._counting:
            known = self._deadlines.get(grant.id)
            if known is not None and known[1] == grant.deadline():
                deadline = min(known[0], deadline)
            if self._passed is not None and grant.deadline() <= self._passed:
                deadline = min(instant.mono, deadline)
            self._deadlines[grant.id] = deadline, grant.deadline()
            if len(self._deadlines) > self._look_at:
                self._drop_long_over(instant.mono)
        return deadline - instant.mono

    def must_last(self, grant: Grant, instant: Instant) -> None:
        """Raises unless something new may start under it by both clocks: wall time that stands still gives none."""
        if self.left(grant, instant) <= 0:
            must_be_usable(grant, grant.deadline())

    def forget(self, grant: GrantId) -> None:
        """Drops a grant that is over."""
        with self._counting:
            self._deadlines.pop(grant, None)

    def _drop_long_over(self, mono: float) -> None:
        """Grants that another broker ended, or that were asked for once more after their end, leave nothing behind."""
        kept = {of: end for of, end in self._deadlines.items() if end[0] > mono - _OVER_FOR}
        gone = [end[1] for of, end in self._deadlines.items() if of not in kept]
        self._passed = max([*gone, *([self._passed] if self._passed else [])], default=None)
        self._deadlines, self._look_at = kept, 2 * len(kept) + _SLACK
