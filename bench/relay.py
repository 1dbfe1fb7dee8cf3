"""A wire with a length: what comes in at a port goes out to another one a while later, both ways, in order."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Final, Self

_PIECE: Final = 64 * 1024
_PIECES: Final = 256
"""Pieces on their way in one direction, at most."""


class Relay:
    """A listener on loopback with a thread of its own; `port` is known inside the context."""

    def __init__(self, host: str, port: int, *, rtt_s: float) -> None:
        self._host, self._to, self._delay = host, port, rtt_s / 2
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="relay", daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the relay did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._both: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._taken, self._host, 0, limit=_PIECE)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()
        for task in self._both:
            task.cancel()

    async def _taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._both.add(task)
        there, back = await asyncio.open_connection(self._host, self._to, limit=_PIECE)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            async with asyncio.TaskGroup() as group:
                for source, sink in ((reader, back), (there, writer)):
                    on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_PIECES)
                    group.create_task(self._take(source, on_the_way))
                    group.create_task(self._give(on_the_way, sink))
        self._both.discard(task)
        for sink in (writer, back):
            sink.transport.abort()

    async def _take(self, source: asyncio.StreamReader, on_the_way: asyncio.Queue[tuple[float, bytes]]) -> None:
        data = b"x"
        while data:
            data = await source.read(_PIECE)
            await on_the_way.put((self._loop.time() + self._delay, data))

    async def _give(self, on_the_way: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
        while True:
            due, data = await on_the_way.get()
            await asyncio.sleep(due - self._loop.time())
            if not data:
                sink.write_eof()
                return
            sink.write(data)
            await sink.drain()
