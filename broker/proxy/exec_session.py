"""One command through the SSH door: the same gate, the same recorder as every other way in (I-18).

What people read stands on stderr, each line behind `grantd: `. Exit status 126 says that the command did not run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import asyncssh
import structlog

from broker.core.action import Action, ActionState, StdinMode
from broker.core.errors import Fault, Refusal
from broker.core.records import code_of
from broker.core.terminal import Signal
from broker.proxy import limits
from broker.proxy.sftp.session import FileSession
from broker.proxy.steering import ClientSteering
from broker.service.gateway import Admission
from broker.service.propose import CommandInput
from broker.service.shield import to_the_end

if TYPE_CHECKING:
    from broker.core.ids import SessionId
    from broker.core.sftp import Sessions
    from broker.proxy.channel import GatewayChannel
    from broker.proxy.connection import GatewayConnection
    from broker.service.sessions import Sessions as Halves
    from broker.service.start import Ticket
    from broker.service.transfer import Conversation

log = structlog.get_logger()
NOT_RUN: Final = 126
_STDERR: Final = asyncssh.EXTENDED_DATA_STDERR
_NO_STDIN: Final = b"grantd: stdin is not passed on; ask for a grant with stream_stdin\r\n"
_NO_KEYBOARD: Final = b"grantd: this command gets no keyboard; Ctrl-C interrupts it\r\n"


class ExecSession(asyncssh.SSHServerSession[bytes]):
    """The session of one GatewayChannel: inlet and outlet of one command."""

    def __init__(self, connection: GatewayConnection, admission: Admission) -> None:
        self._connection, self._admission = connection, admission
        self._channel: GatewayChannel
        self.steering = ClientSteering()
        self._stdin = bytearray()
        self._stdin_open = True
        self._no_stdin = self._told_no_stdin = self._waits = self._taken_back = False
        self._reading = False
        self._used = 0
        """Bytes of stdin consumed since the client was last told."""
        self._arrived = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()
        self._task: asyncio.Task[None] | None = None
        self._interruptible = self._gone = False
        self._file_session: SessionId | None = None
        """The reading session of files, in which the writing one is: who watches the one watches both."""

    # ---- what asyncssh tells -----------------------------------------------------------------------------------------
    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """The channel is open."""
        self._channel = chan  # type: ignore[assignment]  # GatewayConnection makes no other

    def command_requested(self, command: bytes, environment: Mapping[str, str]) -> None:
        """Starts deciding the one command; the target hears nothing of it yet (I-23)."""
        self._connection.command_runs()
        self._task = self._connection.door.spawn(self._serve(lambda: self._decide_and_run(command, environment)))

    def files_requested(self, sessions: Sessions) -> None:
        """Starts deciding a file session; the target hears nothing of it yet (I-23)."""
        self._connection.command_runs()
        self._task = self._connection.door.spawn(self._serve(lambda: self._decide_and_transfer(sessions)))

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: what runs is cut, what waits is taken back."""
        self._gone = True
        self._channel.leave()
        self._arrived.set()
        self._roomy.set()
        if self._interruptible and self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Stdin, never more than the window; or a word, where this command has none."""
        if self._interrupts(data):
            self._take_back()
        if self._no_stdin:
            self._without_stdin(data)
            return
        self._stdin += data
        self._arrived.set()

    def eof_received(self) -> bool:
        """The end of stdin; output goes on."""
        self._stdin_open = False
        self._arrived.set()
        return True

    def pause_writing(self) -> None:
        """The client's window is used up."""
        self._roomy.clear()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._roomy.set()

    # ---- Inlet -------------------------------------------------------------------------------------------------------
    async def read(self) -> bytes:
        """As Inlet. The first call says that the command runs: only now may a client send much."""
        if not self._reading:
            self._reading = True
            self._channel.take(limits.WINDOW - limits.WAITING_WINDOW)
        while not self._stdin:
            if self._gone:
                raise ConnectionError("the client is gone")
            if not self._stdin_open:
                return b""
            self._arrived.clear()
            await self._arrived.wait()
        data = bytes(self._stdin[: limits.PIECE])
        del self._stdin[: limits.PIECE]
        self._consumed(len(data))
        return data

    def _consumed(self, size: int) -> None:
        self._used += size
        if self._used >= limits.WAITING_WINDOW // 2:
            used, self._used = self._used, 0
            self._channel.take(used)

    # ---- Outlet ------------------------------------------------------------------------------------------------------
    async def out(self, data: bytes) -> None:
        """As Outlet."""
        await self._send(data, None)

    async def err(self, data: bytes) -> None:
        """As Outlet."""
        await self._send(data, _STDERR)

    async def warn(self, left: timedelta) -> None:
        """As Outlet."""
        await self.tell(f"access ends in {int(left.total_seconds())} s")

    async def tell(self, line: str) -> None:
        """As Outlet."""
        await self.err(_told(line))

    def over(self, lines: Sequence[str]) -> None:
        """As Outlet. The client is let go now: its channel closes behind these lines."""
        if not self._gone:
            with suppress(ConnectionError):  # it is closed already
                for line in lines:
                    self._channel.write(_told(line), _STDERR)
            self._channel.exit(NOT_RUN)

    async def _send(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Writes, then waits until neither window nor socket nor an unfinished key exchange holds the bytes back."""
        if self._gone:
            raise ConnectionError("the client is gone")
        self._channel.write(data, datatype)
        if self._roomy.is_set() and self._connection.is_writable:
            return  # as nearly always: no timer for each piece
        try:
            async with asyncio.timeout(limits.WRITE_WITHIN_S):
                await self._roomy.wait()
                await self._connection.until_writable()
        except TimeoutError:
            raise ConnectionError("the client takes no output") from None

    # ---- the command -------------------------------------------------------------------------------------------------
    @property
    def _halves(self) -> Halves:
        return self._connection.door.sessions

    async def _serve(self, work: Callable[[], Awaitable[int]]) -> None:
        try:
            status = await self._answered(work)
        except ConnectionError:
            return
        else:
            self._channel.exit(status)
        finally:
            # also after an error of ours: a client is never left to wait for an answer that does not come
            self._channel.abort()
            self._connection.command_ended()

    async def _answered(self, work: Callable[[], Awaitable[int]]) -> int:
        """The exit status; whatever kept the command from running is told in words."""
        try:
            return await work()
        except Refusal as refusal:
            await self.tell(refusal.message + (f"; {refusal.way_out}" if refusal.way_out else ""))
        except Fault as fault:
            log.warning("gateway.exec_failed", cause=fault.what)
            await self.tell("the broker could not do this")
        return NOT_RUN

    async def _decide_and_run(self, command: bytes, environment: Mapping[str, str]) -> int:
        ticket = await self._decided(await self._given(command, environment))
        if ticket is None:
            return NOT_RUN
        with self._interrupted_by_its_end():
            return _exit(self._channel, await self._halves.run.run(ticket, self, self, self.steering))

    async def _decided(self, given: CommandInput) -> Ticket | None:
        """Not interrupted while the store writes: a command that was started is known here, and cut (F06)."""
        proposal = await self._halves.control.propose(self._admission, given)
        return proposal.ticket or await self._when_allowed(proposal.action)

    # ---- files -------------------------------------------------------------------------------------------------------
    async def _decide_and_transfer(self, sessions: Sessions) -> int:
        ticket = await self.ticket(sessions.reading)
        if ticket is None:
            return NOT_RUN
        with self._interrupted_by_its_end():
            return _exit(self._channel, await self.transfer(ticket, FileSession(self, writing=sessions.writing)))

    async def ticket(self, command: bytes) -> Ticket | None:
        """As FileSession's Client."""
        streams = CommandInput(line=command, cwd="", env={}, stdin_mode=StdinMode.STREAM, stdin=b"", pty=False)
        return await self._decided(streams)

    async def transfer(self, ticket: Ticket, conversation: Conversation) -> Action:
        """As FileSession's Client."""
        within, self._file_session = self._file_session, self._file_session or ticket.session.id
        return await self._halves.run.transfer(ticket, conversation, within=within)

    async def _given(self, command: bytes, environment: Mapping[str, str]) -> CommandInput:
        """A read may have stdin; above read only where the grant streams it: the door cannot know it beforehand."""
        pty = self.steering.has_terminal
        mode = await self._halves.control.stdin_of(self._admission, command, pty=pty)
        self._no_stdin = mode is StdinMode.NONE
        if self._stdin and self._no_stdin:
            waiting, self._stdin = bytes(self._stdin), bytearray()
            self._without_stdin(waiting)
        return CommandInput(line=command, cwd="", env=environment, stdin_mode=mode, stdin=b"", pty=pty)

    async def _when_allowed(self, action: Action) -> Ticket | None:
        """Waits for a person; a client that leaves meanwhile takes the action back (F06)."""
        control, last = self._halves.control, action
        try:
            with self._interrupted_by_its_end():
                await self.tell(f"waiting for a person to allow this ({code_of(action.digest())})")
                self._waits = True
                if self._taken_back:  # sooner than it could be told that it waits
                    self._take_back()
                async for now in control.until_decided(self._admission, action.id):
                    last = now
                self._waits = False
                if last.state is ActionState.ALLOWED:
                    await self.tell("allowed")
        except (asyncio.CancelledError, ConnectionError):
            await to_the_end(control.take_back(self._admission, action.id))
            if not self._taken_back or self._gone:
                raise
            await self.tell("taken back")
            return None
        if last.state is not ActionState.ALLOWED:
            await self.tell(f"{last.state}: {last.note}" if last.note.isprintable() else str(last.state))
            return None
        return await control.start(self._admission, action.id)

    @contextmanager
    def _interrupted_by_its_end(self) -> Iterator[None]:
        """Where the client's leaving cancels this task, also if it left a moment ago."""
        before, self._interruptible = self._interruptible, True
        if self._gone and self._task is not None:
            self._task.cancel()
        try:
            yield
        finally:
            self._interruptible = before

    def _without_stdin(self, data: bytes) -> None:
        """Dropped, and told once; on a terminal Ctrl-C still interrupts."""
        self._consumed(len(data))
        if self._interrupts(data):
            self.steering.signalled(Signal.INT)
        elif not self._told_no_stdin:
            self._told_no_stdin = True
            self._channel.write(_NO_KEYBOARD if self.steering.has_terminal else _NO_STDIN, _STDERR)

    def _interrupts(self, data: bytes) -> bool:
        steering = self.steering
        return steering.has_terminal and bool(steering.terminal.interrupt) and steering.terminal.interrupt in data

    def _take_back(self) -> None:
        """Ctrl-C while a person is waited for: as if the client had left."""
        self._taken_back = True
        if self._waits and self._interruptible and self._task is not None:
            self._waits = False
            self._task.cancel()


def _exit(channel: GatewayChannel, action: Action) -> int:
    """The command's own exit status; a signal is told as SSH tells signals, a cut in words."""
    outcome = action.outcome
    if outcome is None or (outcome.exit_status is None and not outcome.signal):
        reason = outcome.reason if outcome else "unknown"
        channel.write(_told(f"ended: {reason}"), _STDERR)
        return NOT_RUN
    if outcome.exit_status is not None:
        return outcome.exit_status
    channel.exit_with_signal(outcome.signal, False, "", "")  # noqa: FBT003
    return NOT_RUN


def _told(line: str) -> bytes:
    return f"grantd: {line}\r\n".encode()
