"""`grantd-forward HOST PORT` on a real sshd: the wrapper connects, says so, and joins the streams (I-10, I-20)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator

import pytest

from broker.core.flags import Destination
from broker.core.forward import CONNECTED, command_of
from broker.service.ports import Chunk, Stream, TargetProcess
from tests.broker.adapters.target_ssh.test_ending import gone
from tests.broker.adapters.target_ssh.world import World, drained
from tests.pace import Since
from tests.processes import descendants, free_port

pytestmark = pytest.mark.sshd


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server on loopback that sends back what it hears, and hangs up at `bye`."""
    open_ones: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.add(writer)
        with contextlib.suppress(ConnectionError):
            while (data := await reader.read(1 << 16)) and data != b"bye":
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for writer in open_ones:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def forwarded(real: World, port: int, host: str = "127.0.0.1") -> TargetProcess:
    """A forward that is asked for."""
    command = command_of(Destination(host=host, port=port))
    return await real.targets.start(real.plan(command, sealed=True, wants_stdin=True))


async def connected(process: TargetProcess) -> None:
    """It said its word, and nothing before it."""
    assert await process.read() == Chunk(stream=Stream.ERR, data=CONNECTED)


async def test_bytes_go_both_ways_unharmed(real: World, echo: int) -> None:
    """Eight megabytes there and back."""
    process = await forwarded(real, echo)
    await connected(process)
    data, got = os.urandom(8 << 20), bytearray()

    async def feed() -> None:
        for start in range(0, len(data), 1 << 16):
            await process.write(data[start : start + (1 << 16)])

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(feed())
        while len(got) < len(data):
            chunk = await process.read()
            assert isinstance(chunk, Chunk)
            got += chunk.data
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
    await process.cut()


async def test_it_ends_when_the_far_end_hangs_up(real: World, echo: int) -> None:
    """And leaves nothing on the target."""
    process = await forwarded(real, echo)
    await connected(process)
    await process.write(b"bye")
    assert (await drained(process)).outcome.exit_status == 0
    await gone(descendants(real.sshd.pid), within=1.0)


async def test_a_cut_ends_it(real: World, echo: int) -> None:
    """I-01."""
    process = await forwarded(real, echo)
    await connected(process)
    pids = descendants(real.sshd.pid)
    since = Since()
    await process.cut()
    assert since.s() < 1.0
    await gone(pids, within=1.0)


async def test_nobody_there_is_a_failure(real: World) -> None:
    """The word is never said."""
    ran = await drained(await forwarded(real, free_port()))
    assert ran.outcome.exit_status == 1
    assert CONNECTED not in ran.err


@pytest.mark.parametrize(
    "command",
    [
        "grantd-forward 127.0.0.1 {} ",
        "grantd-forward 127.0.0.1 {}; id",
        "grantd-forward '127.0.0.1' {}",
        "grantd-forward a/../127.0.0.1 {}",
        "x grantd-forward 127.0.0.1 {}",
        "grantd-forward 127.0.0.1 {}\nid",
    ],
)
async def test_nothing_but_the_exact_text_connects(real: World, echo: int, command: str) -> None:
    """I-10: any other spelling is a program that no target has."""
    ran = await real.run(command.format(echo), sealed=True, stdin=b"bye")
    assert CONNECTED not in ran.err
    assert b"not found" in ran.err
