"""A recording in parts that a browser unpacks one by one, so that a page of many hours opens as fast as a short one.

What asciinema-player 3.17 calls segmented: an index, and parts that each begin with the screen as it stands there. The
times are those shown: a pause is shortened here, because the player shortens none in this form.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from recorder.export.frames import Code, Frame
from recorder.modes import TerminalModes
from recorder.screen import TAIL_BYTES

PART_TEXT: Final = 1024 * 1024
"""Characters of output in one part; what a seek unpacks at most."""
IDLE_S: Final = 5.0
"""Longer pauses are shown as this long."""
_MIN_S: Final = 0.001
"""From the last event to the end: the player wants every part to begin before it."""
_KEPT: Final = 16 * TAIL_BYTES
_DRAWN: Final = frozenset({Code.OUTPUT, Code.RESIZE})


@dataclass(slots=True)
class Parts:
    """Cuts frames into parts as they come; `index` once all of them came. Memory: one part.

    Args:
        columns: of the terminal at the start.
        rows: as `columns`.
        part_text: characters of output after which a part ends.
    """

    columns: int
    rows: int
    part_text: int = PART_TEXT
    starts: list[float] = field(default_factory=list)
    """Shown seconds at which each part begins."""
    pauses: list[tuple[float, float]] = field(default_factory=list)
    """(recorded second, shown second) behind each pause that was shortened."""
    marks: list[tuple[float, str]] = field(default_factory=list)
    shown_s: float = 0.0
    _recorded_s: float = 0.0
    _tail: str = ""
    _modes: TerminalModes = field(default_factory=TerminalModes)

    def cut(self, frames: Iterable[Frame]) -> Iterator[str]:
        """Each part as the JSON that the player reads."""
        snapshot, events, size = self._snapshot(), list[tuple[float, str, str]](), 0
        self.starts.append(0.0)
        for frame in frames:
            self._pass(frame)
            if size >= self.part_text and frame.code in _DRAWN and self.shown_s > events[-1][0]:
                yield _part(snapshot, events)
                snapshot, events, size = self._snapshot(), [], 0
                self.starts.append(self.shown_s)
            if frame.code is Code.MARK:
                self.marks.append((self.shown_s, frame.data))
            elif frame.code in _DRAWN:
                events.append((self.shown_s, frame.code.value, frame.data))
                size += len(frame.data)
                self._draw(frame)
        self.shown_s = round(self.shown_s + _MIN_S, 6)
        events.append((self.shown_s, Code.OUTPUT.value, ""))
        yield _part(snapshot, events)

    def index(self) -> dict[str, Any]:
        """What the player reads first, and what the page needs beside it."""
        return {
            "version": 1,
            "duration": self.shown_s,
            "term": {"cols": self.columns, "rows": self.rows},
            "segments": [{"start": at, "url": f"part:{number}"} for number, at in enumerate(self.starts)],
            "markers": self.marks,
            "pauses": self.pauses,
        }

    def _pass(self, frame: Frame) -> None:
        """The clocks go on to a frame."""
        at = frame.t_us / 1_000_000
        since = max(0.0, at - self._recorded_s)
        self._recorded_s = max(at, self._recorded_s)
        self.shown_s = round(self.shown_s + min(since, IDLE_S), 6)
        if since > IDLE_S:
            self.pauses.append((self._recorded_s, self.shown_s))

    def _draw(self, frame: Frame) -> None:
        if frame.code is Code.RESIZE:
            columns, _, rows = frame.data.partition("x")
            self._columns_now, self._rows_now = int(columns), int(rows)
            return
        self._tail += frame.data
        if len(self._tail) > _KEPT:
            self._shorten()

    def _shorten(self) -> None:
        """What is older than a screen's worth is remembered by the modes that it set."""
        self._modes.feed(self._tail[:-TAIL_BYTES].encode())
        self._tail = self._tail[-TAIL_BYTES:]

    def _snapshot(self) -> dict[str, Any]:
        """The screen as it stands: what was set, then what was printed last (recorder/screen.py)."""
        self._shorten()
        restored = self._modes.restore().decode(errors="replace")
        return {
            "cols": self._columns_now or self.columns, "rows": self._rows_now or self.rows,
            "init": f"\x1bc{restored}{self._tail}",
        }  # fmt: skip

    _columns_now: int = 0
    _rows_now: int = 0


def _part(snapshot: dict[str, Any], events: list[tuple[float, str, str]]) -> str:
    return json.dumps({"snapshot": snapshot, "events": events}, ensure_ascii=False, separators=(",", ":"))
