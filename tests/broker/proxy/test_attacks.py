"""A day with bad intentions: orders of messages by which a byte or a command might slip past the gate or the recorder.

Whatever a client tries, what ran on the target is what was decided, and what it was given is what was recorded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from asyncssh.constants import MSG_CHANNEL_FAILURE, MSG_CHANNEL_SUCCESS
from asyncssh.packet import Boolean, String, UInt32

from recorder.grec import Kind
from tests.broker.proxy.test_exec import actions
from tests.broker.proxy.world import BOTH_PATHS, Gate, Raw, until

STREAM = frozenset({"stream_stdin", "sessions=2"})
DATA, EXTENDED, EOF, CLOSE = 94, 95, 96, 97


@pytest.fixture
async def client(front: Gate) -> Raw:
    """Logged in, with stdin granted; the target lets everything run unasked."""
    await front.trust()
    return await front.entered(await front.admit(flags=STREAM))


def data(client: Raw, text: bytes, channel: int = 0) -> None:
    """Stdin."""
    client.send_packet(DATA, UInt32(channel), String(text))


async def given(front: Gate) -> list[int]:
    """How many bytes of stdin each recording says its command was given, oldest first."""
    await until(lambda: not front.house.world.live.count() and not front.door_busy())
    told = []
    for action in await actions(front):
        notes = [json.loads(e.payload) for e in await front.recorded(action) if e.kind == Kind.CHAN]
        told += [note["bytes"] for note in notes if note["type"] == "eof"]
    return told


AFTER_THE_END: dict[str, Callable[[Raw], None]] = {
    "data": lambda client: data(client, b"more"),
    "errors": lambda client: client.send_packet(EXTENDED, UInt32(0), UInt32(1), String(b"more")),
    "another end": lambda client: client.send_packet(EOF, UInt32(0)),
}


@BOTH_PATHS
@pytest.mark.parametrize("more", list(AFTER_THE_END))
async def test_nothing_follows_the_end_of_stdin(front: Gate, client: Raw, tmp_path: Path, more: str) -> None:
    """I-30: bytes behind the end are no stdin: the connection is cut, and the target has what was recorded."""
    await client.session()
    client.request(b"exec", String(f"cat > {tmp_path}/got; sleep 5"))
    assert (await client.next())[0] == MSG_CHANNEL_SUCCESS
    data(client, b"all")
    await until(lambda: (tmp_path / "got").exists() and (tmp_path / "got").read_bytes() == b"all")
    client.send_packet(EOF, UInt32(0))
    AFTER_THE_END[more](client)
    assert await client.hung_up()
    assert await given(front) == [3]
    assert (tmp_path / "got").read_bytes() == b"all"


@BOTH_PATHS
async def test_bytes_of_another_stream_or_channel_are_nobodys(front: Gate, client: Raw, tmp_path: Path) -> None:
    """I-22, I-30: stderr from a client, a channel that does not exist, one that was closed."""
    shown = await front.admit(flags=STREAM)
    sends: list[Callable[[Raw], None]] = [
        lambda peer: peer.send_packet(EXTENDED, UInt32(0), UInt32(1), String(b"x")),
        lambda peer: data(peer, b"x", channel=7),
        lambda peer: data(peer, b"x", channel=2**32 - 1),
        lambda peer: peer.send_packet(DATA, UInt32(0), UInt32(2**31), b"x"),
    ]
    for number, send in enumerate(sends):
        peer = await front.entered(shown)
        await peer.session()
        peer.request(b"exec", String(f"cat > {tmp_path}/got{number}"))
        assert (await peer.next())[0] == MSG_CHANNEL_SUCCESS
        send(peer)
        assert await peer.hung_up(), number
    assert set(await given(front)) <= {0}
    assert [path.read_bytes() for path in tmp_path.glob("got*") if path.stat().st_size] == []


@pytest.mark.parametrize("then", ["exec", "shell", "subsystem", "data"])
async def test_a_channel_that_was_closed_runs_nothing(front: Gate, client: Raw, then: str) -> None:
    """I-22: its number is nobody's until it is opened again."""
    await client.session()
    client.send_packet(CLOSE, UInt32(0))
    if then == "data":
        data(client, b"x")
    else:
        client.request(then.encode(), *([String("id")] if then != "shell" else []))
    assert await client.hung_up()
    assert (await actions(front), front.house.targets.plans) == ([], [])


async def test_two_commands_in_one_breath_are_one(front: Gate, client: Raw, tmp_path: Path) -> None:
    """I-22: the second is refused before the first is decided, whatever kind it is."""
    await client.session()
    client.request(b"exec", String("echo one"))
    for name, fields in ((b"exec", [String("id")]), (b"shell", []), (b"subsystem", [String("sftp")])):
        client.request(name, *fields)
    answers = [(await client.next(MSG_CHANNEL_SUCCESS, MSG_CHANNEL_FAILURE))[0] for _ in range(4)]
    assert answers == [MSG_CHANNEL_SUCCESS, *[MSG_CHANNEL_FAILURE] * 3]
    assert await client.next(DATA) == (DATA, String("one\n"))
    await client.next(CLOSE)
    assert [plan.command for plan in front.house.targets.plans] == [b"echo one"]


@pytest.mark.parametrize(
    "line",
    [b"id\0", b"\0id", b"id\0touch {}/ran", b"echo \xff; touch {}/ran", b"echo a\rtouch {}/ran", b"", b"id\x1b[2K",
     "echo \u202e; touch {}/ran".encode()],
)  # fmt: skip
async def test_a_text_that_two_readers_read_apart_runs_not_at_all(
    front: Gate, client: Raw, tmp_path: Path, line: bytes
) -> None:
    """I-16: what ends early, is no text or hides what follows is refused; the target hears nothing of it."""
    await client.session()
    client.request(b"exec", String(line.replace(b"{}", bytes(tmp_path))))
    await client.next(CLOSE)
    assert not (tmp_path / "ran").exists()
    assert front.house.targets.plans == []


@pytest.mark.parametrize("name", ["sftp\0", "SFTP", "sftp ", " sftp", "/usr/lib/openssh/sftp-server", "netconf", ""])
async def test_a_subsystem_has_one_name(front: Gate, name: str) -> None:
    """I-20: also where the grant has files."""
    await front.trust()
    client = await front.entered(await front.admit(flags=frozenset({"sftp"})))
    await client.session()
    client.request(b"subsystem", String(name))
    assert (await client.next())[0] == MSG_CHANNEL_FAILURE
    assert (await actions(front), front.house.targets.plans) == ([], [])
    client.abort()


@BOTH_PATHS
async def test_a_key_exchange_in_the_middle_of_a_proposal(front: Gate, client: Raw, tmp_path: Path) -> None:
    """I-22, I-30: once, as decided, with the bytes that came before and after it."""
    await client.session()
    client.request(b"exec", String(f"cat > {tmp_path}/got"), reply=False)
    data(client, b"before ")
    client._send_kexinit()  # noqa: SLF001
    client._kexinit_sent = True  # noqa: SLF001
    data(client, b"after")
    client.send_packet(EOF, UInt32(0))
    await client.next(CLOSE)
    assert (tmp_path / "got").read_bytes() == b"before after"
    assert await given(front) == [len(b"before after")]
    assert len(front.house.targets.plans) == 1
    client.abort()


async def test_two_channels_keep_their_streams_apart(front: Gate, client: Raw, tmp_path: Path) -> None:
    """I-22: opened side by side, written in turns, closed and opened anew: each byte is its own command's."""
    for number in (0, 1):
        client.open(number)
        assert (await client.next(91, 92))[0] == 91
        client.request(b"exec", String(f"cat > {tmp_path}/got{number}"), channel=number, reply=False)
    for turn in range(200):
        data(client, b"%d" % (turn % 2), channel=turn % 2)
    for number in (0, 1):
        client.send_packet(EOF, UInt32(number))
    for _ in (0, 1):
        await client.next(CLOSE)
    assert [(tmp_path / f"got{number}").read_bytes() for number in (0, 1)] == [b"0" * 100, b"1" * 100]
    assert await given(front) == [100, 100]
    client.abort()


async def test_a_reply_that_nobody_asked_for_changes_nothing(front: Gate, client: Raw) -> None:
    """F27: confirmations, successes and statuses are a server's to say: the connection ends, and nothing ran."""
    shown = await front.admit()
    for kind, fields in (
        (91, [UInt32(0)] * 4),
        (92, [UInt32(0), UInt32(1), String(""), String("")]),
        (99, [UInt32(0)]),
    ):
        peer = await front.entered(shown)
        await peer.session()
        peer.send_packet(kind, *fields)
        peer.request(b"exec", String("id"))
        assert await peer.hung_up(), kind
    client.request(b"exit-status", Boolean(False), UInt32(0))  # noqa: FBT003
    assert front.house.targets.plans == []
