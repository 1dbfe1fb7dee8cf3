"""Sessions that end at a moment known beforehand, and when each of their two ends learns of it.

At the client it is the kernel that tells when bytes arrived (SO_TIMESTAMPNS), and at the target the descriptor of the
process: neither waits for this program's turn on a machine where broker, clients and targets share the processors.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncssh

from bench.scale import connect, written
from tests.e2e.stage import House

AT_ONCE: Final = 4
"""Sessions that begin at the same time: the door takes so many strangers of one source."""
PAUSE_S: Final = 0.7
"""After each of them: sshd takes a command long before it runs, and a broker gives up one that does not come to run."""
_STAMPS: Final = 35
"""SO_TIMESTAMPNS, and the kind of what it adds to each read: seconds and nanoseconds of the wall clock."""
_STAMP: Final = struct.Struct("qq")
_READ: Final = 256 * 1024
_ALL_RUN_S: Final = 15.0
_LISTENS_S: Final = 2.0
"""Before the end, from when on the kernel tells when bytes arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """Milliseconds after the end of its grant, of each session."""

    at_client: list[float]
    at_target: list[float]
    processor: float
    """Of one processor, what the broker used in the second before, 0 to 1 and more."""


@dataclass(slots=True, kw_only=True)
class Ending:
    """One session under a grant of its own."""

    number: int
    not_after: float
    connection: asyncssh.SSHClientConnection
    process: asyncssh.SSHClientProcess[bytes]
    arrived: float = 0.0
    """Wall seconds: the newest bytes that asyncssh was given."""
    ended_at: float = 0.0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> None:
        """To its end; keeps when the bytes that said so arrived."""
        try:
            while await self.process.stdout.read(65_536):
                pass
        except (asyncssh.Error, OSError):
            pass
        self.ended_at = self.arrived or time.time()
        self.ended.set()

    def listen(self) -> socket.socket:
        """From here on its socket is read past asyncssh's transport, which gets the same bytes, each with its stamp."""
        transport = self.connection.get_extra_info("socket")
        self.connection._transport.pause_reading()  # type: ignore[union-attr]  # noqa: SLF001  there is no other way to its reads
        own = socket.socket(fileno=os.dup(transport.fileno()))
        own.setblocking(False)  # noqa: FBT003  the standard library's own signature
        own.setsockopt(socket.SOL_SOCKET, _STAMPS, 1)
        asyncio.get_running_loop().add_reader(own, self._receive, own)
        return own

    def _receive(self, own: socket.socket) -> None:
        try:
            data, told, _, _ = own.recvmsg(_READ, 64)
        except BlockingIOError:
            return
        except OSError:
            data, told = b"", []
        self.arrived = _arrived(told)
        if data:
            self.connection.data_received(data)
            return
        asyncio.get_running_loop().remove_reader(own)
        self.connection.abort()


def _arrived(told: Iterable[tuple[int, int, bytes]]) -> float:
    for level, kind, data in told:
        if (level, kind) == (socket.SOL_SOCKET, _STAMPS):
            seconds, nanoseconds = _STAMP.unpack(data)
            return float(seconds + nanoseconds / 1e9)
    return time.time()


class Exits:
    """Waits for processes of this machine to be gone, each by its own descriptor; on a thread."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._descriptors = {os.pidfd_open(pid): pid for pid in pids}
        self.at: dict[int, float] = {}
        """Wall seconds."""
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        poll = select.poll()
        for descriptor in self._descriptors:
            poll.register(descriptor, select.POLLIN)
        while len(self.at) < len(self._descriptors):
            for descriptor, _ in poll.poll():
                self.at[self._descriptors[descriptor]] = time.time()
                poll.unregister(descriptor)
                os.close(descriptor)

    def all(self, seconds: float) -> Mapping[int, float]:
        """When each was gone. Raises RuntimeError if one is still there."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise RuntimeError(f"{len(self._descriptors) - len(self.at)} processes outlive their grants")
        return self.at


async def late(house: House, *, sessions: int, busy: int, at: float, together: bool) -> Late:
    """So many sessions whose grants end in the second that begins at `at`; the first `busy` print ten lines a second.

    `together`: all of them at that very moment. Raises RuntimeError where they began too slowly, or outlive their end.
    """
    growing, silent = house.folder / "growing", house.folder / "silent"
    silent.touch()
    turn, begun = asyncio.Semaphore(AT_ONCE), list[Ending]()
    async with written(growing):
        async with asyncio.TaskGroup() as group:
            for number in range(sessions):
                follows = growing if number < busy else silent
                group.create_task(_begin(house, number, follows, at, turn, begun, together=together))
        if time.time() > at - _LISTENS_S:
            raise RuntimeError("the sessions began too slowly for the end that they share: nothing was measured")
        pids = _tails(house.folder, sessions)
        exits = Exits(pids.values())
        readers = [asyncio.get_running_loop().create_task(session.read()) for session in begun]
        await asyncio.sleep(at - _LISTENS_S - time.time())
        sockets = [session.listen() for session in begun]
        used = _used_s(house.pid)
        await asyncio.sleep(at - time.time())
        used = _used_s(house.pid) - used
        async with asyncio.timeout(30):
            for session in begun:
                await session.ended.wait()
    gone = await asyncio.to_thread(exits.all, 30)
    await asyncio.wait(readers)
    for own in sockets:
        asyncio.get_running_loop().remove_reader(own)
        own.close()
    for session in begun:
        session.connection.abort()
    return Late(
        at_client=[(session.ended_at - session.not_after) * 1e3 for session in begun],
        at_target=[(gone[pids[session.number]] - session.not_after) * 1e3 for session in begun],
        processor=used / _LISTENS_S,
    )


async def _begin(
    house: House, number: int, follows: Path, at: float, turn: asyncio.Semaphore, begun: list[Ending], *, together: bool
) -> None:
    async with turn:
        own = house.folder / f"growing-{number}"
        own.symlink_to(follows)
        # whole seconds: used for the first time so long before its end, which falls somewhere into the second
        ttl = int(at + (0 if together else 1) - time.time())
        grant = await asyncio.to_thread(lambda: house.grant(ttl=ttl))
        if together:
            await asyncio.sleep(at - ttl - time.time())
        files = await asyncio.to_thread(lambda: house.ssh_files(grant))
        not_after = (await asyncio.to_thread(house.client("builder").grant, grant)).not_after
        connection = await connect(files)
        process = await connection.create_process(f"tail -n 1 -f {own}", encoding=None, stdin=asyncssh.DEVNULL)
        await asyncio.sleep(PAUSE_S)
        ends = not_after.seconds + not_after.nanos / 1e9
        begun.append(Ending(number=number, not_after=ends, connection=connection, process=process))


def _tails(folder: Path, sessions: int) -> dict[int, int]:
    """The process of each session on the target, which is this machine. Waits for the last to be there."""
    wanted = {os.fsencode(folder / f"growing-{number}"): number for number in range(sessions)}
    until = time.monotonic() + _ALL_RUN_S
    while True:
        found = _found(wanted)
        if len(found) == sessions:
            return found
        if time.monotonic() > until:
            raise RuntimeError(f"{sessions} sessions should run on the target, {len(found)} do")
        time.sleep(0.05)


def _found(wanted: Mapping[bytes, int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else []
        except OSError:
            continue
        if words[0:1] and words[0].endswith(b"tail") and words[-2] in wanted:
            found[wanted[words[-2]]] = int(entry.name)
    return found


def _used_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
