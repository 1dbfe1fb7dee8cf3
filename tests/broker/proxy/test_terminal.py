"""A command in a terminal through the door: window, Ctrl-C, signals, and who gets a keyboard (I-10, I-20, I-22)."""

from __future__ import annotations

import asyncio
import json
import struct

import pytest
from asyncssh.constants import MSG_CHANNEL_DATA, MSG_CHANNEL_FAILURE, MSG_CHANNEL_SUCCESS
from asyncssh.packet import String, UInt32

from broker.core.action import ActionState, StdinMode
from broker.core.terminal import Size, Terminal
from recorder.grec import Kind
from recorder.typed import InputPolicy
from tests.broker.proxy.test_exec import actions, awaiting, settled
from tests.broker.proxy.world import Gate, Raw, until
from tests.broker.rpc.local_pty import LocalPty
from tests.broker.rpc.world import TENANT

CELLS = (UInt32(101), UInt32(37), UInt32(0), UInt32(0))
LOOP = "while :; do sleep 0.02; done"


def pty_request(kind: str = "xterm-256color", modes: bytes = b"\x00") -> tuple[bytes, ...]:
    """The fields of a pty request."""
    return String(kind), *CELLS, String(modes)


async def in_terminal(front: Gate, command: str, *, flags: tuple[str, ...] = (), modes: bytes = b"\x00") -> Raw:
    """A raw client whose command was asked for with a terminal."""
    client = await front.entered(await front.admit(flags=frozenset(flags)))
    await client.session()
    client.request(b"pty-req", *pty_request(modes=modes))
    assert (await client.next())[0] == MSG_CHANNEL_SUCCESS
    client.request(b"exec", String(command))
    assert (await client.next())[0] == MSG_CHANNEL_SUCCESS
    return client


async def heard(client: Raw, word: bytes) -> bytes:
    """Output up to a word."""
    text = b""
    async with asyncio.timeout(10):
        while word not in text:
            kind, data = await client.next()
            assert kind, text
            text += data[4:] if kind == MSG_CHANNEL_DATA else b""
    return text


def type_in(client: Raw, text: bytes) -> None:
    """Bytes of the keyboard."""
    client.send_packet(MSG_CHANNEL_DATA, UInt32(0), String(text))


@pytest.fixture
async def trusted(front: Gate) -> Gate:
    """Its target lets everything below execute run unasked."""
    await front.trust()
    return front


async def test_kind_size_and_pty_are_in_the_action_the_plan_and_the_recording(trusted: Gate) -> None:
    """I-10, I-30: the digest says pty and TERM; the recording begins with the size."""
    client = await in_terminal(trusted, "echo kind:$TERM")
    assert await heard(client, b"\n") == b"kind:xterm-256color\r\n"
    action = await settled(trusted, ActionState.SUCCEEDED)
    assert (action.pty, dict(action.env), action.stdin_mode) == (True, {"TERM": "xterm-256color"}, StdinMode.NONE)
    (plan,) = trusted.house.targets.plans
    assert plan.sealed, "a pty is never on the pooled connection"
    assert plan.pty is not None
    assert plan.pty.size == Size(columns=101, rows=37)
    events = await trusted.recorded(action)
    assert json.loads(events[0].payload)["pty"] is True
    assert (events[1].kind, events[1].payload) == (Kind.RESIZE, struct.pack(">HH", 101, 37))
    client.abort()


async def test_a_window_that_changes_is_recorded_and_passed_on(trusted: Gate) -> None:
    """window-change; sizes without sense are bounded."""
    client = await in_terminal(trusted, "echo ready; sleep 30")
    await heard(client, b"ready")
    (process,) = trusted.house.targets.processes
    for number, size in enumerate(((90, 20), (2**31, 0)), 1):
        client.request(b"window-change", UInt32(size[0]), UInt32(size[1]), UInt32(0), UInt32(0))
        await until(lambda number=number: len(process.sizes) == number)
    assert process.sizes == [Size(columns=90, rows=20), Size(columns=1000, rows=24)]
    client.abort()
    action = await settled(trusted, ActionState.CUT)
    sizes = [event.payload for event in await trusted.recorded(action) if event.kind == Kind.RESIZE]
    assert sizes == [struct.pack(">HH", *size) for size in ((101, 37), (90, 20), (1000, 24))]


async def test_a_read_gets_no_keyboard_but_ctrl_c(trusted: Gate) -> None:
    """What is typed could do what its text does not say: dropped and told once; Ctrl-C interrupts."""
    client = await in_terminal(trusted, f"trap 'echo interrupted; exit 7' INT; echo ready; {LOOP}")
    await heard(client, b"ready")
    for _ in range(3):
        type_in(client, b"rm -rf x\r")
    type_in(client, b"\x03")
    text = await heard(client, b"interrupted")
    assert b"rm" not in text
    assert (await settled(trusted, ActionState.FAILED)).outcome is not None
    assert all(isinstance(each, LocalPty) for each in trusted.house.targets.processes)
    client.abort()


async def test_a_read_whose_program_is_proved_harmless_gets_one(front: Gate) -> None:
    """`cat`: the catalogue says keyboard = "read"."""
    client = await in_terminal(front, "cat")
    type_in(client, b"typed\r")
    assert await heard(client, b"typed\r\ntyped\r\n")
    assert (await actions(front))[0].stdin_mode is StdinMode.STREAM
    client.abort()


async def test_what_is_typed_on_a_terminal_is_not_in_the_recording(front: Gate) -> None:
    """I-36: nobody can tell a password that is not echoed from a word; what is echoed is in the output."""
    client = await in_terminal(front, "cat", modes=b"\x35\0\0\0\0\0")  # without ECHO
    type_in(client, b"hun")
    type_in(client, b"ter2\r")
    await heard(client, b"hunter2")
    client.abort()
    events = await front.recorded(await settled(front, ActionState.CUT))
    assert {event.kind for event in events} & {Kind.IN, Kind.HIDDEN} == {Kind.HIDDEN}
    typed = [event.payload for event in events if event.kind == Kind.HIDDEN]
    assert typed == [b"\1", b"\3ENTER"]
    assert b"hunter2" not in b"".join(typed)


@pytest.mark.parametrize("flag", ["", "sftp", "stream_stdin", "shell", "raw_shell"])
async def test_above_read_the_grant_says_whether_there_is_a_keyboard(trusted: Gate, flag: str) -> None:
    """The person who allows it sees that stdin is streamed: it is in the digest."""
    client = await in_terminal(trusted, "touch /dev/null; echo ready; cat", flags=(flag,) if flag else ())
    await heard(client, b"ready\r\n")
    streams = flag not in ("", "sftp")
    type_in(client, b"typed\r")
    if streams:
        assert await heard(client, b"typed\r\ntyped\r\n")
    type_in(client, b"\x03")
    action = await settled(trusted, ActionState.FAILED)
    assert action.stdin_mode is (StdinMode.STREAM if streams else StdinMode.NONE)
    assert action.outcome is not None
    assert action.outcome.signal == "INT"
    client.abort()


async def test_ctrl_c_while_a_person_is_waited_for_takes_it_back(front: Gate) -> None:
    """In a terminal the client itself does not end by it."""
    client = await in_terminal(front, "touch /dev/null")
    await awaiting(front)
    type_in(client, b"abc\x03")
    assert (await settled(front, ActionState.CANCELLED)).outcome is None
    kind, data = await client.next(98)
    assert (kind, data[-4:]) == (98, UInt32(126))
    assert front.house.targets.plans == []


@pytest.mark.parametrize("name", ["INT", "TERM", "USR1"])
async def test_a_signal_request_reaches_the_command(trusted: Gate, name: str) -> None:
    """RFC 4254 section 6.9, as AsyncSSH and others send it; the recording says so."""
    client = await trusted.connect(await trusted.admit())
    process = await client.create_process(f"trap 'echo {name}; exit 5' {name}; echo ready; {LOOP}")
    await process.stdout.readuntil("ready\n")
    process.send_signal(name)
    ran = await process.wait()
    assert (ran.exit_status, ran.stdout) == (5, f"{name}\n")
    events = await trusted.recorded(await settled(trusted, ActionState.FAILED))
    assert {"signal": name} in [json.loads(event.payload) for event in events if event.kind == Kind.META]
    client.abort()


async def test_signals_before_the_command_or_that_leave_a_core_are_refused(front: Gate) -> None:
    """I-20: by name; a read writes no core file."""
    client = await front.entered(await front.admit())
    await client.session()
    client.request(b"signal", String("INT"))
    assert (await client.next())[0] == MSG_CHANNEL_FAILURE
    client.request(b"exec", String("sleep 30"))
    assert (await client.next())[0] == MSG_CHANNEL_SUCCESS
    for name in (b"QUIT", b"ABRT", b"SEGV", b"", b"INT\x00", b"\xff", b"9"):
        client.request(b"signal", String(name))
        assert (await client.next(MSG_CHANNEL_FAILURE, MSG_CHANNEL_SUCCESS))[0] == MSG_CHANNEL_FAILURE
    client.abort()
    assert await front.features() == ["signal"]


async def test_one_terminal_a_channel_and_before_the_command(front: Gate) -> None:
    """I-22: a second one, a late one and one whose modes are no modes are refused by name."""
    client = await front.entered(await front.admit())
    await client.session()
    client.request(b"pty-req", *pty_request(modes=b"\x01\x00"))
    assert (await client.next())[0] == MSG_CHANNEL_FAILURE
    client.request(b"window-change", *CELLS)
    assert (await client.next())[0] == MSG_CHANNEL_FAILURE
    client.request(b"pty-req", *pty_request(kind="$(id)"))
    assert (await client.next())[0] == MSG_CHANNEL_SUCCESS
    client.request(b"pty-req", *pty_request())
    assert (await client.next())[0] == MSG_CHANNEL_FAILURE
    client.request(b"exec", String("echo kind:$TERM; sleep 30"))
    await heard(client, b"kind:dumb")
    client.request(b"pty-req", *pty_request())
    assert (await client.next(MSG_CHANNEL_FAILURE, MSG_CHANNEL_SUCCESS))[0] == MSG_CHANNEL_FAILURE
    client.abort()
    assert await front.features() == ["pty"]


async def test_many_window_changes_and_signals_cost_nothing(trusted: Gate) -> None:
    """I-26: what is not taken yet is one size and a few signals, however many came."""
    client = await trusted.entered(await trusted.admit())
    await client.session()
    client.request(b"pty-req", *pty_request())
    for number in range(20_000):
        client.request(b"window-change", UInt32(number % 200 + 1), UInt32(24), UInt32(0), UInt32(0), reply=False)
    client.request(b"exec", String("echo ready; sleep 30"))
    await heard(client, b"ready")
    assert trusted.house.targets.plans[0].pty == Terminal(size=Size(columns=200, rows=24)).without_keyboard()
    assert trusted.house.targets.processes[0].sizes in ([], [Size(columns=200, rows=24)])
    client.abort()


async def test_what_is_typed_is_not_kept(trusted: Gate) -> None:
    """I-36: no key but its name where it is a control key; the output shows what was echoed."""
    client = await in_terminal(trusted, "cat")
    type_in(client, b"secret\r")
    await heard(client, b"secret\r\nsecret\r\n")
    type_in(client, b"\x03")
    action = await settled(trusted, ActionState.FAILED)
    events = [event for event in await trusted.recorded(action) if event.kind in (Kind.IN, Kind.HIDDEN)]
    assert [(event.kind, event.payload) for event in events] == [
        (Kind.HIDDEN, b"\x01"), (Kind.HIDDEN, b"\x03ENTER"), (Kind.HIDDEN, b"\x03^C"),
    ]  # fmt: skip
    client.abort()


async def test_where_everything_is_kept_the_log_says_so(trusted: Gate) -> None:
    """`recordings.input = "all"`: audited with each recording."""
    world = trusted.house.world
    for one in (world, trusted.house.cases.run._site):  # noqa: SLF001
        object.__setattr__(one, "keeps_input", InputPolicy.ALL)
    client = await trusted.connect(await trusted.admit())
    assert (await client.run("cat", input="in")).stdout == "in"
    events = await trusted.recorded(await settled(trusted, ActionState.SUCCEEDED))
    assert b"".join(event.payload for event in events if event.kind == Kind.IN) == b"in"
    await until(lambda: not trusted.door_busy())
    await trusted.house.events()
    records = await trusted.house.cases.audit._log.entries(TENANT, from_seq=0, limit=1000)  # noqa: SLF001
    (opened,) = [json.loads(record.entry) for record in records if record.name == "recording.opened"]
    assert opened["input"] == "all"
    client.abort()
