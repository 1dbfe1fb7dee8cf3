"""Work in lanes, so that one lane that hangs holds up no other. Decides what may start; starts nothing, reads no clock.

A lane runs a few pieces at a time. Lanes whose last piece failed share a part of all places: however many of them hang,
the other part stays for lanes that work.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """How much may run at once."""

    in_all: int
    a_lane: int
    for_troubled: int
    """Of all, for lanes whose last piece failed."""


class Lanes(Generic[T]):
    """Pieces of work that wait, by lane, taken out in turn."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._waiting: dict[str, deque[T]] = {}
        """Lanes in the order of their turn; a lane that was served goes to the end."""
        self._running: Counter[str] = Counter()
        self._troubled: set[str] = set()

    def __len__(self) -> int:
        """How many wait or run."""
        return sum(map(len, self._waiting.values())) + self._running.total()

    def put(self, lane: str, piece: T) -> None:
        """At the end of its lane."""
        self._waiting.setdefault(lane, deque()).append(piece)

    def take(self) -> tuple[str, T] | None:
        """The next piece that may start now, with its lane; tell `done` once it is over. None: nothing may."""
        if self._running.total() >= self._places.in_all:
            return None
        in_trouble = sum(running for lane, running in self._running.items() if lane in self._troubled)
        refused = self._troubled if in_trouble >= self._places.for_troubled else frozenset[str]()
        lane = next((lane for lane in self._waiting if lane not in refused and self._has_place(lane)), None)
        if lane is None:
            return None
        pieces = self._waiting.pop(lane)
        piece = pieces.popleft()
        if pieces:
            self._waiting[lane] = pieces
        self._running[lane] += 1
        return lane, piece

    def done(self, lane: str, *, failed: bool) -> None:
        """A piece of the lane is over."""
        self._running[lane] -= 1
        if not self._running[lane]:
            del self._running[lane]
        (self._troubled.add if failed else self._troubled.discard)(lane)

    def _has_place(self, lane: str) -> bool:
        return self._running[lane] < self._places.a_lane
