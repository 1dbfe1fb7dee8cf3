"""One forwarded connection (`ssh -L`, `-W`, `-J`): to a destination that the grant names, and nowhere else (I-20, F02).

An action like any command, through the same gate and recorder: the target connects, its bytes flow through the broker.
The channel opens once the connection stands; until then nothing but a failure is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import asyncssh
import structlog
from asyncssh.constants import OPEN_ADMINISTRATIVELY_PROHIBITED, OPEN_CONNECT_FAILED

from broker.core.action import StdinMode
from broker.core.errors import Fault, Refusal
from broker.core.forward import CONNECTED, command_of
from broker.proxy.channel import GatewayChannel
from broker.proxy.exec_session import ExecSession
from broker.service.propose import CommandInput

if TYPE_CHECKING:
    from asyncssh.packet import SSHPacket

    from broker.core.flags import Destination
    from broker.proxy.connection import GatewayConnection
    from broker.service.gateway import Admission

log = structlog.get_logger()
NOT_OPENED: Final = "the connection could not be made"


class ForwardChannel(GatewayChannel):
    """A channel of bytes alone: every request on it is refused."""

    def leave(self) -> None:
        """It has no place among the sessions."""

    def _answer(self, name: str, packet: SSHPacket) -> bool:
        del packet
        if name != "keepalive@openssh.com":
            self._gateway.refuse("forward_request")
        return False


class ForwardSession(ExecSession):
    """The inlet and outlet of one forwarded connection."""

    def __init__(self, connection: GatewayConnection, admission: Admission, to: Destination) -> None:
        super().__init__(connection, admission)
        self._to = to
        self._stands, self._open = asyncio.Event(), asyncio.Event()
        self._said = b""
        self._failure = OPEN_ADMINISTRATIVELY_PROHIBITED

    async def opened(self) -> ForwardSession:
        """Returns once the target is connected. Raises ChannelOpenError: refused, denied, or nobody there."""
        self._connection.command_runs()
        self._task = self._connection.door.spawn(self._forward())
        standing = asyncio.ensure_future(self._stands.wait())  # noqa: TID251  ended below, always
        try:
            await asyncio.wait({standing, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            standing.cancel()
        if not self._stands.is_set() or self._gone:
            raise asyncssh.ChannelOpenError(self._failure, NOT_OPENED)
        return self

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """The channel is open: bytes may flow."""
        super().connection_made(chan)
        self._open.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """As ExecSession; also where the channel never opened. Harmless twice."""
        self._gone = True
        for event in (self._open, self._arrived, self._roomy):
            event.set()
        if self._interruptible and self._task is not None:
            self._task.cancel()

    # ---- Inlet, Outlet -----------------------------------------------------------------------------------------------
    async def read(self) -> bytes:
        """As Inlet."""
        await self._until_open()
        return await super().read()

    async def out(self, data: bytes) -> None:
        """As Outlet."""
        self._stands.set()  # what comes from there proves it as well as the word for it
        await self._until_open()
        await super().out(data)

    async def _until_open(self) -> None:
        await self._open.wait()
        if self._gone:  # perhaps before there was a channel
            raise ConnectionError("the client is gone")

    async def err(self, data: bytes) -> None:
        """The wrapper's one word; a forwarded connection has no stderr, and the target's own text goes nowhere."""
        if not self._stands.is_set():
            self._said = (self._said + data)[-len(CONNECTED) :]
            if self._said == CONNECTED:
                self._stands.set()

    async def warn(self, left: timedelta) -> None:
        """There is nobody to tell in a stream of bytes."""

    async def tell(self, line: str) -> None:
        """As `warn`."""

    def over(self, lines: Sequence[str]) -> None:
        """As Outlet: the stream of bytes ends."""
        if self._open.is_set() and not self._gone:
            self._channel.abort()

    # ---- the connection ----------------------------------------------------------------------------------------------
    async def _forward(self) -> None:
        given = CommandInput(
            line=command_of(self._to), cwd="", env={}, stdin_mode=StdinMode.STREAM, stdin=b"", pty=False
        )
        try:
            await self._run(given)
        except ConnectionError:
            return
        except Refusal as refusal:
            log.info("gateway.forward_refused", code=refusal.code)
        except Fault as fault:
            log.warning("gateway.forward_failed", cause=fault.what)
        finally:
            if self._open.is_set() and not self._gone:
                self._channel.abort()
            self._connection.forward_ended(self)
            self._connection.command_ended()

    async def _run(self, given: CommandInput) -> None:
        ticket = await self._decided(given)
        self._failure = OPEN_CONNECT_FAILED
        if ticket is not None:
            with self._interrupted_by_its_end():
                await self._halves.run.run(ticket, self, self)
