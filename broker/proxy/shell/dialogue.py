"""The shell of a client with a terminal: a line is typed, decided, run; its end stands in the next prompt.

What is typed while a line runs and has no keyboard stays in the gateway: Ctrl-C interrupts, the rest is text of the
next line and runs nothing by itself. The remote never reads a command from this terminal.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Final, assert_never

from broker.core import shell_line
from broker.core.shell_line import read_line
from broker.core.terminal import Signal, Size
from broker.proxy import limits
from broker.proxy.shell import words
from broker.proxy.shell.canvas import Canvas
from broker.proxy.shell.cells import Styled
from broker.proxy.shell.completion import Completer, Completion, columns_of
from broker.proxy.shell.console import Console
from broker.proxy.shell.editor import Editor, Entered, Interrupted, Left, Wanted
from broker.proxy.shell.plain import Look, canvas_of
from broker.proxy.shell.runner import (
    Captured,
    Line,
    Runner,
    directory_in,
)
from broker.proxy.shell.turn import Drawn, Turn
from policy.shell import Classified
from policy.shell.outline import unfinished
from recorder.grec import Kind

_INTERRUPT: Final = b"\x03"
_GIVEN_UP: Final = 130
"""The status of a line that Ctrl-C gave up, as bash has it."""
_TICK_S: Final = 1.0
_REST_S: Final = 0.15
_HINTED: Final = 1024
"""Characters of a line that is classified while it is typed; a longer one is when it is entered."""
_MAY_GO_ON: Final = 4 * 1024
"""Characters of a line that Enter may continue; a longer one is entered, and the gate says what it is."""


class Dialogue:
    """One shell with a terminal.

    Args:
        look: what its terminal can do.
        left_s: seconds until the access ends.
    """

    def __init__(
        self, console: Console, runner: Runner, place: words.Place, look: Look, *, left_s: float
    ) -> None:  # fmt: skip
        self._console, self._runner, self._place = console, runner, place
        self._wire = console.wire
        self._loop = asyncio.get_running_loop()
        self._ends = self._loop.time() + left_s
        self._look = look
        hint = _no_hint if look is Look.PLAIN else self._hint
        self._editor = Editor(self._canvas(), hint=hint, unfinished=_unfinished, pastes=look is not Look.PLAIN)
        self._turn = Turn(console, runner, self._canvas)
        self._completer = Completer(runner.programs(), self._list, self._loop.time)
        self._kept: dict[str, str] = {}
        self._cwd = self._before = ""
        self._status = 0

    async def run(self) -> int:
        """Until the person leaves; the last exit status."""
        async with asyncio.TaskGroup() as group:
            following = group.create_task(self._follow())
            try:
                return await self._lines()
            finally:
                following.cancel()
                self._console.leave()

    def _canvas(self) -> Canvas:
        size = self._wire.steering.terminal.size
        return canvas_of(self._look, columns=size.columns, lines=size.rows)

    # ---- as console.Desk, while a line is typed ----------------------------------------------------------------------
    def notice(self, text: bytes) -> bytes:
        """As Desk; the time left in the prompt goes on with it."""
        return self._editor.notice(text, self._prompt(self._editor.columns))

    def leave(self) -> bytes:
        """As Desk; what was typed stays to be seen."""
        return self._editor.close()

    async def _lines(self) -> int:
        self._console.desk = self
        while True:
            text = await self._read_line()
            if text is None:
                return self._status
            self._console.desk = None
            leaves = await self._obey(text)
            if leaves is not None:
                return leaves
            await self._console.draw(self._console.settled())
            self._console.desk = self

    # ---- a line is typed ---------------------------------------------------------------------------------------------
    async def _read_line(self) -> str | None:
        """What was entered; None where the person leaves."""
        ahead = self._turn.take_ahead()
        await self._console.draw(self._editor.begin(self._prompt(self._editor.columns), ahead=ahead))
        while True:
            data = await self._typed()
            if not data:
                await self._console.draw(self._editor.close())
                if data is None:
                    await self._console.say("ended: idle")
                return None
            out, asked = self._editor.feed(data, more=self._wire.waiting)
            await self._console.draw(out)
            for each in asked:
                match each:
                    case Entered(text):
                        return text
                    case Interrupted():
                        self._status = _GIVEN_UP
                        await self._console.draw(self._editor.begin(self._prompt(self._editor.columns)))
                    case Left():
                        return None
                    case Wanted(text, cursor):
                        await self._complete(text, cursor)
                    case _:
                        assert_never(each)

    async def _typed(self) -> bytes | None:
        """What is typed next, empty at the end; None where nothing comes for long."""
        try:
            try:
                async with asyncio.timeout(_REST_S):
                    return await self._wire.read()
            except TimeoutError:
                await self._console.draw(self._editor.rested())
            async with asyncio.timeout(limits.SHELL_IDLE_S):
                return await self._wire.read()
        except TimeoutError:
            return None

    def _prompt(self, columns: int) -> tuple[Styled, ...]:
        return tuple(
            words.prompt(
                self._place, left_s=self._ends - self._loop.time(), cwd=self._cwd, status=self._status,
                columns=columns,
            )
        )  # fmt: skip

    def _hint(self, text: str) -> Styled:
        if len(text) > _HINTED:
            return words.NO_HINT
        match read_line(text, kept=self._kept, before=self._before):
            case shell_line.Command(line=line) | shell_line.ChangeDirectory(line=line):
                return words.hint(self._runner.seen(line))
            case _:
                return words.NO_HINT

    async def _complete(self, text: str, cursor: int) -> None:
        found = await self._completer.complete(text, cursor, cwd=self._cwd)
        if found is None or self._editor.text != text:
            await self._console.draw(self._editor.bell())
            return
        put = _put(found)
        if put != text[found.start : cursor]:
            await self._console.draw(self._editor.complete(found.start, cursor, put))
        else:
            rows = columns_of(found.names, self._editor.columns)
            await self._console.draw(self._editor.notice("".join(f"{row}\r\n" for row in rows).encode()))

    async def _list(self, command: bytes) -> bytes | None:
        return await self._runner.quietly(Line(command=command, cwd=self._cwd, terminal=False))

    async def _follow(self) -> None:
        """The client's window and signals, as long as the shell lives."""
        while True:
            match await self._wire.steering.next():
                case Size() as size:
                    await self._console.note(Kind.RESIZE, struct.pack(">HH", size.columns, size.rows))
                    await self._console.draw(self._resized(size))
                case Signal() as name:
                    self._turn.signalled(name)

    def _resized(self, size: Size) -> bytes:
        out = self._editor.resize(columns=size.columns, lines=size.rows, prompt=self._prompt(size.columns))
        return out + self._turn.resized(size)

    # ---- a line is obeyed --------------------------------------------------------------------------------------------
    async def _obey(self, text: str) -> int | None:
        """The status to leave with; None where the shell goes on."""
        asked = read_line(text, kept=self._kept, before=self._before)
        match asked:
            case shell_line.Command():
                self._status = await self._command(asked)
                if asked.note:
                    await self._console.say(asked.note)
            case shell_line.ChangeDirectory(line=line):
                self._status = await self._change_directory(line)
            case shell_line.Leave(status=status):
                return self._status if status is None else status
            case shell_line.NotKept(why=why):
                self._status = 1
                await self._console.say(why)
            case shell_line.Nothing():
                pass
            case (
                shell_line.Keep()
                | shell_line.Drop()
                | shell_line.ListKept()
                | shell_line.Help()
                | (shell_line.ShowHistory())
            ):
                self._status = 0
                await self._answer(asked)
            case _:
                assert_never(asked)
        return None

    async def _answer(self, asked: shell_line.Asked) -> None:
        """What the gateway answers by itself: nothing reaches the target."""
        match asked:
            case shell_line.Keep(variables=variables) if len({**self._kept, **variables}) > shell_line.MAX_KEPT:
                self._status = 1
                await self._console.say(f"no more than {shell_line.MAX_KEPT} variables are kept")
            case shell_line.Keep(variables=variables):
                self._kept |= variables
                await self._tell_class()
            case shell_line.Drop(names=names):
                self._kept = {name: value for name, value in self._kept.items() if name not in names}
            case shell_line.ListKept():
                for name, value in sorted(self._kept.items()):
                    await self._console.say(f"export {name}={shell_line.quoted(value)}")
            case shell_line.ShowHistory():
                for number, line in enumerate(self._editor.history.lines, 1):
                    await self._console.say(f"{number:4} {line}")
            case _:
                unattended = await self._runner.unattended()
                left_s = self._ends - self._loop.time()
                for row in words.help_rows(self._place, left_s=left_s, unattended=unattended, kept=self._kept):
                    await self._console.say(row)

    async def _tell_class(self) -> None:
        """What the variables that are kept make of the mildest line."""
        asked = read_line("true", kept=self._kept, before="")
        seen = self._runner.seen(asked.line) if isinstance(asked, shell_line.Command) else None
        if isinstance(seen, Classified) and (seen.opaque or seen.command_class.word != "read"):
            await self._console.say(f"kept; with it every line is at least {words.class_of(seen).text}")

    async def _change_directory(self, line: bytes) -> int:
        captured = Captured(Drawn(self._console, drawn=False))
        status = await self._turn.ran(Line(command=line, cwd=self._cwd, terminal=False), captured)
        if status == 0:
            to = directory_in(captured.data)
            if not to:
                await self._console.say("the target told no directory that can be shown")
                return 1
            self._before, self._cwd = self._cwd or self._before, to
        return status

    async def _command(self, asked: shell_line.Command) -> int:
        line = Line(command=asked.line, cwd=self._cwd, terminal=asked.terminal)
        return await self._turn.ran(line, Drawn(self._console, drawn=asked.terminal))


def _no_hint(_text: str) -> Styled:
    """Where it could not be told from what is typed."""
    return words.NO_HINT


def _unfinished(text: str) -> bool:
    return len(text) <= _MAY_GO_ON and unfinished(text.encode("utf-8", "surrogateescape"))


def _put(found: Completion) -> str:
    """What all candidates share; one alone ends its word, unless it is a folder."""
    if len(found.texts) == 1:
        return found.texts[0] + ("" if found.texts[0].endswith("/") else " ")
    return found.common()
