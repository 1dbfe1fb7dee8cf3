"""One line of a shell: proposed, waited for, run. The same gate as every other way in (I-18).

Whoever leaves takes back what waits and cuts what runs; what the store wrote meanwhile is never lost sight of (F06).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import structlog

from broker.core.action import Action, ActionState, StdinMode, checked_cwd
from broker.core.errors import Fault, Refusal
from broker.core.ids import ActionId, SessionId
from broker.proxy.steering import ClientSteering
from broker.service.gateway import Admission
from broker.service.propose import CommandInput, Proposal
from broker.service.pump import Inlet, Outlet
from broker.service.shield import settled, to_the_end
from broker.service.sight import classify
from broker.service.start import Ticket
from policy.shell import Verdict

if TYPE_CHECKING:
    from broker.proxy.server import SshDoor
    from broker.service.control import Control

log = structlog.get_logger()
NOT_RUN: Final = 126
_SIGNALLED: Final = 128
MAX_CAPTURED: Final = 64 * 1024
_QUIETLY_S: Final = 5.0
UNABLE: Final = "the broker could not do this"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What is to be run."""

    command: bytes
    cwd: str
    terminal: bool


def in_words(refusal: Refusal) -> str:
    """A refusal as one line."""
    return refusal.message + (f"; {refusal.way_out}" if refusal.way_out else "")


class Runner:
    """Proposes and runs lines under one grant."""

    def __init__(
        self, door: SshDoor, admission: Admission, environment: Mapping[str, str], shell: SessionId
    ) -> None:  # fmt: skip
        self._door, self._admission, self._shell = door, admission, shell
        self._with_terminal = dict(environment)
        self._without = {name: value for name, value in environment.items() if name != "TERM"}

    @property
    def _control(self) -> Control:
        return self._door.sessions.control

    def seen(self, line: bytes) -> Verdict:
        """What the classifier says of a line: a hint, no decision."""
        return classify(self._control.rules(self._admission), line)

    def programs(self) -> Iterable[str]:
        """Names that the catalogue knows."""
        return self._control.rules(self._admission).catalogue.entries

    async def unattended(self) -> Sequence[str]:
        """The classes that run without asking anybody."""
        classes = await self._control.unattended(self._admission)
        return [each.word for each in classes]

    def now(self) -> datetime:
        """By the broker's clock."""
        return self._door.now()

    async def given(self, line: Line) -> CommandInput:
        """A line as it is proposed. In a terminal it has the keyboard that the gate allows it; else no stdin."""
        mode = StdinMode.NONE
        if line.terminal:
            mode = await self._control.stdin_of(self._admission, line.command, pty=True)
        env = self._with_terminal if line.terminal else self._without
        return CommandInput(
            line=line.command, cwd=line.cwd, env=env, stdin_mode=mode, stdin=b"", pty=line.terminal
        )  # fmt: skip

    async def proposed(self, line: Line) -> Proposal:
        """Decided and written down. Raises Refusal and Fault; a cancellation meanwhile takes it back."""
        given = await self.given(line)
        proposal, cancelled = await settled(self._control.propose(self._admission, given))
        if cancelled is not None:
            if proposal.ticket is not None:
                await to_the_end(self._control.abandon(proposal.ticket))
            else:
                await self.take_back(proposal.action.id)
            raise cancelled
        return proposal

    async def take_back(self, action: ActionId) -> None:
        """Cancels what waits, cuts what runs; what is over stays as it is."""
        await to_the_end(self._control.take_back(self._admission, action))

    async def decided(self, action: Action) -> Action:
        """The action once it no longer waits for a person. A cancellation takes it back."""
        last = action
        try:
            async for now in self._control.until_decided(self._admission, action.id):
                last = now
        except (asyncio.CancelledError, ConnectionError):
            await self.take_back(action.id)
            raise
        return last

    async def started(self, action: Action) -> Ticket:
        """A ticket for what a person allowed."""
        return await self._control.start(self._admission, action.id)

    async def run(self, ticket: Ticket, inlet: Inlet, outlet: Outlet, steering: ClientSteering) -> Action:
        """To its end."""
        finished = await self._door.sessions.run.run(ticket, inlet, outlet, steering, within=self._shell)
        must_go_on()
        return finished

    async def quietly(self, line: Line) -> bytes | None:
        """What a read writes, where it runs without asking anybody; None for all else. Nothing waits for a person."""
        try:
            if not await self._control.runs_unseen(self._admission, await self.given(line)):
                return None  # it would wait for a person
            proposal = await self.proposed(line)
            if proposal.ticket is None:
                await self.take_back(proposal.action.id)
                return None
            captured = Captured()
            async with asyncio.timeout(_QUIETLY_S):
                finished = await self.run(proposal.ticket, Nothing(), captured, ClientSteering())
        except (Refusal, Fault, TimeoutError) as error:
            log.info("shell.completion_failed", cause=str(error))
            return None
        return captured.data if status_of(finished) == 0 else None


def must_go_on() -> None:
    """Raises CancelledError where the session was cut while something inside of it ended by itself."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def status_of(action: Action) -> int:
    """As bash counts: the exit status, 128 and the signal's number, or 126 for what did not run to an end."""
    outcome = action.outcome
    if action.state is ActionState.CUT or outcome is None:
        return NOT_RUN
    if outcome.exit_status is not None:
        return outcome.exit_status
    number = getattr(signal, f"SIG{outcome.signal}", 0) if outcome.signal else 0
    return _SIGNALLED + int(number) if number else NOT_RUN


def directory_in(captured: bytes) -> str:
    """The directory that `pwd -P` told; empty where it is none that could be shown and entered again (I-27)."""
    try:
        return checked_cwd(captured.decode().removesuffix("\n"))
    except (UnicodeDecodeError, Refusal):
        return ""


class Nothing:
    """An Inlet without stdin."""

    async def read(self) -> bytes:
        """The end, at once."""
        return b""


class Captured:
    """An Outlet that keeps a little of stdout; errors go on to `errors`, where there is one."""

    def __init__(self, errors: Outlet | None = None) -> None:
        self.data = b""
        self._errors = errors

    async def out(self, data: bytes) -> None:
        """As Outlet."""
        self.data = (self.data + data)[: MAX_CAPTURED + 1]

    async def err(self, data: bytes) -> None:
        """As Outlet."""
        if self._errors is not None:
            await self._errors.err(data)

    async def warn(self, left: timedelta) -> None:
        """The shell's own session warns."""

    async def tell(self, line: str) -> None:
        """As Outlet."""
        if self._errors is not None:
            await self._errors.tell(line)

    def over(self, lines: Sequence[str]) -> None:
        """The shell goes on, or is over itself and says so."""
