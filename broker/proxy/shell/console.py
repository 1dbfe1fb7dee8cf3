"""Where the person sits: everything shown there is recorded first, in the order in which it is shown (I-30).

Programs' output passes as it is, as through any ssh; what the gateway says stands on rows of its own, with all that
others wrote escaped in it (F38).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Protocol

import asyncssh

from broker.proxy.shell.wire import Wire
from recorder.escape import visible
from recorder.grec import Kind
from recorder.sink import RecordingSink

_CHANNEL: Final = 0
_STDERR: Final = asyncssh.EXTENDED_DATA_STDERR
# What a program may have left behind: colours, character sets, margins, a hidden cursor, its keys, mouse and pastes.
RESTORED: Final = (
    b"\x1b[0m\x0f\x1b(B\x1b7\x1b[r\x1b8\x1b[?1l\x1b>\x1b[?7h\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l"
    b"\x1b[?1004l\x1b[?2004l"
)
_ALTERNATE: Final = re.compile(rb"\x1b\[\?(?:47|1047|1049)([hl])")
_SEQUENCES: Final = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[()][0-B]|[=>78])")
"""What moves or dresses and writes nothing, as far as it matters to whether a row was begun."""
_ROW_ENDS: Final = (b"\n", b"\r")
_LONE_NEWLINE: Final = re.compile(rb"(?<!\r)\n")


class Desk(Protocol):
    """Who draws on the console at the moment: a line that is typed, or what is waited for."""

    def notice(self, text: bytes) -> bytes:
        """Whole rows, as they are to be sent."""
        ...

    def leave(self) -> bytes:
        """Draws no more; the cursor stands at the start of a row."""
        ...


class Console:
    """One client's console, as pump.Outlet.

    Args:
        terminal: whether the client has one; without, output and errors go apart and untouched.
        plain: whether it is one that knows no escape sequences.
    """

    def __init__(self, wire: Wire, *, terminal: bool, plain: bool = False) -> None:
        self.wire, self.terminal = wire, terminal
        self._plain = plain
        self.desk: Desk | None = None
        self.bottom: int | None = None
        """The terminal's last row, while a program draws on the whole of it."""
        self._sink: RecordingSink | None = None
        self._turn = asyncio.Lock()
        self._told = ""
        self._after_return = False
        self._at_start = self._was_at_start = True
        self._alternate = self._dressed = False
        self._owed = b""
        """What the next row of the gateway's own begins with."""

    def record_to(self, sink: RecordingSink) -> None:
        """From here on everything is recorded; nothing is shown before."""
        self._sink = sink

    # ---- Outlet ------------------------------------------------------------------------------------------------------
    async def out(self, data: bytes) -> None:
        """As Outlet."""
        await self.program(data, drawn=False)

    async def err(self, data: bytes) -> None:
        """As Outlet."""
        if self.terminal:
            await self.program(data, drawn=False)
        else:
            await self._show(data, Kind.ERR)

    async def warn(self, left: timedelta) -> None:
        """As Outlet."""
        await self.say(f"access ends in {int(left.total_seconds())} s")

    async def tell(self, line: str) -> None:
        """As Outlet. Told once, also where the shell and the line that runs in it are both told."""
        if line != self._told:
            self._told = line
            await self.say(line)

    def over(self, lines: Sequence[str]) -> None:
        """As Outlet. The last lines were told before, recorded like all that is shown."""
        del lines
        self.wire.over()

    # ---- showing -----------------------------------------------------------------------------------------------------
    async def program(self, data: bytes, *, drawn: bool) -> None:
        """A program's output. `drawn`: it had a terminal of its own on the target, which ends its lines."""
        if self.terminal and not drawn:
            data = self._with_returns(data)
        self._note(data)
        await self._show(data, Kind.OUT)

    async def draw(self, data: bytes) -> None:
        """The gateway's own drawing, whole and safe as it is."""
        if data:
            await self._show(data, Kind.OUT)

    async def say(self, line: str) -> None:
        """A row of the gateway's own; `line` may hold what others wrote."""
        text = f"grantd: {visible(line)}\r\n".encode("utf-8", "backslashreplace")
        text, self._owed = self._owed + text, b""
        if not self.terminal:
            await self._show(text, Kind.ERR)
        elif self.desk is not None:
            await self._show(self.desk.notice(text), Kind.OUT)
        elif self.bottom is not None and not self._plain:
            await self._show(self._over_the_program(text), Kind.OUT)
        else:
            await self._show(self._fresh_row() + text, Kind.OUT)

    def leave(self) -> None:
        """Nobody draws any more. What is still said, such as why it is over, stands below all that was shown."""
        self._owed += self.desk.leave() if self.desk is not None else b""
        self.desk = self.bottom = None
        self._owed += self.settled()

    def settled(self) -> bytes:
        """What puts the terminal back after a program, and the cursor to the start of a row."""
        out = b""
        if self._alternate:
            out += b"\x1b[?1049l"
            self._at_start = self._was_at_start
        if self._dressed and not self._plain:
            out += RESTORED
        self._alternate = self._dressed = False
        return out + self._fresh_row()

    async def mark(self, label: str, code: str, audit_id: str) -> None:
        """A decision, in the recording alone."""
        if self._sink is not None:
            await self._sink.marker(label, code, audit_id)

    async def note(self, kind: Kind, payload: bytes) -> None:
        """Something else that belongs into the recording."""
        if self._sink is not None:
            await self._sink.event(kind, _CHANNEL, payload)

    # ---- in order ----------------------------------------------------------------------------------------------------
    async def _show(self, data: bytes, kind: Kind) -> None:
        if self._sink is None:
            raise ConnectionError("nothing is shown before it can be recorded")
        async with self._turn:
            await self._sink.event(kind, _CHANNEL, data)
            await self.wire.write(data, _STDERR if kind is Kind.ERR else None)

    def _over_the_program(self, text: bytes) -> bytes:
        """In the last row, with the cursor where it was: the program's next picture takes it away."""
        return b"\x1b7\x1b[%d;1H\x1b[0;7m%b\x1b[0m\x1b[K\x1b8" % (self.bottom or 1, text.rstrip(b"\r\n"))

    def _with_returns(self, data: bytes) -> bytes:
        """A line feed alone leaves the cursor in its column: the client's terminal is in raw mode."""
        if self._after_return and data.startswith(b"\n"):
            fixed = b"\n" + _LONE_NEWLINE.sub(b"\r\n", data[1:])
        else:
            fixed = _LONE_NEWLINE.sub(b"\r\n", data)
        self._after_return = data.endswith(b"\r")
        return fixed

    def _note(self, data: bytes) -> None:
        self._dressed = self._dressed or b"\x1b" in data or b"\x0e" in data
        rest = data
        for found in _ALTERNATE.finditer(data):
            if not self._alternate and found[1] == b"h":
                before = _SEQUENCES.sub(b"", data[: found.start()])
                self._was_at_start = before.endswith(_ROW_ENDS) if before else self._at_start
            if self._alternate and found[1] == b"l":
                self._at_start = self._was_at_start  # the cursor is back where the program found it
            self._alternate, rest = found[1] == b"h", data[found.end() :]
        if rest := _SEQUENCES.sub(b"", rest):
            self._at_start = rest.endswith(_ROW_ENDS)

    def _fresh_row(self) -> bytes:
        fresh, self._at_start = b"" if self._at_start else b"\r\n", True
        return fresh
