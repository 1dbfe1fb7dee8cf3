"""The shell of a client without a terminal (`ssh -T web1 < script`): line after line, each through the gate.

Goes on after a command that failed, as a shell does, and stops at the first line that did not run: what follows was
written for a world in which it had.
"""

from __future__ import annotations

import asyncio
from typing import Final, assert_never

from broker.core import shell_line
from broker.core.action import Action, ActionState
from broker.core.errors import Fault, Refusal
from broker.core.records import code_of
from broker.core.shell_line import read_line
from broker.proxy.shell.console import Console
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
from broker.service.pump import Outlet, decision_of
from policy.shell import MAX_COMMAND_BYTES
from policy.shell.outline import unfinished

_READ_WITHIN_S: Final = 2.0
"""Seconds of the processor that one line of many rows may cost before it is whole."""
_NO_HISTORY: Final = "there is no history without a terminal"


class Script:
    """One shell without a terminal."""

    def __init__(self, console: Console, runner: Runner) -> None:
        self._console, self._runner = console, runner
        self._waiting = b""
        self._over = False
        self._kept: dict[str, str] = {}
        self._cwd = self._before = ""
        self._status = 0
        self._stopped = False

    async def run(self) -> int:
        """To the end of the input, or to the first line that did not run; the last exit status."""
        while not self._stopped and (text := await self._next()) is not None:
            asked = read_line(text, kept=self._kept, before=self._before)
            if isinstance(asked, shell_line.Leave):
                return self._status if asked.status is None else asked.status
            await self._obey(asked)
        return self._status

    async def _next(self) -> str | None:
        """The next whole line, or several where one is not finished; None at the end.

        Rows made to be hard to read are not read for ever: what came so far is the line then, and the gate refuses it.
        """
        text, now, left_s = b"", asyncio.get_running_loop().time, _READ_WITHIN_S
        while (row := await self._row()) is not None:
            await asyncio.sleep(0)
            text += row
            started = now()
            if not text.strip() or left_s < 0 or not unfinished(text) or len(text) > MAX_COMMAND_BYTES:
                return text.decode("utf-8", "surrogateescape")
            left_s -= now() - started
            text += b"\n"
        return text.decode("utf-8", "surrogateescape") if text.strip() else None

    async def _row(self) -> bytes | None:
        """One row without its end; more than any command may have is enough to be refused."""
        while not self._over and b"\n" not in self._waiting and len(self._waiting) <= MAX_COMMAND_BYTES:
            data = await self._console.wire.read()
            self._over = not data
            self._waiting += data
        if self._over and not self._waiting:
            return None
        row, _, self._waiting = self._waiting.partition(b"\n")
        return row.removesuffix(b"\r")

    async def _obey(self, asked: shell_line.Asked) -> None:
        match asked:
            case shell_line.Command(line=line):
                await self._ran(line, self._console)
            case shell_line.ChangeDirectory(line=line):
                captured = Captured(self._console)
                if await self._ran(line, captured):
                    to = directory_in(captured.data)
                    self._before, self._cwd = self._cwd or self._before, to
                    self._stopped = not to
            case shell_line.Keep(variables=variables):
                self._kept |= variables
                self._stopped = len(self._kept) > shell_line.MAX_KEPT
            case shell_line.Drop(names=names):
                self._kept = {name: value for name, value in self._kept.items() if name not in names}
            case shell_line.NotKept(why=why):
                await self._stop(why)
            case shell_line.ListKept() | shell_line.Help() | shell_line.ShowHistory():
                await self._console.say(_NO_HISTORY)
            case shell_line.Nothing() | shell_line.Leave():
                pass
            case _:
                assert_never(asked)

    async def _stop(self, why: str) -> None:
        self._stopped, self._status = True, NOT_RUN
        await self._console.say(f"{why}; nothing of the rest was run")

    async def _ran(self, command: bytes, outlet: Outlet) -> bool:
        """Whether it ran and ended well."""
        line = Line(command=command, cwd=self._cwd, terminal=False)
        try:
            proposal = await self._runner.proposed(line)
            action = proposal.action
            ticket = proposal.ticket
            if ticket is None:
                action = await self._decided(action)
                if action.state is not ActionState.ALLOWED:
                    await self._stop(f"{action.state}: {action.note}" if action.note else str(action.state))
                    return False
                ticket = await self._runner.started(action)
            await self._console.mark(*decision_of(action))
            finished = await self._runner.run(ticket, Nothing(), outlet, ClientSteering())
        except Refusal as refusal:
            await self._stop(in_words(refusal))
            return False
        except Fault:
            await self._stop(UNABLE)
            return False
        self._status = status_of(finished)
        self._stopped = finished.outcome is None or bool(finished.outcome.reason)
        if finished.outcome is not None and finished.outcome.reason:
            await self._console.say(f"ended: {finished.outcome.reason}")
        return self._status == 0

    async def _decided(self, action: Action) -> Action:
        await self._console.say(f"waiting for a person to allow this ({code_of(action.digest())})")
        return await self._runner.decided(action)
