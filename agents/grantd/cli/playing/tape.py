"""The events of a recording while they are played: read ahead in the background, kept for small steps back.

A step that what is kept cannot serve opens the recording anew at that time, with its screen: the hours before are never
read for it.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from grantd.v1.session_pb2 import PlayRecordingResponse, RecordingOutline, RecordingScreen

KEPT_BYTES: Final = 16 * 1024 * 1024
"""Of played events; older ones are read again when they are wanted."""
AHEAD_BYTES: Final = 2 * 1024 * 1024
REPLAY_BYTES: Final = 512 * 1024
"""Output that is drawn again for a step back; beyond it the broker's screen is quicker."""
_EVENT_BYTES: Final = 200
_QUEUED: Final = 512
_PATIENCE_S: Final = 0.2


class Reading(Protocol):
    """An open stream of the recording."""

    def take(self) -> PlayRecordingResponse | None:
        """The next message if it is here. Raises what the stream raised, once everything before was taken."""
        ...

    @property
    def ended(self) -> bool:
        """Nothing more will come."""
        ...

    def stop(self) -> None:
        """No more is wanted."""
        ...


class BackgroundReading:
    """Reads on a thread of its own, a bounded number of messages ahead."""

    def __init__(self, messages: Iterator[PlayRecordingResponse]) -> None:
        self._queue: queue.Queue[PlayRecordingResponse | Exception | None] = queue.Queue(_QUEUED)
        self._stopped = threading.Event()
        self.ended = False
        threading.Thread(target=self._read, args=(messages,), name="playing", daemon=True).start()

    def take(self) -> PlayRecordingResponse | None:
        """As Reading."""
        with contextlib.suppress(queue.Empty):
            item = self._queue.get_nowait()
            if isinstance(item, PlayRecordingResponse):
                return item
            self.ended = True
            if item is not None:
                raise item
        return None

    def stop(self) -> None:
        """As Reading; the thread closes the stream when it sees it."""
        self._stopped.set()

    def _read(self, messages: Iterator[PlayRecordingResponse]) -> None:
        try:
            for message in messages:
                if not self._put(message):
                    return
            self._put(None)
        except Exception as failure:  # noqa: BLE001  handed to the one who plays
            self._put(failure)
        finally:
            if close := getattr(messages, "close", None):
                close()

    def _put(self, item: PlayRecordingResponse | Exception | None) -> bool:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=_PATIENCE_S)
                return True
        return False


@dataclass(frozen=True, slots=True)
class Redraw:
    """What shows a moment: a fresh screen, then these events."""

    screen: RecordingScreen
    events: list[PlayRecordingResponse]


class Tape:
    """The recording from the last opening on.

    Args:
        open_at: opens the recording at a time in microseconds; the first message holds the screen there, the very
            first reading begins with the outline.
    """

    def __init__(self, open_at: Callable[[int], Reading], *, start_us: int = 0) -> None:
        self._open_at = open_at
        self.outline: RecordingOutline | None = None
        self._events: list[PlayRecordingResponse] = []
        self._open(start_us)

    def _open(self, t_us: int) -> None:
        self._base: RecordingScreen | None = None
        self._base_us = self._wanted_us = t_us
        self._events.clear()
        self._at = self._kept = self._ahead = 0
        self._whole = True
        """Every event since the base is kept."""
        self._reading = self._open_at(t_us)

    @property
    def base_us(self) -> int:
        """Where the present reading began."""
        return self._base_us

    def close(self) -> None:
        """No more is wanted."""
        self._reading.stop()

    @property
    def complete(self) -> bool:
        """Everything up to the recording's end is here."""
        return self._reading.ended

    def fill(self) -> None:
        """Take over what was read in the meantime, as far as there is room ahead."""
        while self._ahead < AHEAD_BYTES and (message := self._reading.take()) is not None:
            if message.HasField("outline"):
                self.outline = message.outline
            elif message.HasField("screen"):
                self._base = message.screen
            else:
                self._events.append(message)
                self._kept += _cost(message)
                self._ahead += _cost(message)
        if self._kept > KEPT_BYTES:
            self._forget()

    def _forget(self) -> None:
        """The older half of what was played."""
        half = self._at // 2
        self._kept -= sum(map(_cost, self._events[:half]))
        del self._events[:half]
        self._at -= half
        self._whole = self._whole and not half

    def next_us(self) -> int | None:
        """When the next event happens; None while it is not here, or there is none."""
        return self._events[self._at].t_us if self._at < len(self._events) else None

    def pop(self) -> PlayRecordingResponse:
        """The next event, which next_us has promised."""
        event = self._events[self._at]
        self._at += 1
        self._ahead -= _cost(event)
        return event

    def seek(self, t_us: int) -> None:
        """Go to a time; `redraw` then has what shows it, at once or when it has come."""
        if not self._has(t_us):
            self._reading.stop()
            self._open(t_us)
            return
        self._wanted_us = t_us
        self._at = bisect_left(self._events, t_us, key=lambda event: event.t_us)
        self._ahead = sum(map(_cost, self._events[self._at :]))

    def redraw(self) -> Redraw | None:
        """What shows the time that was sought; None while it has not come."""
        self.fill()
        return None if self._base is None else Redraw(self._base, self._events[: self._at])

    def _has(self, t_us: int) -> bool:
        if self._base is None or not self._whole or t_us < self._base_us:
            return False
        if not self.complete and (not self._events or self._events[-1].t_us < t_us):
            return False
        until = bisect_left(self._events, t_us, key=lambda event: event.t_us)
        return sum(len(event.payload) for event in self._events[:until]) <= REPLAY_BYTES


def _cost(event: PlayRecordingResponse) -> int:
    return len(event.payload) + _EVENT_BYTES
