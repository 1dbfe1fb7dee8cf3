"""What hostile peers cost at the SSH door: `python -m tests.broker.proxy.hostile [NAME ...]` prints one table.

Each peer meets a broker in a process of its own. Beside it an honest client runs one read after another: how long each
took before and meanwhile stands in the table, with what the broker's memory grew by, and when and why the peer was cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncssh
from asyncssh.packet import Boolean, String, UInt32
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.core.ids import GrantId
from tests.broker.proxy.world import Pass, Raw, keypair, raw

MIB: Final = 1 << 20
LASTS_S: Final = 3.0
"""How long a peer that is not cut goes on."""
PATIENCE_S: Final = 40.0
_FIRST_READS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one peer did."""

    name: str
    grew: int
    cut_s: float | None
    """None: it was not cut."""
    reasons: tuple[str, ...]
    before_ms: float
    meanwhile_ms: float
    worst_ms: float
    """0: it was over before a read was."""

    def row(self) -> str:
        """A line of the table."""
        cut = "no" if self.cut_s is None else f"after {self.cut_s:.1f} s"
        cells = [self.name, f"{self.grew / MIB:.1f}", cut, ", ".join(self.reasons) or "-"]
        waits = [f"{wait:.0f}" if wait else "-" for wait in (self.before_ms, self.meanwhile_ms, self.worst_ms)]
        return f"| {' | '.join([*cells, *waits])} |"


HEAD: Final = (
    "| peer | memory, MiB | cut | reason | a read beside it, ms: before | meanwhile | worst |\n"
    "|---|---|---|---|---|---|---|"
)


@dataclass(slots=True, kw_only=True)
class Broker:
    """A door in a process of its own."""

    process: asyncio.subprocess.Process
    port: int
    passes: list[Pass]
    _waits: list[tuple[float, float]] = field(default_factory=list)
    """When each read beside it ended, and how long it took, in seconds."""

    @classmethod
    @asynccontextmanager
    async def serving(cls, **limits: float) -> AsyncIterator[Broker]:
        """One that serves, with other `limits` where they are named."""
        with tempfile.TemporaryDirectory() as folder:
            words = [sys.executable, "-m", "tests.broker.proxy.served", folder, json.dumps(limits), "fast"]
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe, limit=MIB)
            told = await _told(process, b'{"port"')
            yield cls(process=process, port=told["port"], passes=[_pass(fields) for fields in told["passes"]])
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()

    def memory(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * 4096

    async def refusals(self) -> list[str]:
        """Why connections were cut or refused, so far."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"?\n")
        await self.process.stdin.drain()
        found: list[str] = (await _told(self.process, b'{"refusals"'))["refusals"]
        return found

    async def entered(self) -> Raw:
        """The hostile peer, logged in."""
        client = await raw(self.port)
        assert await client.log_in(self.passes[0]) == 52
        return client

    async def reads(self) -> None:
        """An honest client, one read after another."""
        shown = self.passes[1]
        async with asyncssh.connect(
            "127.0.0.1", self.port, username=shown.user, client_keys=[keypair(shown)], config=None, known_hosts=None,
            agent_path=None, compression_algs=["none"],
        ) as client:  # fmt: skip
            while True:
                began = time.monotonic()
                ran = await client.run("id", stdin=asyncssh.DEVNULL)
                assert "uid=" in str(ran.stdout), ran
                self._waits.append((time.monotonic(), time.monotonic() - began))

    def waits(self, since: float, until: float) -> list[float]:
        """How long the reads took that ended in a while, in ms."""
        return [took * 1000 for ended, took in self._waits if since <= ended <= until]


async def _told(process: asyncio.subprocess.Process, head: bytes) -> dict[str, Any]:
    assert process.stdout is not None
    while not (line := await process.stdout.readline()).startswith(head):
        assert line, "it ended"
    found: dict[str, Any] = json.loads(line)
    return found


def _pass(fields: dict[str, Any]) -> Pass:
    return Pass(
        key=Ed25519PrivateKey.from_private_bytes(bytes.fromhex(fields["key"])),
        certificate=bytes.fromhex(fields["certificate"]), user=fields["user"], grant=GrantId(fields["grant"]),
    )  # fmt: skip


Peer = Callable[[Broker], Awaitable[list[Raw]]]
"""Does what it does; returns the connections on which it did. Many small things are sent in turns with the loop's."""


async def sent(client: Raw, count: int, send: Callable[[], None]) -> None:
    """So many times, or until it is cut."""
    for number in range(count):
        if client.gone.is_set():
            return
        send()
        if number % 50 == 0:
            await asyncio.sleep(0)


async def running(broker: Broker, command: str, *, window: int = 1 << 21) -> Raw:
    """A client whose command runs."""
    client = await broker.entered()
    await client.session(window=window)
    client.request(b"exec", String(command))
    await client.next(99)
    return client


async def never_reads(broker: Broker) -> list[Raw]:
    """A window of 2 GiB, a full socket, and zeros for ever."""
    client = await running(broker, "cat /dev/zero", window=2**31 - 1)
    client.stop_reading()
    return [client]


async def unfinished_rekey(broker: Broker) -> list[Raw]:
    """Begun during the same, and never ended."""
    client = await running(broker, "cat /dev/zero", window=2**31 - 1)
    client.begin_exchange()
    return [client]


async def channels(broker: Broker) -> list[Raw]:
    """One is the grant's."""
    client = await broker.entered()
    await sent(client, 3_000, lambda: client.open(9))
    return [client]


async def variables(broker: Broker) -> list[Raw]:
    """One is as large as a packet may be."""
    client = await broker.entered()
    await client.session()
    await sent(client, 3_000, lambda: client.request(b"env", String("LANG"), String("A" * 30_000)))
    return [client]


async def long_exec(broker: Broker) -> list[Raw]:
    """No command is that long."""
    client = await broker.entered()
    await client.session()
    client.request(b"exec", String("x" * 200_000))
    return [client]


async def flood(broker: Broker) -> list[Raw]:
    """A client that takes all of it."""
    client = await running(broker, "cat /dev/zero", window=2**31 - 1)
    return [client]


async def agent_after_exec(broker: Broker) -> list[Raw]:
    """Other servers granted it then."""
    client = await running(broker, "sleep 60")
    await sent(client, 100, lambda: client.request(b"auth-agent-req@openssh.com"))
    return [client]


async def slow_login(broker: Broker) -> list[Raw]:
    """Eight that never say a word, eight that send a byte a second, from one address: ten are held."""
    held = [await asyncio.open_connection("127.0.0.1", broker.port) for _ in range(16)]
    began = time.monotonic()
    while time.monotonic() - began < 21:
        for _, writer in held[:8]:
            with contextlib.suppress(OSError):
                writer.write(b"S")
        await asyncio.sleep(1)
    for _, writer in held:
        writer.close()
    return []


async def many_connections(broker: Broker) -> list[Raw]:
    """Ten thousand, from a hundred addresses, each held until it is closed or the next hundred come."""
    held: list[socket.socket] = []
    for number in range(10_000):
        sock = socket.socket()
        sock.setblocking(False)  # noqa: FBT003  the standard library's own signature
        sock.bind((f"127.0.{number % 10 + 1}.{number // 10 % 10 + 1}", 0))
        with contextlib.suppress(BlockingIOError):
            sock.connect(("127.0.0.1", broker.port))
        held.append(sock)
        if len(held) == 200:
            await asyncio.sleep(0.02)
            for old in held[:100]:
                old.close()
            del held[:100]
    for sock in held:
        sock.close()
    return []


async def empty_packets(broker: Broker) -> list[Raw]:
    """Nothing, often, to a command that does not read."""
    client = await running(broker, "sleep 60")
    await sent(client, 50_000, lambda: client.send_packet(94, UInt32(0), String(b"")))
    return [client]


async def endless_window(broker: Broker) -> list[Raw]:
    """More than 32 bits hold."""
    client = await running(broker, "cat /dev/zero", window=2**32 - 1)
    client.stop_reading()
    await sent(client, 10_000, lambda: client.send_packet(93, UInt32(0), UInt32(2**32 - 1)))
    return [client]


async def no_packet_size(broker: Broker) -> list[Raw]:
    """A channel that could carry nothing."""
    client = await broker.entered()
    await sent(client, 200, lambda: client.open(0, size=0))
    return [client]


async def unread_answers(broker: Broker) -> list[Raw]:
    """Each is answered."""
    client = await broker.entered()
    client.stop_reading()
    await sent(client, 50_000, lambda: client.globally(b"keepalive@openssh.com"))
    return [client]


async def vast_terminal(broker: Broker) -> list[Raw]:
    """Sizes, and no end of them."""
    client = await broker.entered()
    await client.session()
    size = (UInt32(2**32 - 1),) * 4
    client.request(b"pty-req", String("xterm"), *size, String(b""))
    client.request(b"exec", String("sleep 60"))
    await sent(client, 20_000, lambda: client.request(b"window-change", *size, reply=False))
    return [client]


async def signals(broker: Broker) -> list[Raw]:
    """To a command that does not mind."""
    client = await running(broker, "trap '' USR1; sleep 60")
    await sent(client, 20_000, lambda: client.request(b"signal", String("USR1"), reply=False))
    return [client]


async def breaks(broker: Broker) -> list[Raw]:
    """Never granted."""
    client = await running(broker, "sleep 60")
    await sent(client, 3_000, lambda: client.request(b"break", UInt32(1000)))
    return [client]


async def ignored(broker: Broker) -> list[Raw]:
    """Messages that ask for nothing."""
    client = await broker.entered()
    await sent(client, 20_000, lambda: client.send_packet(4, Boolean(True), String("x" * 1000), String("")))  # noqa: FBT003
    return [client]


async def unknown_messages(broker: Broker) -> list[Raw]:
    """Each is answered as not known."""
    client = await broker.entered()
    client.stop_reading()
    await sent(client, 20_000, lambda: client.send_packet(192, String("x" * 1000)))
    return [client]


PEERS: Final[dict[str, Peer]] = {
    "a window of 2 GiB that is never read": never_reads,
    "a key exchange that never ends, in a flood": unfinished_rekey,
    "3,000 channels": channels,
    "3,000 variables of 30 kB": variables,
    "a command of 200 kB": long_exec,
    "a target that floods": flood,
    "the agent asked for after exec, 100 times": agent_after_exec,
    "logins that take for ever, 16 of one address": slow_login,
    "10,000 connections without a login": many_connections,
    "50,000 empty packets": empty_packets,
    "10,000 windows of 4 GiB more": endless_window,
    "packets of 0 bytes asked for, 200 times": no_packet_size,
    "50,000 questions whose answers nobody reads": unread_answers,
    "a terminal of 4 G x 4 G, resized 20,000 times": vast_terminal,
    "20,000 signals": signals,
    "3,000 breaks": breaks,
    "20,000 debug messages": ignored,
    "20,000 unknown messages, unread": unknown_messages,
}


async def seen(name: str, peer: Peer) -> Seen:
    """One peer against a broker of its own."""
    async with Broker.serving() as broker, asyncio.TaskGroup() as group:
        honest = group.create_task(broker.reads())
        started = time.monotonic()
        while len(broker.waits(0, time.monotonic())) < _FIRST_READS:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        (await broker.entered()).abort()
        before, began = broker.memory(), time.monotonic()
        most = [before]
        watching = group.create_task(_watch(broker, most))
        clients = await peer(broker)
        cut_s = await _cut(clients, began)
        ended = time.monotonic()
        watching.cancel()
        honest.cancel()
        reasons = tuple(dict.fromkeys(await broker.refusals()))
        for client in clients:
            client.abort()
    quiet, busy = broker.waits(started, began), broker.waits(began, ended)
    return Seen(
        name=name, grew=max(most) - before, cut_s=cut_s, reasons=reasons,
        before_ms=statistics.median(quiet), meanwhile_ms=statistics.median(busy or [0]), worst_ms=max(busy or [0]),
    )  # fmt: skip


async def _watch(broker: Broker, most: list[int]) -> None:
    while True:
        most.append(broker.memory())
        await asyncio.sleep(0.02)


async def _cut(clients: list[Raw], began: float) -> float | None:
    """When the peer was cut; it goes on for a while where it is not, and longer in a key exchange."""
    lasts = PATIENCE_S if any(client.lets_exchanges_hang for client in clients) else LASTS_S
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(lasts):
            for client in clients:
                await client.gone.wait()
            if clients:
                return time.monotonic() - began
    return None


async def main(wanted: list[str]) -> None:
    """The table, a row as soon as it is known."""
    print(HEAD, flush=True)  # noqa: T201
    for name, peer in PEERS.items():
        if not wanted or any(word in name for word in wanted):
            print((await seen(name, peer)).row(), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
