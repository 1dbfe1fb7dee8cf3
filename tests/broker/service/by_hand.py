"""Clocks, chance and counts that a test holds in its hand."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from broker.core.clock import micros
from broker.core.ids import AuditId
from tests.broker.adapters.store.fixtures import NOW


class HandClock:
    """Both clocks, moved by hand alone."""

    def __init__(self) -> None:
        self.wall, self.mono = NOW, 1_000.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.mono

    def forward(self, seconds: float) -> None:
        """Time passes."""
        self.wall += timedelta(seconds=seconds)
        self.mono += seconds


class CountedEntropy:
    """No chance at all: the n-th call always gives the same, and no two calls give the same."""

    def __init__(self) -> None:
        self._count = itertools.count(1)

    def token(self, size: int) -> bytes:
        return hashlib.shake_256(f"grantd test {next(self._count)}".encode()).digest(size)

    def uuid7(self, now: datetime) -> AuditId:
        number = micros(now) // 1000 << 80 | 0x7 << 76 | 0b10 << 62 | next(self._count)
        return AuditId(f"{number:032x}")


@dataclass(slots=True)
class Counts:
    """ports.Meter that remembers."""

    counted: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def count(self, name: str, **labels: str) -> None:
        self.counted.append((name, labels))

    def observe(self, name: str, value: float, **labels: str) -> None:
        self.counted.append((name, labels))

    def gauge(self, name: str, value: float, **labels: str) -> None:
        self.counted.append((name, labels))
