"""The client's side of one channel: what it types in the pieces that it came in, what it is sent, and when it left.

A client that does not read is not written to; what waits is never more than the channel's window (I-26).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

import asyncssh

from broker.proxy import limits
from broker.proxy.steering import ClientSteering

if TYPE_CHECKING:
    from broker.proxy.channel import GatewayChannel
    from broker.proxy.connection import GatewayConnection

_CUT: Final = 126
"""What a shell that was cut exits with."""


class Wire(asyncssh.SSHServerSession[bytes]):
    """One client's channel, from its `shell` request on."""

    def __init__(self, connection: GatewayConnection, channel: GatewayChannel, steering: ClientSteering) -> None:
        self.connection, self.channel, self.steering = connection, channel, steering
        self.gone = False
        self._pieces: deque[bytes] = deque()
        self._open = True
        self._used = 0
        """Bytes that were read since the client was last told."""
        self._arrived, self._roomy = asyncio.Event(), asyncio.Event()
        self._roomy.set()

    # ---- what asyncssh tells -----------------------------------------------------------------------------------------
    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self.gone = True
        self.channel.leave()
        self._arrived.set()
        self._roomy.set()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """What was typed, in the pieces in which it came: one read of the client's keyboard each."""
        self._pieces.append(data)
        self._arrived.set()

    def eof_received(self) -> bool:
        """Nothing more is typed; output goes on."""
        self._open = False
        self._arrived.set()
        return True

    def pause_writing(self) -> None:
        """The client's window is used up."""
        self._roomy.clear()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._roomy.set()

    @property
    def waiting(self) -> bool:
        """Whether another piece is there already."""
        return bool(self._pieces)

    # ---- what the shell asks -----------------------------------------------------------------------------------------
    async def read(self) -> bytes:
        """The next piece; empty at the end. Raises ConnectionError when the client is gone.

        Lets everybody else have a turn first: what a client may send at once would keep the loop busy for minutes.
        """
        await asyncio.sleep(0)
        while not self._pieces:
            if self.gone:
                raise ConnectionError("the client is gone")
            if not self._open:
                return b""
            self._arrived.clear()
            await self._arrived.wait()
        data = self._pieces.popleft()
        self._credit(len(data))
        return data

    def drain(self) -> bytes:
        """All that came and was not read."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._credit(len(data))
        return data

    def _credit(self, size: int) -> None:
        """Lets the client send as much again, once half the window was read."""
        self._used += size
        if self._used >= limits.WAITING_WINDOW // 2:
            used, self._used = self._used, 0
            self.channel.take(used)

    def over(self) -> None:
        """The shell was cut: the client is let go at once."""
        if not self.gone:
            self.channel.exit(_CUT)

    async def write(self, data: bytes, datatype: asyncssh.DataType = None) -> None:
        """Sends, and waits until neither window nor socket holds the bytes back."""
        if self.gone:
            raise ConnectionError("the client is gone")
        self.channel.write(data, datatype)
        try:
            async with asyncio.timeout(limits.WRITE_WITHIN_S):
                await self._roomy.wait()
                await self.connection.until_writable()
        except TimeoutError:
            raise ConnectionError("the client takes no output") from None
