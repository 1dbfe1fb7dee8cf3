"""Forwarded connections through the door: to what the grant names, through the gate, recorded, cut (I-18, I-20)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import asyncssh
import pytest
from asyncssh.constants import (
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_CHANNEL_OPEN_FAILURE,
)
from asyncssh.packet import String, UInt32

from broker.core.action import ActionState
from broker.core.grant import EndReason
from broker.proxy import limits
from recorder.grec import Kind
from tests.broker.proxy.test_exec import actions, settled
from tests.broker.proxy.world import Gate, until
from tests.broker.rpc.world import TENANT
from tests.processes import free_port


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server that sends back what it hears."""
    open_ones: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.add(writer)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
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


def address(port: int, host: str = "127.0.0.1") -> bytes:
    """What a direct-tcpip request carries."""
    return String(host) + UInt32(port) + String("127.0.0.1") + UInt32(40000)


async def test_a_named_destination_is_reached_recorded_and_metered(front: Gate, echo: int) -> None:
    """One action a connection, in the digest's own words; bytes both ways are counted and recorded."""
    client = await front.connect(await front.admit(flags=frozenset({f"forward=127.0.0.1:{echo}"})))
    reader, writer = await client.open_connection("127.0.0.1", echo)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.close()
    action = await settled(front, ActionState.CUT)
    assert action.command == f"grantd-forward 127.0.0.1 {echo}".encode()
    assert (action.quorum, action.command_class.word, action.egress) == (0, "execute", True)
    events = await front.recorded(action)
    assert b"".join(event.payload for event in events if event.kind == Kind.OUT) == b"hello"
    told = [json.loads(event.payload) for event in events if event.kind == Kind.FWD]
    assert told[0] == {"op": "open", "host": "127.0.0.1", "port": echo, "dir": "out", "in": 0, "out": 0}
    assert told[1] == told[0] | {"op": "close", "in": 5, "out": 5}
    assert len(told) == len(("open", "close"))
    assert [event for event in events if event.kind == Kind.IN] == [], "what it was sent is counted"
    client.abort()


async def test_two_at_a_time_and_a_command_beside_them(front: Gate, echo: int) -> None:
    """Each by itself; a session is not a forward."""
    client = await front.connect(await front.admit(flags=frozenset({f"forward=127.0.0.1:{echo}"})))
    both = [await client.open_connection("127.0.0.1", echo) for _ in range(2)]
    for number, (reader, writer) in enumerate(both):
        writer.write(b"%d" % number)
        assert await reader.readexactly(1) == b"%d" % number
    assert (await client.run("echo yes")).stdout == "yes\n"
    client.abort()
    await until(lambda: front.house.world.live.count() == 0)


OTHERS = [
    ("127.0.0.1", 1),
    ("localhost", 0),
    ("127.1", 0),
    ("127.0.0.2", 0),
    ("127.0.0.1.", 0),
    ("", 0),
    ("127.0.0.1 ", 0),
]


@pytest.mark.parametrize(("host", "offset"), OTHERS)
async def test_any_other_destination_is_refused_and_audited(front: Gate, echo: int, host: str, offset: int) -> None:
    """I-20, F02: also another spelling; the target was asked nothing."""
    client = await front.entered(await front.admit(flags=frozenset({f"forward=127.0.0.1:{echo}"})))
    client.open(3, b"direct-tcpip", rest=address(echo + offset, host))
    kind, data = await client.next()
    assert (kind, data[8:]) == (MSG_CHANNEL_OPEN_FAILURE, String("not permitted by this grant") + String("en"))
    client.abort()
    assert await front.features() == ["direct_tcpip"]
    assert front.house.targets.plans == []


async def test_a_forward_asked_for_as_a_command_needs_the_grant_too(front: Gate, echo: int) -> None:
    """The gate decides, not the door."""
    client = await front.connect(await front.admit(flags=frozenset({"stream_stdin"})))
    ran = await client.run(f"grantd-forward 127.0.0.1 {echo}", input="x")
    assert (ran.exit_status, "names no such destination" in str(ran.stderr)) == (126, True)
    assert await actions(front) == []
    client.abort()


async def test_nobody_there_fails_the_channel(front: Gate) -> None:
    """The client hears that it could not connect, in words of ours."""
    port = free_port()
    client = await front.connect(await front.admit(flags=frozenset({f"forward=127.0.0.1:{port}"})))
    with pytest.raises(asyncssh.ChannelOpenError) as failed:
        await client.open_connection("127.0.0.1", port)
    assert (failed.value.code, failed.value.reason) == (2, "the connection could not be made")
    assert (await settled(front, ActionState.FAILED)).outcome is not None
    client.abort()


async def test_a_forward_channel_takes_bytes_alone(front: Gate, echo: int) -> None:
    """No exec, no terminal, no shell on it."""
    client = await front.entered(await front.admit(flags=frozenset({f"forward=127.0.0.1:{echo}", "raw_shell"})))
    client.open(0, b"direct-tcpip", rest=address(echo))
    assert (await client.next())[0] == MSG_CHANNEL_OPEN_CONFIRMATION
    for name, fields in ((b"exec", (String("id"),)), (b"shell", ()), (b"env", (String("LANG"), String("C")))):
        client.request(name, *fields)
        assert (await client.next(MSG_CHANNEL_FAILURE))[0] == MSG_CHANNEL_FAILURE
    client.send_packet(MSG_CHANNEL_DATA, UInt32(0), String(b"x"))
    assert await client.next(MSG_CHANNEL_DATA) == (MSG_CHANNEL_DATA, String(b"x"))
    client.abort()
    assert await front.features() == ["forward_request"]


async def test_a_grant_that_ends_cuts_it(front: Gate, echo: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-01, I-02."""
    monkeypatch.setattr(limits, "LOOK_EVERY_S", 0.1)
    shown = await front.admit(flags=frozenset({f"forward=127.0.0.1:{echo}"}))
    client = await front.connect(shown)
    reader, _ = await client.open_connection("127.0.0.1", echo)
    owner = front.house.people["owner"].row.id
    await front.house.cases.ending.end(TENANT, shown.grant, EndReason.REVOKED, by=owner)
    async with asyncio.timeout(20):
        assert await reader.read() == b""


@pytest.mark.parametrize("wait_s", [0.0, 0.02, 0.1])
async def test_who_leaves_while_it_connects_leaves_nothing(front: Gate, echo: int, wait_s: float) -> None:
    """F06: the channel was never open, and its action is cut all the same."""
    client = await front.entered(await front.admit(flags=frozenset({f"forward=127.0.0.1:{echo}"})))
    client.open(0, b"direct-tcpip", rest=address(echo))
    await asyncio.sleep(wait_s)
    client._transport.close()  # type: ignore[union-attr]  # noqa: SLF001
    await until(lambda: not front.door_busy() and front.house.world.live.count() == 0)
    assert {each.state for each in await actions(front)} <= {ActionState.CUT}


async def test_there_are_not_too_many(front: Gate, echo: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-26, I-60: so many at once, so many in a connection's life."""
    monkeypatch.setattr(limits, "FORWARDS_AT_ONCE", 1)
    client = await front.connect(await front.admit(flags=frozenset({f"forward=127.0.0.1:{echo}"})))
    await client.open_connection("127.0.0.1", echo)
    with pytest.raises(asyncssh.ChannelOpenError):
        await client.open_connection("127.0.0.1", echo)
    client.abort()


async def test_sessions_at_a_time_are_what_the_grant_says(front: Gate) -> None:
    """I-22: ControlMaster needs `sessions=N`."""
    client = await front.connect(await front.admit(flags=frozenset({"sessions=3"})))
    three = [await client.create_process("sleep 30") for _ in range(3)]
    with pytest.raises(asyncssh.ChannelOpenError):
        await client.create_process("id")
    assert await front.house_runs(len(three))
    client.abort()
    await until(lambda: front.house.world.live.count() == 0)


@pytest.mark.parametrize("line", ["{0} ", "grantd-forward '127.0.0.1' {1}", "{0} </etc/hostname", "! {0}", "({0})"])
async def test_another_spelling_of_a_forward_runs_nothing(front: Gate, echo: int, line: str) -> None:
    """I-10, I-18: a grant decides the connection, not whatever program on the target bears that name."""
    client = await front.connect(await front.admit(flags=frozenset({f"forward=127.0.0.1:{echo}"})))
    ran = await client.run(line.format(f"grantd-forward 127.0.0.1 {echo}", echo), encoding=None)
    assert ran.exit_status == 126
    assert await actions(front) == []
