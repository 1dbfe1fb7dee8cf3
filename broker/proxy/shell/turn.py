"""One line at a terminal: from the gate to its end, with whoever is waited for shown in place.

What is typed while it runs and has no keyboard stays in the gateway: Ctrl-C interrupts, the rest is text of the next
line and runs nothing by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from broker.core.action import Action, ActionState, StdinMode
from broker.core.errors import Fault, Refusal
from broker.core.records import code_of
from broker.core.terminal import Signal, Size
from broker.proxy.shell import words
from broker.proxy.shell.canvas import Canvas
from broker.proxy.shell.console import Console
from broker.proxy.shell.editor import MAX_AHEAD
from broker.proxy.shell.runner import NOT_RUN, UNABLE, Line, Nothing, Runner, in_words, status_of
from broker.proxy.shell.strip import Strip
from broker.proxy.steering import ClientSteering
from broker.service.pump import Inlet, Outlet, decision_of
from broker.service.sealing import first
from broker.service.start import Ticket

_INTERRUPT: Final = b"\x03"
_TICK_S: Final = 1.0


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

    def over(self, lines: Sequence[str]) -> None:
        """The shell goes on, or is over itself and says so."""


class Turn:
    """Runs the lines of one shell, one after the other.

    Args:
        canvas: an empty one, as large as the terminal is.
    """

    def __init__(self, console: Console, runner: Runner, canvas: Callable[[], Canvas]) -> None:
        self._console, self._runner, self._canvas = console, runner, canvas
        self._wire = console.wire
        self._ahead = b""
        self._steering: ClientSteering | None = None
        """Of the line that runs."""
        self._strip: Strip | None = None
        """While a person is waited for."""

    def take_ahead(self) -> bytes:
        """What was typed with no prompt to type at; once."""
        ahead, self._ahead = self._ahead, b""
        return ahead

    def resized(self, size: Size) -> bytes:
        """The terminal has another size: what to send to it."""
        if self._steering is not None:
            self._steering.resized(size)
        if self._console.bottom is not None:
            self._console.bottom = size.rows
        return b"" if self._strip is None else self._strip.resize(columns=size.columns, lines=size.rows)

    def signalled(self, name: Signal) -> None:
        """The client sends what runs a signal."""
        if self._steering is not None:
            self._steering.signalled(name)

    async def ran(self, line: Line, outlet: Outlet) -> int:
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
        self._console.desk = self._strip = Strip(self._canvas())
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(self._count_down(action, self._strip)),
                group.create_task(self._take_back_on_interrupt(action)),
            ]
            last = await self._runner.decided(action)
            for task in beside:
                task.cancel()
        taken_away, self._console.desk, self._strip = self._strip.leave(), None, None
        await self._console.draw(taken_away)
        note = f": {last.note}" if last.note else ""
        await self._console.say(f"{last.state}{note}")
        return await self._runner.started(last) if last.state is ActionState.ALLOWED else None

    async def _count_down(self, action: Action, strip: Strip) -> None:
        code = code_of(action.digest())
        while True:
            remaining = action.expires_at - self._runner.now()
            await self._console.draw(strip.show(words.waiting(code, remaining, columns=strip.columns)))
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
        self._console.bottom = self._wire.steering.terminal.size.rows if action.pty else None
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
