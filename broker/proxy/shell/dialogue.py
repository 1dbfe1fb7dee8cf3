"""The shell of a client with a terminal: a line is typed, decided, run; its end stands in the next prompt.

What is typed while a line runs and has no keyboard stays in the gateway: Ctrl-C interrupts, the rest is text of the
next line and runs nothing by itself. The remote never reads a command from this terminal.
"""

from __future__ import annotations

import asyncio
import struct
from datetime import timedelta
from typing import Final, assert_never

from broker.core import shell_line
from broker.core.action import Action, ActionState, StdinMode
from broker.core.errors import Fault, Refusal
from broker.core.records import code_of
from broker.core.shell_line import read_line
from broker.core.terminal import Signal, Size
from broker.proxy import limits
from broker.proxy.shell import words
from broker.proxy.shell.cells import Styled
from broker.proxy.shell.completion import Completer, Completion, columns_of
from broker.proxy.shell.console import Console
from broker.proxy.shell.editor import MAX_AHEAD, Editor, Entered, Interrupted, Left, Wanted
from broker.proxy.shell.runner import (
    NOT_RUN,
    UNABLE,
    Captured,
    Line,
    Nothing,
    Runner,
    directory_in,
    in_words,
    status_of,
)
from broker.proxy.steering import ClientSteering
from broker.service.pump import Inlet, Outlet, decision_of
from broker.service.sealing import first
from broker.service.start import Ticket
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


class Drawn:
    """A program's Outlet on the console; `drawn`: it has a terminal of its own on the target."""

    def __init__(self, console: Console, *, drawn: bool) -> None:
        self._console, self._drawn = console, drawn

    async def out(self, data: bytes) -> None:
        """As Outlet."""
        await self._console.program(data, drawn=self._drawn)

    async def err(self, data: bytes) -> None:
        """As Outlet."""
        await self._console.program(data, drawn=self._drawn)

    async def warn(self, left: timedelta) -> None:
        """The shell's own session warns, once."""

    async def tell(self, line: str) -> None:
        """As Outlet."""
        await self._console.tell(line)


class Dialogue:
    """One shell with a terminal.

    Args:
        left_s: seconds until the access ends.
    """

    def __init__(self, console: Console, runner: Runner, place: words.Place, *, left_s: float) -> None:
        self._console, self._runner, self._place = console, runner, place
        self._wire = console.wire
        self._loop = asyncio.get_running_loop()
        self._ends = self._loop.time() + left_s
        size = self._wire.steering.terminal.size
        self._editor = Editor(columns=size.columns, lines=size.rows, hint=self._hint, unfinished=_unfinished)
        self._completer = Completer(runner.programs(), self._list, self._loop.time)
        self._kept: dict[str, str] = {}
        self._cwd = self._before = ""
        self._status = 0
        self._ahead = b""
        self._steering: ClientSteering | None = None
        """Of the line that runs."""

    async def run(self) -> int:
        """Until the person leaves; the last exit status."""
        async with asyncio.TaskGroup() as group:
            following = group.create_task(self._follow())
            try:
                return await self._lines()
            finally:
                following.cancel()

    async def _lines(self) -> int:
        self._console.desk = self._editor
        while True:
            text = await self._read_line()
            if text is None:
                return self._status
            self._console.desk = None
            leaves = await self._obey(text)
            if leaves is not None:
                return leaves
            await self._console.draw(self._console.settled())
            self._console.desk = self._editor

    # ---- a line is typed ---------------------------------------------------------------------------------------------
    async def _read_line(self) -> str | None:
        """What was entered; None where the person leaves."""
        ahead, self._ahead = self._ahead, b""
        await self._console.draw(self._editor.begin(self._prompt(), ahead=ahead))
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
                        await self._console.draw(self._editor.begin(self._prompt()))
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

    def _prompt(self) -> tuple[Styled, ...]:
        return tuple(
            words.prompt(
                self._place, left_s=self._ends - self._loop.time(), cwd=self._cwd, status=self._status,
                columns=self._editor.columns,
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
                    if self._steering is not None:
                        self._steering.resized(size)
                    if self._console.bottom is not None:
                        self._console.bottom = size.rows
                    await self._console.draw(self._editor.resize(columns=size.columns, lines=size.rows))
                case Signal() as name:
                    if self._steering is not None:
                        self._steering.signalled(name)

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
        status = await self._ran(Line(command=line, cwd=self._cwd, terminal=False), captured)
        if status == 0:
            to = directory_in(captured.data)
            if not to:
                await self._console.say("the target told no directory that can be shown")
                return 1
            self._before, self._cwd = self._cwd or self._before, to
        return status

    async def _command(self, asked: shell_line.Command) -> int:
        line = Line(command=asked.line, cwd=self._cwd, terminal=asked.terminal)
        return await self._ran(line, Drawn(self._console, drawn=asked.terminal))

    async def _ran(self, line: Line, outlet: Outlet) -> int:
        """One action, from the gate to its end; whatever kept it from running is told in words."""
        try:
            proposal = await self._runner.proposed(line)
            ticket = proposal.ticket or await self._when_allowed(proposal.action)
            if ticket is None:
                return NOT_RUN
            return await self._run(ticket, outlet)
        except (Refusal, Fault) as error:
            await self._explain(error)
        except ExceptionGroup as several:
            await self._explain(first(several))
        return NOT_RUN

    async def _explain(self, error: Exception) -> None:
        match error:
            case Refusal():
                await self._console.mark(f"refused: {error.code}", "SE2004W", "")
                await self._console.say(in_words(error))
            case Fault():
                await self._console.say(UNABLE)
            case _:
                raise error

    async def _when_allowed(self, action: Action) -> Ticket | None:
        """Waits for a person, in place; Ctrl-C takes it back."""
        await self._console.mark(f"{action.command_class.word}: waits for a person", "SE2003I", action.id)
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(self._count_down(action)),
                group.create_task(self._take_back_on_interrupt(action)),
            ]
            last = await self._runner.decided(action)
            for task in beside:
                task.cancel()
        note = f": {last.note}" if last.note else ""
        await self._console.again((), ends=False)
        await self._console.say(f"{last.state}{note}")
        return await self._runner.started(last) if last.state is ActionState.ALLOWED else None

    async def _count_down(self, action: Action) -> None:
        code = code_of(action.digest())
        while True:
            remaining = action.expires_at - self._runner.now()
            await self._console.again(words.waiting(code, remaining, columns=self._editor.columns))
            await asyncio.sleep(_TICK_S)

    async def _take_back_on_interrupt(self, action: Action) -> None:
        while data := await self._wire.read():
            if _INTERRUPT in data:
                await self._runner.take_back(action.id)
                return
            self._keep_ahead(data)

    async def _run(self, ticket: Ticket, outlet: Outlet) -> int:
        action = ticket.action
        await self._console.mark(*decision_of(action))
        self._steering = ClientSteering()
        if action.pty:
            self._steering.open(self._wire.steering.terminal)
            if action.stdin_mode is StdinMode.NONE:
                await self._console.say("this command gets no keyboard; Ctrl-C interrupts it")
        self._console.bottom = self._editor.lines if action.pty else None
        try:
            finished = await self._with_keys(ticket, outlet, self._steering)
        finally:
            self._steering = self._console.bottom = None
        self._keep_ahead(self._wire.drain())  # meant for the program, which is gone: it runs nothing
        await self._console.draw(self._console.settled())
        if finished.outcome is not None and finished.outcome.reason:
            await self._console.say(f"ended: {finished.outcome.reason}")
        elif finished.outcome is not None and finished.outcome.signal:
            await self._console.say(f"ended by signal {finished.outcome.signal}")
        return status_of(finished)

    async def _with_keys(self, ticket: Ticket, outlet: Outlet, steering: ClientSteering) -> Action:
        """Runs it; its keyboard, where it has one, is the client's own as long as it runs."""
        if ticket.action.stdin_mode is not StdinMode.NONE:
            keyboard: Inlet = self._wire
            return await self._runner.run(ticket, keyboard, outlet, steering)
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(self._listen(ticket.action, steering))
            finished = await self._runner.run(ticket, Nothing(), outlet, steering)
            listening.cancel()
        return finished

    async def _listen(self, action: Action, steering: ClientSteering) -> None:
        """Ctrl-C interrupts; a second one ends the line for good."""
        interrupted = False
        while data := await self._wire.read():
            if _INTERRUPT not in data:
                self._keep_ahead(data)
            elif interrupted:
                await self._runner.take_back(action.id)
            else:
                interrupted, self._ahead = True, b""
                steering.signalled(Signal.INT)

    def _keep_ahead(self, data: bytes) -> None:
        self._ahead = (self._ahead + data)[:MAX_AHEAD]


def _unfinished(text: str) -> bool:
    return len(text) <= _MAY_GO_ON and unfinished(text.encode("utf-8", "surrogateescape"))


def _put(found: Completion) -> str:
    """What all candidates share; one alone ends its word, unless it is a folder."""
    if len(found.texts) == 1:
        return found.texts[0] + ("" if found.texts[0].endswith("/") else " ")
    return found.common()
