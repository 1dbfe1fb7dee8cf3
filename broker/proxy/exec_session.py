"""One command through the SSH door: the same gate, the same recorder as every other way in (I-18).

What people read stands on stderr, each line behind `grantd: `. Exit status 126 says that the command did not run.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncssh
import structlog

from broker.core.action import Action, ActionState, StdinMode
from broker.core.errors import Fault, Refusal
from broker.core.records import code_of
from broker.proxy import limits
from broker.service.gateway import Admission
from broker.service.propose import CommandInput

if TYPE_CHECKING:
    from broker.proxy.channel import GatewayChannel
    from broker.proxy.connection import GatewayConnection
    from broker.service.start import Ticket
    from broker.service.use_cases import UseCases

log = structlog.get_logger()
NOT_RUN = 126
_STDERR = asyncssh.EXTENDED_DATA_STDERR


class ExecSession(asyncssh.SSHServerSession[bytes]):
    """The session of one GatewayChannel: inlet and outlet of one command."""

    def __init__(self, connection: GatewayConnection, admission: Admission) -> None:
        self._connection, self._admission = connection, admission
        self._channel: GatewayChannel
        self._stdin: deque[bytes] = deque()
        self._stdin_bytes = 0
        self._stdin_open = True
        self._stdin_wanted = False
        self._told_stdin = False
        self._arrived = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()
        self._task: asyncio.Task[None] | None = None
        self._gone = False

    # ---- what asyncssh tells -----------------------------------------------------------------------------------------
    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """The channel is open."""
        self._channel = chan  # type: ignore[assignment]  # GatewayConnection makes no other
        self._channel.set_write_buffer_limits(high=limits.SEND_HIGH)
        self._connection.sessions_open += 1

    def command_requested(self, command: bytes, environment: Mapping[str, str]) -> bool:
        """Starts deciding the one command; the target hears nothing of it yet (I-23)."""
        mode = self._stdin_mode(self._connection.door.use_cases, command)
        self._stdin_wanted = mode is StdinMode.STREAM
        given = CommandInput(line=command, cwd="", env=environment, stdin_mode=mode, stdin=b"", pty=False)
        self._task = self._connection.door.spawn(self._serve(given))
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: what runs is cut, what waits is taken back."""
        self._gone = True
        self._connection.sessions_open -= 1
        self._arrived.set()
        self._roomy.set()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Stdin: kept within bounds, or refused with a word where this command has none."""
        if self._task is not None and not self._stdin_wanted:
            self._tell_no_stdin()
            return
        self._stdin.append(data)
        self._stdin_bytes += len(data)
        if self._stdin_bytes >= limits.STDIN_HIGH:
            self._channel.pause_reading()
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
        """As Inlet."""
        while not self._stdin:
            if self._gone:
                raise ConnectionError("the client is gone")
            if not self._stdin_open:
                return b""
            self._arrived.clear()
            await self._arrived.wait()
        data = self._stdin.popleft()
        self._stdin_bytes -= len(data)
        if self._stdin_bytes < limits.STDIN_HIGH // 2:
            self._channel.resume_reading()
        return data

    # ---- Outlet ------------------------------------------------------------------------------------------------------
    async def out(self, data: bytes) -> None:
        """As Outlet."""
        await self._send(data, None)

    async def err(self, data: bytes) -> None:
        """As Outlet."""
        await self._send(data, _STDERR)

    async def warn(self, left: timedelta) -> None:
        """As Outlet."""
        await self._say(f"access ends in {int(left.total_seconds())} s")

    async def _send(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Writes, then waits until neither window nor socket nor an unfinished key exchange holds the bytes back."""
        if self._gone:
            raise ConnectionError("the client is gone")
        self._channel.write(data, datatype)
        try:
            async with asyncio.timeout(limits.WRITE_WITHIN_S):
                await self._roomy.wait()
                await self._connection.until_writable()
        except TimeoutError:
            raise ConnectionError("the client takes no output") from None

    async def _say(self, line: str) -> None:
        await self.err(f"grantd: {line}\r\n".encode())

    # ---- the command -------------------------------------------------------------------------------------------------
    async def _serve(self, given: CommandInput) -> None:
        status = NOT_RUN
        try:
            status = await self._decide_and_run(given)
        except Refusal as refusal:
            await self._say(refusal.message + (f"; {refusal.way_out}" if refusal.way_out else ""))
        except Fault as fault:
            log.warning("gateway.exec_failed", cause=fault.what)
            await self._say("the broker could not do this")
        except ConnectionError:
            return
        if not self._gone:
            self._channel.exit(status)

    async def _decide_and_run(self, given: CommandInput) -> int:
        use_cases = self._connection.door.use_cases
        caller, grant = self._admission.caller, self._admission.grant
        key = self._connection.door.token()
        proposal = await use_cases.propose.propose(caller, grant.id, given, idempotency_key=key, reason="", door="ssh")
        ticket = proposal.ticket or await self._when_allowed(use_cases, proposal.action)
        if ticket is None:
            return NOT_RUN
        return _exit(self._channel, await use_cases.run.run(ticket, self, self))

    def _stdin_mode(self, use_cases: UseCases, command: bytes) -> StdinMode:
        """A read may have stdin; above read only where the grant streams it: the door cannot know it beforehand."""
        if "stream_stdin" in self._admission.grant.flags or use_cases.propose.only_reads(command):
            return StdinMode.STREAM
        return StdinMode.NONE

    async def _when_allowed(self, use_cases: UseCases, action: Action) -> Ticket | None:
        """Waits for a person; a client that leaves meanwhile takes the action back (threats.md F06)."""
        caller = self._admission.caller
        await self._say(f"waiting for a person to allow this ({code_of(action.digest())})")
        try:
            async for now in use_cases.run.until_decided(caller, action.id):
                last = now
        except (asyncio.CancelledError, ConnectionError):
            await asyncio.shield(use_cases.waiting.cancel(caller, action.id))
            raise
        if last.state is not ActionState.ALLOWED:
            await self._say(f"{last.state}: {last.note}" if last.note.isprintable() else str(last.state))
            return None
        await self._say("allowed")
        return await use_cases.run.start(caller, action.id, door="ssh")

    def _tell_no_stdin(self) -> None:
        if not self._told_stdin:
            self._told_stdin = True
            words = b"grantd: stdin is not passed on; ask for a grant with stream_stdin\r\n"
            self._channel.write(words, _STDERR)


def _exit(channel: GatewayChannel, action: Action) -> int:
    """The command's own exit status; a signal is passed on as the usual 128 and its place is told by words."""
    outcome = action.outcome
    if outcome is None or (outcome.exit_status is None and not outcome.signal):
        reason = outcome.reason if outcome else "unknown"
        channel.write(f"grantd: ended: {reason}\r\n".encode(), _STDERR)
        return NOT_RUN
    if outcome.exit_status is not None:
        return outcome.exit_status
    channel.exit_with_signal(outcome.signal, False, "", "")  # noqa: FBT003
    return NOT_RUN
