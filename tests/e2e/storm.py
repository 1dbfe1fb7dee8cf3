"""Many busy sessions, a paused database, every queue full: what the kill switch is pulled in (I-61).

`Storm` begins sessions by stock SSH clients' library and by the SDK, each following one file that grows, and notes when
the last byte came to each client and when the last process of each was seen on the target.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import asyncssh

from grantd import GrantdError, asking
from grantd.channel import open_channel
from grantd.cli.sshfiles import SshFiles
from grantd.execution import Stdout, Told
from grantd.v1 import admin_pb2
from grantd.v1.access_pb2 import CREDENTIAL_KIND_SSH, CREDENTIAL_KIND_TOKEN, IssueCredentialRequest
from grantd.v1.admin_pb2_grpc import AdminServiceStub
from tests.e2e.programs import wait_until
from tests.e2e.running import Running
from tests.e2e.stage import FREE, House
from tests.processes import descendants

PER_GRANT: Final = 6
"""Sessions of one grant: as many reads as one connection to a target takes."""
AT_ONCE: Final = 4
LINE: Final = b"x" * 511 + b"\n"
EVERY_S: Final = 0.05


@dataclass
class Client:
    """One session as its client sees it."""

    mark: str
    last_byte: float = 0.0
    """Monotonic second."""
    ended: float = 0.0
    """When the client was told that it is over; 0 while it was not."""
    received: int = 0
    words: bytes = b""
    """The end of what it got on stderr."""


@dataclass
class Storm:
    """Sessions of a house. `begin`, then `rages`; `watch` notes the ends; `end`."""

    house: House
    folder: Path
    clients: list[Client] = field(default_factory=list)
    seen: dict[str, float] = field(default_factory=dict)
    """Mark -> monotonic second at which a process of it was last seen on the target."""
    running: list[tuple[Client, Running]] = field(default_factory=list)
    files: list[SshFiles] = field(default_factory=list)
    grants: list[str] = field(default_factory=list)
    _readers: list[asyncio.Task[None]] = field(default_factory=list)
    _connections: list[asyncssh.SSHClientConnection] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self._grows = self.folder / "grows"
        self._grows.write_bytes(b"")
        self._loop = asyncio.new_event_loop()
        self._threads = [
            threading.Thread(target=each, daemon=True) for each in (self._grow, self._loop.run_forever)
        ]  # fmt: skip
        for thread in self._threads:
            thread.start()

    def begin(self, by_ssh: int, by_sdk: int) -> None:
        """So many sessions, all of which have output on its way when this returns."""
        asyncio.run_coroutine_threadsafe(self._begin_ssh(by_ssh), self._loop).result(600)
        for index in range(by_sdk):
            if index % PER_GRANT == 0:
                self.grants.append(self.house.grant())
            client = self._client()
            self.running.append((client, self.house.run(self.grants[-1], f"tail -f {client.mark}")))
            if index % AT_ONCE == AT_ONCE - 1:
                # a few at a time: sshd turns away more than MaxStartups that have not logged in yet
                wait_until(self.rages, 120)
        wait_until(self.rages, 120)

    def rages(self) -> bool:
        """Whether every client has got bytes."""
        self._look_at_sdk()
        return all(client.received for client in self.clients)

    def watching(self, seconds: float) -> threading.Thread:
        """`watch` on a thread of its own."""
        thread = threading.Thread(target=self.watch, args=(seconds,), daemon=True)
        thread.start()
        return thread

    def watch(self, seconds: float) -> None:
        """Looks at the target's processes and the SDK's streams until nothing is left of either, or for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            alive = self._alive()
            now = time.monotonic()
            for mark in alive:
                self.seen[mark] = now
            if not alive and self.told():
                return
            time.sleep(0.01)

    def told(self) -> bool:
        """Whether every client has heard that it is over."""
        self._look_at_sdk()
        return all(client.ended for client in self.clients)

    def end(self) -> None:
        """Leaves."""
        self._over.set()
        asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        for thread in self._threads:
            thread.join(10)
        self._loop.close()

    # ---- inside ------------------------------------------------------------------------------------------------------
    def _client(self) -> Client:
        mark = self.folder / f"mark-{len(self.clients)}"
        mark.symlink_to(self._grows)
        self.clients.append(Client(mark=str(mark)))
        return self.clients[-1]

    def _grow(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError), self._grows.open("ab") as file:
                file.write(LINE)
            time.sleep(EVERY_S)

    def _alive(self) -> set[str]:
        found, prefix = set[str](), f"{self.folder}/mark-".encode()
        for words in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                for word in words.read_bytes().split(b"\0"):
                    if word.startswith(prefix):
                        found.add(word.decode())
        return found

    def _look_at_sdk(self) -> None:
        for client, running in self.running:
            client.received = client.received or sum(isinstance(event, Stdout) for _, event in list(running.events))
            if client.ended:
                continue
            events = list(running.events)
            told = next(((at, event.text) for at, event in reversed(events[-8:]) if isinstance(event, Told)), None)
            if told is not None:
                client.ended, client.words = told[0], told[1].encode()
                client.last_byte = max((at for at, event in events if isinstance(event, Stdout)), default=0.0)

    async def _leave(self) -> None:
        for connection in self._connections:
            connection.abort()
        if self._readers:
            await asyncio.wait(self._readers, timeout=10)
        for task in self._readers:
            task.cancel()
        await asyncio.sleep(0.1)

    async def _begin_ssh(self, number: int) -> None:
        for _ in range(-(-number // PER_GRANT)):
            grant = await asyncio.to_thread(self.house.grant)
            self.grants.append(grant)
            self.files.append(await asyncio.to_thread(self.house.ssh_files, grant))
        turn = asyncio.Semaphore(AT_ONCE)
        pairs = [(self.files[index // PER_GRANT], self._client()) for index in range(number)]
        async with asyncio.TaskGroup() as group:
            for files, client in pairs:
                group.create_task(self._one(files, client, turn))

    async def _one(self, files: SshFiles, client: Client, turn: asyncio.Semaphore) -> None:
        async with turn:
            connection = await connect(files)
            self._connections.append(connection)
            process = await connection.create_process(
                f"tail -f {client.mark}", encoding=None, stdin=asyncssh.DEVNULL
            )  # fmt: skip
            first = asyncio.Event()
            for stream in (process.stdout, process.stderr):
                self._readers.append(self._loop.create_task(_read(stream, client, first)))
            await first.wait()


async def _read(stream: asyncssh.SSHReader[bytes], client: Client, first: asyncio.Event) -> None:
    with contextlib.suppress(asyncssh.Error, OSError):
        while data := await stream.read(65_536):
            client.received += len(data)
            if b"grantd: " in data:
                client.words = client.words or data[-200:]
                client.ended = client.ended or time.monotonic()
            else:
                client.last_byte = time.monotonic()
            first.set()
    client.ended = client.ended or time.monotonic()
    first.set()


async def connect(files: SshFiles) -> asyncssh.SSHClientConnection:
    """A client under a grant."""
    return await asyncssh.connect(
        files.host, files.port, username=files.user, client_keys=[(str(files.key), str(files.certificate))],
        config=None, known_hosts=None, agent_path=None, gss_host=None, preferred_auth="publickey",
        compression_algs=["none"], login_timeout=120,
    )  # fmt: skip


@contextlib.contextmanager
def paused(pid: int) -> Iterator[None]:
    """A process and everything below it stands still while the context is open."""
    stopped = [pid, *descendants(pid)]
    for each in stopped:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGCONT)


@contextlib.contextmanager
def flooded(house: House, who: tuple[str, ...], calls_each: int) -> Iterator[list[str]]:
    """So many calls of each that all wait for the store, while the context is open: their ends are noted."""
    ends, channels = list[str](), [open_channel(house.client(name).profile) for name in who]
    futures = []
    for channel in channels:
        stub = AdminServiceStub(channel)
        for _ in range(calls_each):
            futures.append(stub.ListTeams.future(admin_pb2.ListTeamsRequest(), timeout=60))
            futures[-1].add_done_callback(lambda done: ends.append(_code(done)))
    try:
        yield ends
    finally:
        for future in futures:
            future.cancel()
        for channel in channels:
            channel.close()


def _code(done: Any) -> str:  # noqa: ANN401  a call of grpc, whose types do not say that it is one
    return "CANCELLED" if done.cancelled() else str(done.code().name)


def tried(house: House, storm: Storm, seconds: float) -> dict[str, str]:
    """What an agent gets that tries to have something issued or to start something now: a word each."""

    def outcome(work: Callable[[], object]) -> str:
        try:
            work()
        except GrantdError as refused:
            return refused.code
        except asyncssh.ProcessError as refused:
            return "frozen" if "access is frozen" in str(refused.stderr) else "refused"
        except (AssertionError, TimeoutError):
            return "no answer"
        except Exception as problem:  # noqa: BLE001  the word is what the test looks at
            return type(problem).__name__
        return "done"

    client, blob = house.client("builder"), asyncssh.generate_private_key("ssh-ed25519").public_data
    grant = storm.grants[-1]
    issues = {
        "a certificate": IssueCredentialRequest(
            grant_id=grant, kind=CREDENTIAL_KIND_SSH, ssh_public_key=blob
        ),
        "a token": IssueCredentialRequest(grant_id=grant, kind=CREDENTIAL_KIND_TOKEN),
    }  # fmt: skip
    asked = asking.access_request(
        target=FREE, login=house.sshd.login, ceiling="read", ttl=timedelta(minutes=1), reason="storm", ticket="",
        evidence="", flags=(), key=None,
    )  # fmt: skip

    async def ssh() -> None:
        async with asyncio.timeout(seconds), await connect(storm.files[0]) as connection:
            await connection.run("uname -s", check=True, encoding=None)

    works: dict[str, Callable[[], object]] = {
        "a grant": lambda: client.call(client.access.RequestAccess, asked, timeout=seconds),
        "a command": lambda: house.run(grant, "uname -s").finished(seconds),
        "an SSH connection": lambda: asyncio.run(ssh()),
    }
    for name, message in issues.items():
        works[name] = partial(client.call, client.access.IssueCredential, message, timeout=seconds)
    with ThreadPoolExecutor(len(works)) as threads:
        waits = {name: threads.submit(outcome, work) for name, work in works.items()}
        return {name: wait.result() for name, wait in waits.items()}
