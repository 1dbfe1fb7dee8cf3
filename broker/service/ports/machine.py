"""Randomness and metrics, as services see them."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, TypeVar

from broker.core.ids import (
    AuditId,
)

T = TypeVar("T")


class Entropy(Protocol):
    """The only source of randomness."""

    def token(self, size: int) -> bytes:
        """`size` random bytes from the operating system."""
        ...

    def uuid7(self, now: datetime) -> AuditId:
        """A UUIDv7 of `now`, 32 lower-case hex digits."""
        ...


class Meter(Protocol):
    """Counters and histograms with bounded labels; never raises (style.md rule 22)."""

    def count(self, name: str, **labels: str) -> None: ...
    def observe(self, name: str, value: float, **labels: str) -> None: ...
    def gauge(self, name: str, value: float, **labels: str) -> None: ...
