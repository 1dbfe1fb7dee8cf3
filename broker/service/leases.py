"""How long a grant still lasts, by both clocks, and whether the wall clock can be trusted at all (I-05).

The end is kept twice: as `not_after` in the store, and from the first sight on as a monotonic second in this process.
The earlier one wins, so a wall clock that moves back or stands still lengthens nothing.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from broker.core.clock import Clock, Instant
from broker.core.errors import Blame, Refusal
from broker.core.grant import Grant, must_be_usable
from broker.core.ids import GrantId

MAX_STEP_BACK = timedelta(seconds=5)


class Leases:
    """The monotonic deadlines of this process, and a watch over the wall clock."""

    def __init__(self) -> None:
        self._deadlines: dict[GrantId, tuple[bool, float]] = {}
        """Whether it was used yet, and the monotonic second of its end."""
        self._high: Instant | None = None

    def remember(self, high: Instant) -> None:
        """The latest moment that an earlier process is known to have seen, at start: the clock may not be behind it."""
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
        too.
        """
        high = self._high or instant
        expected = high.wall + timedelta(seconds=max(0.0, instant.mono - high.mono))
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
        return self.latest(Instant(wall=clock.now(), mono=clock.monotonic()))

    def left(self, grant: Grant, instant: Instant) -> float:
        """Seconds until the grant ends, never more than at any earlier call; zero or less means over.

        Counted anew at its first use, from when it has another end.
        """
        wall = (grant.deadline() - self.latest(instant).wall).total_seconds()
        used = grant.not_after is not None
        known = self._deadlines.get(grant.id)
        # every reading may bring the end nearer, none takes it further away: what was over once stays over (I-05)
        deadline = instant.mono + wall
        if known is not None and known[0] == used:
            deadline = min(known[1], deadline)
        self._deadlines[grant.id] = used, deadline
        return deadline - instant.mono

    def must_last(self, grant: Grant, instant: Instant) -> None:
        """Raises unless something new may start under it by both clocks: wall time that stands still gives none."""
        if self.left(grant, instant) <= 0:
            must_be_usable(grant, grant.deadline())

    def forget(self, grant: GrantId) -> None:
        """Drops a grant that is over."""
        self._deadlines.pop(grant, None)
