"""Time as a value. Never reads a clock: the service takes one reading per use case and passes it on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Where time comes from. One implementation reads the machine's clocks; tests have their own."""

    def now(self) -> datetime:
        """Wall clock, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; no relation to the wall clock."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """One reading of both clocks, taken together at the start of a use case (I-05)."""

    wall: datetime
    mono: float


def micros(moment: datetime) -> int:
    """Microseconds since the epoch: how times are stored and recorded."""
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def from_micros(us: int) -> datetime:
    """The inverse of `micros`."""
    return EPOCH + timedelta(microseconds=us)
