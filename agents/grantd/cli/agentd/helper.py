"""The helper itself: a Unix socket for one user, one task a run, a client that stays connected for each profile.

It holds what grantctl would hold: the profile's key, read from its file. Over the socket go the words of a run and the
descriptors of three streams, and back an exit status; nothing else, and to nobody but the same user.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from grantd.aio import AsyncClient
from grantd.cli import thin
from grantd.cli.agentd.running import Invocation, Run, Streams
from grantd.errors import GrantdError, Invalid
from grantd.profile import Profile

_MAX_MESSAGE_BYTES: Final = 512 * 1024
_ANSWER_SECONDS: Final = 5.0
_STREAMS: Final = 3
_BACKLOG: Final = 64
_NOT_DUMPABLE: Final = (4, 0)
_WATCHED: Final = ("profile.toml", "client.key", "client.pem", "ca.pem")
_Stamp = tuple[tuple[int, int], ...]


class AlreadyRunning(Invalid):
    """Another helper of this user listens."""


@dataclass(slots=True)
class _Warm:
    """A client, and the files that it was made from."""

    client: AsyncClient
    stamp: _Stamp
    runs: int = 0


@dataclass(slots=True, kw_only=True)
class Helper:
    """One user's.

    Args:
        directory: 0700, the user's own; the socket is made in it.
        idle: how long without a run until it ends.
        uid: whose runs are done.
    """

    directory: Path
    idle: timedelta
    uid: int
    _clients: dict[str, _Warm] = field(default_factory=dict)
    _runs: int = 0
    _stamp: bytes = field(default_factory=thin.stamp)

    async def serve(self) -> None:
        """Until idle or told to end. Raises AlreadyRunning."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(_alone(self.directory))
            listener = stack.enter_context(_listening(self.directory / thin.SOCKET))
            try:
                async with asyncio.TaskGroup() as group:
                    accepting = group.create_task(self._accept(listener, group))
                    for number in (signal.SIGTERM, signal.SIGINT):
                        asyncio.get_running_loop().add_signal_handler(number, accepting.cancel)
            finally:
                for warm in self._clients.values():
                    await warm.client.close()

    async def _accept(self, listener: socket.socket, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        tasks = set[asyncio.Task[None]]()
        try:
            while True:
                try:
                    async with asyncio.timeout(self.idle.total_seconds()):
                        connection, _ = await loop.sock_accept(listener)
                except TimeoutError:
                    if self._runs:
                        continue
                    return
                task = group.create_task(self._one(connection))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        finally:
            for task in tasks:
                task.cancel()

    async def _one(self, connection: socket.socket) -> None:
        """One run. Whatever goes wrong with it ends this run and no other."""
        self._runs += 1
        try:
            with connection:
                connection.setblocking(False)  # noqa: FBT003  socket's own
                if thin.peer_of(connection) == self.uid:
                    await self._received(connection)
        except (OSError, TimeoutError):
            pass  # it left
        except Exception as wrong:  # noqa: BLE001  the one place; whoever asked sees the end of the socket
            sys.stderr.write(f"grantctl: a run failed in the helper: {wrong!r}\n")
        finally:
            self._runs -= 1

    async def _received(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        descriptors = list[int]()
        async with asyncio.timeout(_ANSWER_SECONDS):
            fields = (await _message(connection, descriptors)).split(b"\0")
        if len(descriptors) != _STREAMS:
            _close(descriptors)
            return
        streams = Streams(descriptors, no_colour=fields[3:4] != [b""])
        try:
            told = self._understood(fields)
            if told is None:
                await loop.sock_sendall(connection, thin.NOT_MINE)
                return
            await loop.sock_sendall(connection, thin.ACCEPTED)
            async with asyncio.timeout(_ANSWER_SECONDS):
                if await loop.sock_recv(connection, 1) != thin.GO:
                    return
            async with self._client(os.fsdecode(fields[2])) as client:
                status = await _until_left(connection, Run(client, told, streams))
            if status is not None:
                await loop.sock_sendall(connection, thin.STATUS + bytes([status & 0xFF]))
        finally:
            streams.close()

    def _understood(self, fields: list[bytes]) -> Invocation | None:
        if fields[:2] != [thin.PROTOCOL, self._stamp] or len(fields) < 4:  # noqa: PLR2004  protocol, stamp, profile, colour
            return None
        try:
            Profile.load(Path(os.fsdecode(fields[2])))
        except GrantdError:
            return None  # the whole grantctl says what is wrong with it
        return Invocation.parse([os.fsdecode(word) for word in fields[4:]])

    @contextlib.asynccontextmanager
    async def _client(self, directory: str) -> AsyncIterator[AsyncClient]:
        """The profile's client; a new one once its files changed, as after a sign-in."""
        stamp, warm = _stamp_of(Path(directory)), self._clients.get(directory)
        if warm is None or warm.stamp != stamp:
            before, warm = warm, _Warm(AsyncClient(Profile.load(Path(directory))), stamp)
            self._clients[directory] = warm
            if before is not None and not before.runs:
                await before.client.close()
        warm.runs += 1
        try:
            yield warm.client
        finally:
            warm.runs -= 1
            if not warm.runs and self._clients.get(directory) is not warm:
                await warm.client.close()


def harden() -> None:
    """No core file, and no other process of the user looks into this one's memory: the client key is in it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(*_NOT_DUMPABLE, 0, 0, 0)


def private_directory() -> Path:
    """$XDG_RUNTIME_DIR/grantd, 0700, made where it is missing. Raises Invalid."""
    if not hasattr(socket, "SO_PEERCRED"):
        raise Invalid("no_peer_credentials", "this system does not say who is at the other end of a socket")
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if not runtime.startswith("/"):
        raise Invalid("no_runtime_directory", "XDG_RUNTIME_DIR is not set: there is no place for the socket")
    directory = Path(runtime) / "grantd"
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    if thin.socket_path() is None:
        raise Invalid("runtime_directory_open", f"{directory} is not yours alone", f"chmod 700 {directory}")
    return directory


async def _until_left(connection: socket.socket, run: Run) -> int | None:
    """The run's status; None where whoever asked is gone. The command ends with them, as without a helper."""
    async with asyncio.TaskGroup() as group:
        running = group.create_task(run.status())
        hearing = group.create_task(_heard(connection))
        await asyncio.wait({running, hearing}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            hearing.cancel()
            return running.result()
        running.cancel()
        said = hearing.result()
    return await run.interrupted() if said == thin.INTERRUPT else None


async def _heard(connection: socket.socket) -> bytes:
    """What whoever asked says while the command runs; nothing once it is gone."""
    try:
        return await asyncio.get_running_loop().sock_recv(connection, 1)
    except OSError:
        return b""


async def _message(connection: socket.socket, descriptors: list[int]) -> bytes:
    """The one message of a connection; what descriptors came with it are put into the list."""
    data, size = bytearray(), thin.LENGTH_BYTES
    while len(data) < size:
        await _readable(connection)
        more, came, _, _ = socket.recv_fds(connection, 65536, _STREAMS, socket.MSG_CMSG_CLOEXEC)
        descriptors += came
        if not more:
            raise ConnectionError("it left in the middle of its message")
        data += more
        if len(data) >= thin.LENGTH_BYTES:
            size = thin.LENGTH_BYTES + int.from_bytes(data[: thin.LENGTH_BYTES], "big")
        if size > _MAX_MESSAGE_BYTES or len(data) > size:
            raise ConnectionError("that is no message of ours")
    return bytes(data[thin.LENGTH_BYTES :])


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)


def _stamp_of(directory: Path) -> _Stamp:
    found = [(directory / name).stat() for name in _WATCHED]
    return tuple((each.st_ino, each.st_mtime_ns) for each in found)


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory / "agentd.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning("already_running", "a helper runs already") from None
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """A socket for its owner alone. What lies there is a dead helper's: the lock is held."""
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
    finally:
        os.umask(before)
    with listener:
        listener.listen(_BACKLOG)
        listener.setblocking(False)  # noqa: FBT003  socket's own
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)
