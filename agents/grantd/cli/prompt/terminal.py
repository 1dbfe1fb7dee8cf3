"""The terminal itself: raw reads with their times, writes of lines. The only file of the prompt that touches it.

What is written are Lines, whose text is printable (checked here once more), and a few sequences of our own for colour
and for clearing a line. Modes are put back whatever happens; a hang-up or a signal to end leaves without a decision.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, NoReturn, Self, TypeAlias

from grantd.cli.prompt.lines import Line, Span, Style, text_of
from grantd.errors import Invalid

_ENCODING: Final = "utf-8"
_READ_BYTES: Final = 4096
_BURST_WAIT_SECONDS: Final = 0.004
_PASTE_ON: Final = "\x1b[?2004h"
_PASTE_OFF: Final = "\x1b[?2004l"
_CLEAR_LINE: Final = "\r\x1b[2K"
_RESET: Final = "\x1b[0m"
_COLOURS: Final = {
    Style.PLAIN: "",
    Style.TITLE: "\x1b[1m",
    Style.LABEL: "\x1b[36m",
    Style.DIM: "\x1b[2m",
    Style.READ: "\x1b[32m",
    Style.WRITE: "\x1b[33m",
    Style.EXECUTE: "\x1b[1;31m",
    Style.INSTALL: "\x1b[1;35m",
    Style.REBOOT: "\x1b[1;7;31m",
    Style.WARNING: "\x1b[1;31m",
    Style.UNTRUSTED: "\x1b[3m",
}
_Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Input:
    """One read; empty data: the terminal is gone."""

    data: bytes
    at: float


@dataclass(frozen=True, slots=True)
class Resized:
    """The window has another size."""


@dataclass(frozen=True, slots=True)
class Woken:
    """Something else happened (`wake` was called), or the wait was over."""


class Terminal:
    """The controlling terminal in raw mode, as a context."""

    def __init__(self, *, colour: bool) -> None:
        self._in, self._out = sys.stdin.fileno(), sys.stdout.fileno()
        if not (os.isatty(self._in) and os.isatty(self._out)):
            raise Invalid(
                "no_terminal",
                "deciding needs a terminal for both input and output",
                "use -o json to list; other programs decide through the API with a signature of their own",
            )
        # what cannot be encoded would be replaced or fail, and then two different commands look the same (I-11)
        if codecs.lookup(sys.stdout.encoding).name != _ENCODING:
            raise Invalid(
                "no_utf8",
                f"deciding needs a terminal in UTF-8; this one is set to {sys.stdout.encoding}",
                "set a UTF-8 locale, for example LC_ALL=C.UTF-8, and no other PYTHONIOENCODING",
            )
        self._colour = colour
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._resized = False
        self._toolbar = False
        self._saved = termios.tcgetattr(self._in)
        self._handlers: dict[int, _Handler] = {}

    def __enter__(self) -> Self:
        raw = termios.tcgetattr(self._in)
        raw[0] &= ~(termios.ICRNL | termios.INLCR | termios.IXON | termios.BRKINT)
        raw[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG | termios.IEXTEN)
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._in, termios.TCSAFLUSH, raw)
        self._handlers = {number: signal.signal(number, _leave) for number in _ENDING}
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._on_resize)
        self._put(_PASTE_ON)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.clear_toolbar()
            self._put(_RESET + _PASTE_OFF)
        except OSError:
            pass  # the terminal is gone: nothing to put back on it
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._in, termios.TCSAFLUSH, self._saved)
            os.close(self._wake_read)
            os.close(self._wake_write)

    @property
    def columns(self) -> int:
        return os.get_terminal_size(self._out).columns

    @property
    def rows(self) -> int:
        return os.get_terminal_size(self._out).lines

    def wake(self) -> None:
        """End a wait, from any thread."""
        with contextlib.suppress(OSError):  # the pipe is full of wake-ups, or closed because we are leaving
            os.write(self._wake_write, b".")

    def wait(self, seconds: float) -> Input | Resized | Woken:
        """The next thing that happens, within `seconds`."""
        if self._was_resized():
            return Resized()
        ready, _, _ = select.select([self._in, self._wake_read], [], [], seconds)
        if self._wake_read in ready:
            _empty(self._wake_read)
        if self._was_resized():
            return Resized()
        return self._read() if self._in in ready else Woken()

    def flush_input(self) -> None:
        """Throw away what was typed and not read yet."""
        termios.tcflush(self._in, termios.TCIFLUSH)

    def write(self, lines: Iterable[Line]) -> None:
        """Print lines into the scrollback."""
        self.clear_toolbar()
        for line in lines:
            self._put(self._render(line) + "\r\n")

    def toolbar(self, line: Line) -> None:
        """Show a line in place, with the cursor behind it."""
        self._put(_CLEAR_LINE + self._render(_cut(line, self.columns - 1)))
        self._toolbar = True

    def clear_toolbar(self) -> None:
        """Take the toolbar away."""
        if self._toolbar:
            self._put(_CLEAR_LINE)
            self._toolbar = False

    def _was_resized(self) -> bool:
        was, self._resized = self._resized, False
        return was

    def _read(self) -> Input:
        at = time.monotonic()
        try:
            data = os.read(self._in, _READ_BYTES)
            # what follows at once belongs to the same burst, also where the terminal hands it over byte by byte
            while data and len(data) < _READ_BYTES and select.select([self._in], [], [], _BURST_WAIT_SECONDS)[0]:
                more = os.read(self._in, _READ_BYTES)
                if not more:
                    break
                data += more
        except OSError:
            return Input(b"", at)
        return Input(data, at)

    def _render(self, line: Line) -> str:
        text = text_of(line)
        if not text.isprintable():
            raise ValueError("a line with a character that is not printable never reaches the terminal")
        if not self._colour:
            return text
        return "".join(
            f"{_COLOURS[span.style]}{span.text}{_RESET}" if _COLOURS[span.style] else span.text for span in line
        )

    def _put(self, text: str) -> None:
        data = text.encode(_ENCODING)
        while data:
            data = data[os.write(self._out, data) :]

    def _on_resize(self, _: int, __: FrameType | None) -> None:
        self._resized = True
        self.wake()


def _cut(line: Line, columns: int) -> Line:
    """The toolbar is ours alone: its end may be cut, nothing of an agent is in it."""
    cut: list[Span] = []
    for span in line:
        room = columns - sum(len(each.text) for each in cut)
        if room <= 0:
            break
        cut.append(Span(span.text[:room], span.style))
    return tuple(cut)


def _empty(descriptor: int) -> None:
    try:
        while os.read(descriptor, _READ_BYTES):
            pass
    except BlockingIOError:
        pass


def _leave(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
