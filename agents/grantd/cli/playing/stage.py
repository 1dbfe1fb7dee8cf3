"""The viewer's terminal while something is played: its own screen, raw keys, put back whatever happens.

What is written are cells, whose text is printable (seen to once more here), and a few sequences of our own.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
from types import FrameType
from typing import Any, Final, NoReturn, Self

from grantd.cli.playing.grid import SPACE, Cell, width_of

_OPEN: Final = "\x1b[?1049h\x1b[?25l\x1b[2J"
_CLOSE: Final = "\x1b[0m\x1b[?25h\x1b[?1049l"
_REVERSE: Final = "7"  # no colour: what NO_COLOR leaves
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
_READ_BYTES: Final = 1024


class Stage:
    """The controlling terminal, as a context."""

    def __init__(self, *, colour: bool) -> None:
        self._in, self._out = sys.stdin.fileno(), sys.stdout.fileno()
        self._colour = colour
        self._saved = termios.tcgetattr(self._in)
        self._handlers: dict[int, Any] = {}
        self._drawn: list[str] = []
        self._cursor: tuple[int, int] | None = None
        self._size = (0, 0)

    def __enter__(self) -> Self:
        raw = termios.tcgetattr(self._in)
        raw[0] &= ~(termios.ICRNL | termios.INLCR | termios.IXON | termios.BRKINT)
        raw[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG | termios.IEXTEN)
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._in, termios.TCSAFLUSH, raw)
        self._handlers = {number: signal.signal(number, _leave) for number in _ENDING}
        self._put(_OPEN)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with contextlib.suppress(OSError):  # the terminal is gone: nothing to put back on it
                self._put(_CLOSE)
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._in, termios.TCSAFLUSH, self._saved)

    def size(self) -> tuple[int, int]:
        """Columns and rows; looked up each time, so a resized window is simply drawn anew."""
        found = os.get_terminal_size(self._out)
        size = (max(found.columns, 1), max(found.lines, 2))
        if size != self._size:
            self.forget()
            self._size = size
        return size

    def forget(self) -> None:
        """Draw everything anew."""
        self._drawn = []
        self._put("\x1b[0m\x1b[2J")

    def keys(self, seconds: float) -> bytes | None:
        """What was typed within so many seconds; None: the terminal is gone."""
        ready, _, _ = select.select([self._in], [], [], seconds)
        if not ready:
            return b""
        return os.read(self._in, _READ_BYTES) or None

    def draw(self, rows: list[list[Cell]], cursor: tuple[int, int] | None) -> None:
        """The rows that are not there yet, and the cursor."""
        lines = [self._line(row) for row in rows]
        changed = [
            f"\x1b[{number + 1};1H{line}"
            for number, line in enumerate(lines)
            if number >= len(self._drawn) or self._drawn[number] != line
        ]
        if not changed and cursor == self._cursor:
            return
        self._drawn, self._cursor = lines, cursor
        inside = cursor is not None and cursor[0] < self._size[0] and cursor[1] < self._size[1] - 1
        place = f"\x1b[{cursor[1] + 1};{cursor[0] + 1}H\x1b[?25h" if cursor is not None and inside else ""
        self._put("\x1b[?25l" + "".join(changed) + place)

    def _line(self, row: list[Cell]) -> str:
        """One row whole. Nothing is erased behind a full one: the cursor still stands on its last character."""
        made, style = list[str](), ""
        for place, cell in enumerate(row):
            if cell.style != style:
                style = cell.style
                made.append(f"\x1b[0;{style}m" if style and (self._colour or style == _REVERSE) else "\x1b[0m")
            cut = not cell.text.isprintable() or (place == self._size[0] - 1 and width_of(cell.text) > 1)
            made.append(SPACE if cut else cell.text)
        return "".join(made) + ("\x1b[0m" if len(row) >= self._size[0] else "\x1b[0m\x1b[K")

    def _put(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        while data:
            data = data[os.write(self._out, data) :]


def _leave(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
