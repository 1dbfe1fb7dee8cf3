"""The one connection on which the reads of one grant run, with the reaper that ends them on the target.

Never shared between grants (I-22). A reaper that is gone ends the connection: no read runs unwatched.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, Protocol

import asyncssh

from broker.adapters.target_ssh.faults import fault, fault_of
from broker.adapters.target_ssh.process import RemoteProcess
from broker.core import wrapper
from broker.core.terminal import Signal
from broker.service.ports import Chunk, ExecPlan, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.adapters.target_ssh.connection import Connection

SLOTS: Final = 7
"""Reads at once: sshd's MaxSessions is 10; the reaper, the spare and one that is just closing take the rest."""
READY_SECONDS: Final = 5.0
START_SECONDS: Final = 10.0
"""For the target to open a session, and to take a command on it."""
_LEAST_SECONDS: Final = 0.01
_MAX_UNTOLD: Final = 16 * 1024
"""Bytes that a reaper may leave unread: hundreds of lines, more than its connection has commands."""
_OPEN_TRIES: Final = 9
_OPEN_AGAIN_SECONDS: Final = 0.02


class Nonces(Protocol):
    """Where the marks of commands come from."""

    def token(self, size: int) -> bytes: ...


class Pool:
    """A logged-in connection, its reaper and at most one session opened ahead."""

    def __init__(self, connection: Connection, reaper: RemoteProcess, nonces: Nonces) -> None:
        self._connection = connection
        self._reaper = reaper
        self._nonces = nonces
        self._slots = asyncio.Semaphore(SLOTS)
        self._spare: RemoteProcess | None = None
        self._refilling = False
        reaper.on_gone = connection.abort

    @classmethod
    async def open(cls, connection: Connection, *, seconds: float, nonces: Nonces) -> Pool:
        """Starts the reaper, which lives `seconds` at most. Raises TargetFault `no_bash`, `login_refused`."""
        reaper = await opened(connection)
        await reaper.run(wrapper.reaper_command(seconds=seconds), nonce="", stdin=True)
        try:
            async with asyncio.timeout(READY_SECONDS):
                await _ready(reaper)
        except TimeoutError:
            connection.abort()
            raise fault("no_bash") from None
        return cls(connection, reaper, nonces)

    @property
    def usable(self) -> bool:
        """Whether another read may start on it."""
        return not self._connection.is_closed()

    async def session(self) -> RemoteProcess:
        """A session with nothing sent on it; waits while SLOTS others are taken. Raises TargetFault."""
        await self._slots.acquire()
        try:
            process = await self._opened()
        except BaseException:
            self._slots.release()
            raise
        process.on_gone = lambda: self._ended(process, None)
        process.stop = lambda: self._stop(process)
        process.deliver = lambda name: self._signal(process, name)
        return process

    async def run(self, process: RemoteProcess, plan: ExecPlan) -> None:
        """Runs one read on a session of this pool. Raises TargetFault."""
        seconds = max(plan.seconds_left, _LEAST_SECONDS)
        self._expect_mark(process, seconds)
        nonce = self._nonces.token(16).hex()
        command = wrapper.read_command(plan.command, cwd=plan.cwd, env=plan.env, nonce=nonce)
        try:
            async with asyncio.timeout(START_SECONDS):
                await process.run(command, nonce=nonce, stdin=plan.wants_stdin)
        except BaseException:
            # it may run all the same: only its mark tells what to end
            self._connection.create_task(process.cut())
            raise
        self._tell(wrapper.started(seconds=seconds))
        self._refill()

    def abort(self) -> None:
        """Ends the connection now, and with it, on the target, everything that its reaper watches."""
        self._connection.abort()

    async def _opened(self) -> RemoteProcess:
        return await opened(self._connection, ahead=self._taken_spare)

    def _taken_spare(self) -> RemoteProcess | None:
        spare, self._spare = self._spare, None
        return spare if spare is not None and spare.channel.is_open else None

    def _refill(self) -> None:
        if self._spare is None and not self._refilling and self.usable:
            self._refilling = True
            self._connection.create_task(self._open_spare())

    async def _open_spare(self) -> None:
        # a target that gives no more sessions simply leaves us without a spare
        with contextlib.suppress(asyncssh.Error, OSError):
            spare = RemoteProcess(self._connection)
            await spare.channel.open()
            self._spare = spare
        self._refilling = False

    def _expect_mark(self, process: RemoteProcess, seconds: float) -> None:
        """A read that never tells its group cannot be ended alone: it ends with its connection."""
        overdue = asyncio.get_running_loop().call_later(START_SECONDS, self._connection.abort)

        def marked(group: int) -> None:
            overdue.cancel()
            self._tell(wrapper.watch(group, seconds=seconds))

        process.on_group = marked
        process.on_gone = lambda: self._ended(process, overdue)

    def _ended(self, process: RemoteProcess, overdue: asyncio.TimerHandle | None) -> None:
        self._slots.release()
        if overdue is not None:
            overdue.cancel()
        if process.group is not None:
            self._tell(wrapper.ended(process.group))

    async def _stop(self, process: RemoteProcess) -> None:
        group = await process.marked()
        if group is not None:
            self._tell(wrapper.end(group))
        else:
            # closing the channel would end nothing there; the reaper ends what it saw once the connection is gone
            self._connection.abort()

    async def _signal(self, process: RemoteProcess, name: Signal) -> None:
        group = await process.marked()
        if group is not None:
            self._tell(wrapper.signalled(group, name))

    def _tell(self, line: bytes) -> None:
        with contextlib.suppress(OSError):  # the connection is going: the reaper sees that by itself
            self._reaper.channel.write(line)
        if self._reaper.channel.get_write_buffer_size() > _MAX_UNTOLD:
            self._connection.abort()


def _none_ahead() -> RemoteProcess | None:
    return None


async def opened(connection: Connection, *, ahead: Callable[[], RemoteProcess | None] = _none_ahead) -> RemoteProcess:
    """A session on the connection with nothing sent on it: the one that `ahead` gives, or a new one.

    Raises TargetFault.
    """
    try:
        async with asyncio.timeout(START_SECONDS):
            for attempt in range(_OPEN_TRIES):
                # each time anew: what was opened ahead meanwhile may be what the target counts against us
                if (spare := ahead()) is not None:
                    return spare
                process = RemoteProcess(connection)
                with contextlib.suppress(asyncssh.ChannelOpenError):
                    await process.channel.open()
                    return process
                if connection.is_closed():
                    raise fault("connection_lost")
                # sshd counts a session that has just ended for a moment longer
                await asyncio.sleep(_OPEN_AGAIN_SECONDS * (attempt + 1))
    except (asyncssh.Error, OSError) as error:
        connection.abort()
        raise fault_of(error) from None
    raise fault("login_refused")


async def _ready(reaper: RemoteProcess) -> None:
    said = b""
    while wrapper.READY not in said:
        match await reaper.read():
            case Chunk(stream=Stream.OUT, data=data) if len(said) < len(wrapper.READY):
                said += data
            case Chunk(stream=Stream.ERR):
                continue
            case _:
                raise fault("no_bash")
