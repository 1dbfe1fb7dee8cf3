"""What a hostile client or target can make the broker keep: measured on a process of its own (I-23, I-26, I-27)."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from asyncssh.constants import MSG_CHANNEL_SUCCESS
from asyncssh.packet import String, UInt32
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.core.ids import GrantId
from broker.core.sftp import Op, Open
from broker.proxy.sftp.packets import framed, string
from tests import peers
from tests.broker.proxy.sftp.world import INIT, opened, request, u32, u64
from tests.broker.proxy.world import Pass, Raw, raw
from tests.pace import Since

REKEY_S = 2.0
GROWTH = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A broker elsewhere."""

    pid: int
    port: int
    shown: Pass

    def memory(self) -> int:
        """Resident bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * 4096

    async def entered(self) -> Raw:
        """Logged in."""
        client = await raw(self.port)
        assert await client.log_in(self.shown) == 52
        return client

    async def most(self, seconds: float, client: Raw) -> int:
        """The most memory seen in a while, or until the client is cut."""
        end, most = time.monotonic() + seconds, 0
        while time.monotonic() < end and not client.gone.is_set():
            most = max(most, self.memory())
            await asyncio.sleep(0.02)
        return most


@pytest.fixture(scope="module", params=["fast", "stock"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One process for all, with a quick clock for key exchanges; the ceilings hold on both packet paths."""
    command = [sys.executable, "-m", "tests.broker.proxy.served", str(tmp_path_factory.mktemp("served"))]
    with subprocess.Popen(
        [*command, json.dumps({"REKEY_S": REKEY_S}), request.param], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        told: dict[str, Any] = {}
        while not told:
            line = process.stdout.readline()
            assert line, "it did not start"
            if line.startswith(b'{"port"'):
                told = json.loads(line)
        drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
        (fields, _) = told["passes"]
        shown = Pass(
            key=Ed25519PrivateKey.from_private_bytes(bytes.fromhex(fields["key"])),
            certificate=bytes.fromhex(fields["certificate"]), user=fields["user"], grant=GrantId(fields["grant"]),
        )  # fmt: skip
        yield Served(pid=process.pid, port=told["port"], shown=shown)
        process.communicate(timeout=20)
        drain.wait(10)


async def _running(served: Served, command: str, *, window: int = 1 << 21) -> tuple[Raw, int]:
    """A command that runs, and the memory before it did."""
    warm = await served.entered()
    warm.abort()
    client = await served.entered()
    before = served.memory()
    assert await client.session(window=window) == 0
    client.request(b"exec", String(command))
    assert (await client.next())[0] == MSG_CHANNEL_SUCCESS
    return client, before


async def test_a_client_that_never_reads_a_flood(served: Served) -> None:
    """M4: a window of 2 GiB, a full socket, and a target that sends zeros for ever."""
    client, before = await _running(served, "cat /dev/zero", window=2**31 - 1)
    client.stop_reading()
    assert await served.most(2, client) - before < GROWTH
    assert not client.gone.is_set()
    client.abort()


async def test_a_key_exchange_that_never_ends(served: Served) -> None:
    """M4: during a flood; nothing piles up behind it, and the connection is cut in time."""
    client, before = await _running(served, "cat /dev/zero", window=2**31 - 1)
    since = Since()
    client.begin_exchange()
    assert await served.most(REKEY_S + 2, client) - before < GROWTH
    assert client.gone.is_set()
    assert since.wall_s() > REKEY_S - 0.1
    assert since.s() < REKEY_S + 1


async def test_questions_during_a_key_exchange(served: Served) -> None:
    """F29: each answer would wait for its end; the connection is cut instead."""
    client, before = await _running(served, "sleep 20")
    client.begin_exchange()
    for _ in range(5_000):
        client.globally(b"keepalive@openssh.com")
    assert await served.most(REKEY_S - 0.5, client) - before < GROWTH
    assert client.gone.is_set()


async def test_stdin_that_nobody_reads(served: Served) -> None:
    """I-26: two MiB, and not a byte more."""
    client, before = await _running(served, "sleep 20")
    kind, adjust = await client.next(93)
    assert (kind, int.from_bytes(adjust, "big")) == (93, (2 << 20) - (32 << 10))
    for _ in range(64):
        client.send_packet(94, UInt32(0), String(b"x" * (32 << 10)))
    assert await served.most(1, client) - before < GROWTH
    client.abort()


async def _files(served: Served, *packets: bytes) -> tuple[Raw, int]:
    """A file session that has answered the first packets, and the memory before it did."""
    peers.require("sftp-server")
    warm = await served.entered()
    warm.abort()
    client = await served.entered()
    before = served.memory()
    assert await client.session(window=2**31 - 1) == 0
    client.request(b"subsystem", String("sftp"))
    assert (await client.next())[0] == MSG_CHANNEL_SUCCESS
    for packet in packets:
        client.send_packet(94, UInt32(0), String(framed(packet)))
        await client.next(94)
    return client, before


async def test_a_client_that_never_reads_a_file(served: Served) -> None:
    """M4: five hundred reads in the air, 128 MB of answers to come, and nobody who takes one."""
    client, before = await _files(served, INIT, opened(1, b"/dev/zero", Open.READ))
    client.stop_reading()
    reads = b"".join(framed(request(n, Op.READ, string(u32(1)), u64(0), u32(261_120))) for n in range(2, 514))
    for at in range(0, len(reads), 32 << 10):
        client.send_packet(94, UInt32(0), String(reads[at : at + (32 << 10)]))
    assert await served.most(2, client) - before < GROWTH
    assert not client.gone.is_set()
    client.abort()


async def test_a_server_that_hangs(served: Served, tmp_path: Path) -> None:
    """M4: it waits in a pipe that nobody reads, while a client asks for more and more."""
    os.mkfifo(tmp_path / "pipe")
    client, before = await _files(served, INIT)
    asked = framed(opened(1, str(tmp_path / "pipe").encode(), Open.WRITE))
    asked += b"".join(framed(request(n, Op.REMOVE, string(b"/" * 4_000))) for n in range(2, 500))
    for at in range(0, len(asked), 32 << 10):
        client.send_packet(94, UInt32(0), String(asked[at : at + (32 << 10)]))
    assert await served.most(2, client) - before < GROWTH
    assert not client.gone.is_set()
    client.abort()
