"""What a live session has recorded lately, and those who follow it as it goes on. In memory and bounded.

A follower begins with a snapshot and goes on without a gap and without a duplicate: events are numbered as they are
recorded. It never slows the session: one that lets too much wait is dropped, says so, and may follow anew.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Self

from recorder.events import Event, Kind
from recorder.modes import TerminalModes

KEPT_OUTPUT_BYTES: Final = 64 * 1024
"""Raw output that a snapshot begins with, where there was as much (formats.md 1.5)."""
KEPT_COST: Final = 256 * 1024
WAITING_COST: Final = 1 << 20
"""Bytes that one follower may let wait."""
_EVENT_COST: Final = 200
"""Bytes of memory of an event beside its payload: a target may write byte by byte."""
_OUTPUT: Final = frozenset({Kind.OUT, Kind.ERR})


@dataclass(frozen=True, slots=True)
class Numbered:
    """The `seq`-th event of a session, from 0."""

    seq: int
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Where a follower begins. `events` are consecutive and end with the last one recorded."""

    events: tuple[Numbered, ...]
    next_seq: int
    """Number of the first event after it."""
    terminal: bool
    """Whether a terminal was asked for: the output draws on a screen."""
    columns: int
    rows: int
    """Size of the screen before the first of `events`; 0 where none was told."""
    restore: bytes
    """What puts a terminal that was just reset into the state before the first of `events`."""


class Overtaken(Exception):
    """The follower did not keep up and was dropped; what it had not read yet is gone for it."""


class Follower:
    """One who follows a feed. Used by one task."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._waiting: deque[Numbered] = deque()
        self._cost = 0
        self._news = asyncio.Event()
        self._over = False
        self._overtaken = asyncio.Event()

    async def until_overtaken(self) -> None:
        """Returns when it was dropped."""
        await self._overtaken.wait()

    async def read(self) -> list[Numbered]:
        """The next events, at least one; none at the end of the session.

        Raises:
            Overtaken: it did not keep up.
        """
        while not (self._waiting or self._over or self._overtaken.is_set()):
            self._news.clear()
            await self._news.wait()
        if self._overtaken.is_set():
            raise Overtaken
        found = list(self._waiting)
        self._waiting.clear()
        self._cost = 0
        return found

    def _put(self, item: Numbered) -> None:
        self._cost += _cost(item.event)
        if self._cost > WAITING_COST:
            self._overtake()
        elif not self._overtaken.is_set():
            self._waiting.append(item)
        self._news.set()

    def _overtake(self) -> None:
        self._overtaken.set()
        self._waiting.clear()
        self._news.set()

    def _end(self) -> None:
        self._over = True
        self._news.set()


class Feed:
    """The events of one session. Used on one loop; `take` never waits and never fails."""

    def __init__(self) -> None:
        self._kept: deque[Numbered] = deque()
        self._kept_cost = self._kept_output = 0
        self._next = 0
        self._terminal = False
        self._columns = self._rows = 0
        self._modes = TerminalModes()
        self._followers: set[Follower] = set()
        self._over = False

    def take(self, event: Event) -> None:
        """An event that the recorder has accepted: this is the tap (record, then show)."""
        item = Numbered(self._next, event)
        self._next += 1
        self._kept.append(item)
        self._kept_cost += _cost(event)
        self._kept_output += _output(event)
        self._terminal = self._terminal or event.kind == Kind.RESIZE or _asks_for_terminal(event)
        self._forget()
        for follower in self._followers:
            follower._put(item)  # noqa: SLF001  the two are one

    @classmethod
    def going_on(cls, *, next_seq: int, terminal: bool, columns: int, rows: int, restore: bytes) -> Self:
        """A feed that begins in the middle of a session: what it takes next is its `next_seq`-th event.

        `restore` and the screen's size are as in the snapshot of the feed that it goes on from.
        """
        feed = cls()
        feed._next, feed._terminal, feed._columns, feed._rows = next_seq, terminal, columns, rows
        feed._modes.feed(restore)
        return feed

    def overtake(self) -> None:
        """What comes next is not all of it: everybody who follows is dropped, and may follow anew."""
        for follower in self._followers:
            follower._overtake()  # noqa: SLF001  the two are one

    def end(self) -> None:
        """Nothing more comes."""
        self._over = True
        for follower in self._followers:
            follower._end()  # noqa: SLF001  the two are one

    @contextmanager
    def followed(self) -> Iterator[Follower]:
        """One more follower, while the context is open."""
        follower = Follower(self.snapshot())
        if self._over:
            follower._end()  # noqa: SLF001  the two are one
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)

    def snapshot(self) -> Snapshot:
        """What the session shows now."""
        return Snapshot(
            events=tuple(self._kept),
            next_seq=self._next,
            terminal=self._terminal,
            columns=self._columns,
            rows=self._rows,
            restore=self._modes.restore(),
        )

    def _forget(self) -> None:
        """What is not needed for a snapshot: its effect on the screen stays."""
        while len(self._kept) > 1:
            oldest = self._kept[0].event
            enough = self._kept_output - _output(oldest) >= KEPT_OUTPUT_BYTES
            if not enough and self._kept_cost <= KEPT_COST:
                return
            self._kept.popleft()
            self._kept_cost -= _cost(oldest)
            self._kept_output -= _output(oldest)
            if oldest.kind in _OUTPUT and self._terminal:
                self._modes.feed(oldest.payload)
            elif oldest.kind == Kind.RESIZE:
                self._columns = int.from_bytes(oldest.payload[:2], "big")
                self._rows = int.from_bytes(oldest.payload[2:4], "big")


def _cost(event: Event) -> int:
    return len(event.payload) + _EVENT_COST


def _output(event: Event) -> int:
    return len(event.payload) if event.kind in _OUTPUT else 0


def _asks_for_terminal(event: Event) -> bool:
    return event.kind == Kind.EXEC and json.loads(event.payload).get("pty") is True
