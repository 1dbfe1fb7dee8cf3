"""The bytes of one Execute stream: what the command writes on its way out, and where its stdin comes from.

Out: queued, joined to messages of at most 64 KiB without ever waiting to fill one, written one by one; a caller that
does not read stops the pump at 256 KiB. Nothing is dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from broker.core.errors import invalid
from broker.rpc.call import Send
from broker.rpc.convert.scalars import duration
from broker.service.ports import Stream
from broker.service.pump import Inlet
from grantd.v1 import action_pb2 as pb

MAX_PIECE_BYTES = 64 * 1024
MAX_WAITING_BYTES = 256 * 1024


class Mouth:
    """Outlet of a running command. `speak` runs beside it and is the only writer."""

    def __init__(self, send: Send[pb.ExecuteResponse]) -> None:
        self._send = send
        self._waiting: deque[pb.ExecuteResponse | tuple[Stream, bytes]] = deque()
        self._bytes = 0
        self._something, self._room = asyncio.Event(), asyncio.Event()
        self._finished = self._over = self._gone = False

    async def out(self, data: bytes) -> None:
        await self._queue(Stream.OUT, data)

    async def err(self, data: bytes) -> None:
        await self._queue(Stream.ERR, data)

    async def warn(self, left: timedelta) -> None:
        if not self._over:
            self.say(pb.ExecuteResponse(warning=pb.EndWarning(left=duration(left))))

    async def tell(self, line: str) -> None:
        if not self._over:
            self.say(pb.ExecuteResponse(notice=pb.Notice(text=line)))

    def over(self, lines: Sequence[str]) -> None:
        """As Outlet. `finished` still follows: it says that the recording is sealed and the end written."""
        if not self._over:
            for line in lines:
                self.say(pb.ExecuteResponse(notice=pb.Notice(text=line)))
            self._over = True
            self._room.set()

    def say(self, message: pb.ExecuteResponse) -> None:
        """Queues one message; there are few of them, so it never waits."""
        self._waiting.append(message)
        self._something.set()

    def finish(self, message: pb.ExecuteResponse) -> None:
        """Queues the last message: `speak` ends with it."""
        self._finished = True
        self.say(message)

    async def speak(self) -> None:
        """Writes what is queued until the last message is out, or the caller is gone."""
        try:
            while self._waiting or not self._finished:
                if not self._waiting:
                    self._something.clear()
                    await self._something.wait()
                message, size = self._next()
                await self._send(message)
                self._bytes -= size
                self._room.set()
        except Exception:  # noqa: BLE001  whatever gRPC calls it: nobody listens any more
            self._gone = True
        finally:
            self._gone = True
            self._room.set()

    async def _queue(self, stream: Stream, data: bytes) -> None:
        while self._bytes >= MAX_WAITING_BYTES and not (self._gone or self._over):
            self._room.clear()
            await self._room.wait()
        if self._gone or self._over:
            raise ConnectionError("the caller is gone")
        self._waiting.append((stream, data))
        self._bytes += len(data)
        self._something.set()

    def _next(self) -> tuple[pb.ExecuteResponse, int]:
        head = self._waiting.popleft()
        if isinstance(head, pb.ExecuteResponse):
            return head, 0
        stream, data = head
        if self._follows(stream, len(data)):
            pieces, size = [data], len(data)
            while self._follows(stream, size):
                following = self._waiting.popleft()
                assert isinstance(following, tuple)  # noqa: S101  `_follows` looked
                pieces.append(following[1])
                size += len(following[1])
            data = b"".join(pieces)
        made = pb.ExecuteResponse(stdout=data) if stream is Stream.OUT else pb.ExecuteResponse(stderr=data)
        return made, len(data)

    def _follows(self, stream: Stream, size: int) -> bool:
        """Whether the next in the queue continues this stream and still fits."""
        following = self._waiting[0] if self._waiting else None
        return isinstance(following, tuple) and following[0] is stream and size + len(following[1]) <= MAX_PIECE_BYTES


class _Pieces:
    """An inlet over an iterator of bytes."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    async def read(self) -> bytes:
        return await anext(self._pieces, b"")


def nothing() -> Inlet:
    """No stdin."""
    return declared(b"")


def declared(stdin: bytes) -> Inlet:
    """Stdin that was part of the decision."""

    async def pieces() -> AsyncIterator[bytes]:
        if stdin:
            yield stdin

    return _Pieces(pieces())


def streamed(requests: AsyncIterator[pb.ExecuteRequest]) -> Inlet:
    """Stdin from the following messages; the end of the requests is its end."""

    async def pieces() -> AsyncIterator[bytes]:
        async for request in requests:
            match request.WhichOneof("message"):
                case "stdin":
                    if request.stdin:
                        yield request.stdin
                case "stdin_eof":
                    return
                case _:
                    raise invalid("unexpected_message", "after the first message only stdin may follow")

    return _Pieces(pieces())
