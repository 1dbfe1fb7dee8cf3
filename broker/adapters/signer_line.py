"""One connection to the signer: many questions under way, answered in the order in which they were asked.

The signer takes what waits for it together and makes it durable at once, so nobody here waits for their turn. Believes
nothing: what an answer says is for signer_client to compare.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, Self, cast

from broker.core.errors import SignerFault
from broker.core.signing import Answer
from broker.core.signwire import HEADER_BYTES, FrameError, body_bytes, decode_answer

UNDER_WAY: Final = 128
"""Questions before the signer at a time, twice what it answers together: nothing is signed for whoever gave up before
their turn."""
TURN_SECONDS: Final = 1.0
"""For that turn; what is left of a caller's time is for the answer, so that whatever is asked is asked in time."""
_UCRED: Final = struct.Struct("3i")


class SignerLine(asyncio.Protocol):
    """Made by `connect`. A caller that no longer waits leaves its place: its answer is read and dropped."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[asyncio.Future[Answer]] = deque()
        """One place a question under way, its caller's or left by them."""
        self._room = asyncio.Semaphore(UNDER_WAY)
        self._came = b""
        self._heard = self._loop.time()

    @classmethod
    async def connect(cls, path: Path, *, uid: int) -> Self:
        """A line to the process of `uid` that listens at `path`. Raises OSError; FrameError: it is another user's."""
        transport, line = await asyncio.get_running_loop().create_unix_connection(cls, str(path))
        peer: socket.socket = transport.get_extra_info("socket")
        _, found, _ = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if found != uid:
            transport.abort()
            raise FrameError("another user's process listens where the signer should")
        return line

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def silent_for(self) -> float:
        """Seconds since it last answered anything, or was connected."""
        return self._loop.time() - self._heard

    async def ask(self, question: bytes) -> Answer:
        """The answer to one question, a whole frame, sent when there is room for it.

        Raises:
            OSError: the line broke before; whether the question was heard is not known.
            FrameError: what came is no answer.
            SignerFault: too many wait; it was not asked.
        """
        await self._turn()
        if self._transport is None or self._transport.is_closing():
            self._room.release()  # whoever waits behind finds that out as well
            raise ConnectionResetError
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting.append(answer)
        self._transport.write(question)
        return await answer

    def abort(self, error: Callable[[], Exception] = ConnectionResetError) -> None:
        """Hangs up and tells everybody who waits why, each by an exception of their own."""
        if self._transport is not None:
            self._transport.abort()
        waiting, self._waiting = self._waiting, deque()
        for answer in waiting:
            self._room.release()
            if not answer.done():
                answer.set_exception(error())

    async def _turn(self) -> None:
        if not self._room.locked():
            await self._room.acquire()  # at once; a time limit would cost a fifth of a question
            return
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._room.acquire()
        except TimeoutError as error:
            raise SignerFault("the signer has too many questions before it") from error

    # ---- asyncio.Protocol --------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self._came += data
        try:
            while (body := self._whole()) is not None:
                self._told(decode_answer(body))
        except FrameError as error:
            self.abort(partial(FrameError, error.what))

    def connection_lost(self, exc: Exception | None) -> None:
        self.abort()

    def _whole(self) -> bytes | None:
        """The body of the next answer, taken off the front, if all of it is here. Raises FrameError."""
        if len(self._came) < HEADER_BYTES:
            return None
        end = HEADER_BYTES + body_bytes(self._came[:HEADER_BYTES])
        if len(self._came) < end:
            return None
        body, self._came = self._came[HEADER_BYTES:end], self._came[end:]
        return body

    def _told(self, answer: Answer) -> None:
        if not self._waiting:
            raise FrameError("an answer that nobody asked for")
        asked = self._waiting.popleft()
        self._room.release()
        with contextlib.suppress(asyncio.InvalidStateError):  # its caller gave up
            asked.set_result(answer)
