"""One exec through the door: the bytes, the streams, the endings, and the people in between (I-18, I-23, I-30)."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest
from asyncssh.constants import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_SUCCESS,
    MSG_CHANNEL_WINDOW_ADJUST,
)
from asyncssh.packet import String, UInt32

from broker.core.action import Action, ActionState
from broker.core.approval import Verdict
from broker.core.grant import EndReason
from broker.proxy import limits
from broker.proxy.exec_session import ExecSession
from recorder.sink import RecordingSink
from recorder.track import Commitment
from recorder.track import Outcome as RecordedOutcome
from tests.broker.proxy.world import BOTH_PATHS, NO, Gate, expire, until
from tests.broker.rpc.agent import decide
from tests.broker.rpc.world import TENANT
from tests.pace import Since

STREAM = frozenset({"stream_stdin"})
READ_STDIN = "cat"


async def actions(front: Gate) -> list[Action]:
    """All there are, oldest first."""
    states = tuple(ActionState)
    found = await front.house.world.store.read(TENANT, lambda tx: list(tx.actions.in_states(states, grant=None)))
    return sorted(found, key=lambda action: action.proposed_at)


async def awaiting(front: Gate) -> Action:
    """The one action that waits for a person."""
    async with asyncio.timeout(10):
        while True:
            waiting = [each for each in await actions(front) if each.state is ActionState.AWAITING]
            if waiting:
                return waiting[0]
            await asyncio.sleep(0.02)


async def settled(front: Gate, state: ActionState) -> Action:
    """The newest action, once it is in a state."""
    async with asyncio.timeout(10):
        while True:
            found = await actions(front)
            if found and found[-1].state is state:
                return found[-1]
            await asyncio.sleep(0.02)


@pytest.fixture
async def trusted(front: Gate) -> Gate:
    """Its target lets everything run unasked."""
    await front.trust()
    return front


async def test_streams_and_exit_status_arrive_apart(trusted: Gate) -> None:
    """stdout, stderr and the status are the command's own; env and bytes are what came."""
    client = await trusted.connect(await trusted.admit())
    ran = await client.run("echo out; echo err >&2; exit 3", encoding=None, env={"LANG": "C"}, send_env=())
    assert (ran.stdout, ran.stderr, ran.exit_status) == (b"out\n", b"err\n", 3)
    assert [dict(plan.env) for plan in trusted.house.targets.plans] == [{"LANG": "C"}]
    client.abort()


async def test_a_signal_is_told_as_one(trusted: Gate) -> None:
    """The command's end is not made up."""
    client = await trusted.connect(await trusted.admit())
    async with asyncio.TaskGroup() as group:
        running = group.create_task(client.run("kill -TERM $$"))
        await decide(trusted.house, (await awaiting(trusted)).id, Verdict.APPROVE)
    ran = running.result()
    assert ran.exit_signal is not None
    assert ran.exit_signal[0] == "TERM"
    client.abort()


@BOTH_PATHS
async def test_32_mb_go_both_ways_unharmed(trusted: Gate) -> None:
    """I-30: every byte, in order; with a rekey by the client in the middle, and by the door every few MB."""
    trusted.door._shown.rekey_bytes = 5 << 20  # noqa: SLF001
    client = await trusted.connect(await trusted.admit(flags=STREAM))
    block, sent, got = os.urandom(1 << 20), hashlib.sha256(), hashlib.sha256()
    process = await client.create_process(READ_STDIN, encoding=None)

    async def write() -> None:
        for number in range(32):
            process.stdin.write(block)
            sent.update(block)
            await process.stdin.drain()
            if number == 10:
                client._send_kexinit()  # noqa: SLF001
                client._kexinit_sent = True  # noqa: SLF001
        process.stdin.write_eof()

    async def read() -> int:
        size = 0
        while data := await process.stdout.read(1 << 18):
            got.update(data)
            size += len(data)
        return size

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        size = group.create_task(read())
    assert (size.result(), got.digest()) == (32 << 20, sent.digest())
    client.abort()


async def test_stdin_of_a_read_is_passed_on(front: Gate) -> None:
    """A read may have stdin, also where everything else needs a person."""
    client = await front.connect(await front.admit())
    ran = await client.run(READ_STDIN, input=b"\x00\xffin\n", encoding=None)
    assert (ran.stdout, ran.stderr, ran.exit_status) == (b"\x00\xffin\n", b"", 0)
    client.abort()


async def test_stdin_above_read_is_told_and_dropped(trusted: Gate) -> None:
    """I-10: nobody saw it when they decided; the client is told once, and the command sees none."""
    client = await trusted.connect(await trusted.admit())
    ran = await client.run("touch /dev/null; cat", input=b"x" * 300_000, encoding=None)
    assert ran.stdout == b""
    assert ran.stderr == b"grantd: stdin is not passed on; ask for a grant with stream_stdin\r\n"
    assert [plan.wants_stdin for plan in trusted.house.targets.plans] == [False]
    client.abort()


async def test_nothing_is_asked_of_the_target_before_somebody_allowed_it(front: Gate) -> None:
    """I-23: no connection, and at most 64 kB of stdin; then the command runs, and all of the stdin arrives."""
    client = await front.entered(await front.admit(flags=STREAM))
    number = await client.session()
    client.request(b"exec", String("touch /dev/null; cat"))
    assert (await client.next())[0] == MSG_CHANNEL_SUCCESS
    client.send_packet(MSG_CHANNEL_DATA, UInt32(number), String(b"x" * limits.WAITING_WINDOW))
    action = await awaiting(front)
    await asyncio.sleep(0.1)
    heard = [client.heard.get_nowait()[0] for _ in range(client.heard.qsize())]
    assert MSG_CHANNEL_WINDOW_ADJUST not in heard
    assert front.house.targets.plans == []
    await decide(front.house, action.id, Verdict.APPROVE)
    assert await client.next(MSG_CHANNEL_WINDOW_ADJUST)
    _, data = await client.next(MSG_CHANNEL_DATA)
    assert data[4:] == b"x" * limits.WAITING_WINDOW
    client.abort()


async def test_more_stdin_than_the_window_ends_the_connection(front: Gate) -> None:
    """I-23, I-26: the window is kept by force."""
    client = await front.entered(await front.admit(flags=STREAM))
    number = await client.session()
    client.send_packet(MSG_CHANNEL_DATA, UInt32(number), String(b"x" * limits.WAITING_WINDOW))
    client.send_packet(MSG_CHANNEL_DATA, UInt32(number), String(b"x"))
    assert await client.hung_up()


async def test_stdin_is_kept_by_the_byte(trusted: Gate) -> None:
    """I-26: byte by byte it costs no more than at once; asyncssh alone keeps an object for each."""
    client = await trusted.entered(await trusted.admit())
    number = await client.session()
    client.request(b"exec", String("sleep 20"))
    assert await trusted.house_runs(1)
    (connection,) = trusted.door._connections  # noqa: SLF001
    channel = connection._channels[number]  # noqa: SLF001
    for _ in range(2_000):
        client.send_packet(MSG_CHANNEL_DATA, UInt32(number), String(b"x"))
    session = channel._session  # noqa: SLF001
    assert isinstance(session, ExecSession)
    await until(lambda: session._used + len(session._stdin) == 2_000)  # noqa: SLF001
    assert channel._recv_buf == []  # noqa: SLF001
    client.abort()


async def test_a_login_does_not_wait_for_acknowledgements(trusted: Gate) -> None:
    """Stock clients put small packets off until ours came, 40 ms each: the door asks the kernel for them at once."""
    client = await trusted.entered(await trusted.admit())
    (connection,) = trusted.door._connections  # noqa: SLF001
    assert connection._quick_reads <= 60  # noqa: SLF001
    client.abort()


async def test_output_that_nobody_takes_stops_the_target_also_byte_by_byte(trusted: Gate) -> None:
    """I-27: a byte that waits alone costs a hundred, so what waits is counted in pieces too."""
    client = await trusted.entered(await trusted.admit())
    number = await client.session(window=0)
    client.request(b"exec", String("sleep 20"))
    assert await trusted.house_runs(1)
    (connection,) = trusted.door._connections  # noqa: SLF001
    session = connection._channels[number]._session  # noqa: SLF001
    assert isinstance(session, ExecSession)
    written = 0

    async def write() -> None:
        nonlocal written
        while True:
            await session.out(b"x")
            written += 1

    async with asyncio.TaskGroup() as group:
        writing = group.create_task(write())
        await until(lambda: written >= limits.SEND_PIECES)
        await asyncio.sleep(0.2)
        writing.cancel()
    assert written == limits.SEND_PIECES
    client.abort()


@pytest.mark.parametrize("verdict", list(Verdict))
async def test_a_person_decides_and_ssh_says_so(front: Gate, verdict: Verdict) -> None:
    """The same gate as over gRPC; 126 says that it did not run."""
    client = await front.connect(await front.admit())
    async with asyncio.TaskGroup() as group:
        running = group.create_task(client.run("touch /dev/null && echo done"))
        action = await awaiting(front)
        await decide(front.house, action.id, verdict, note="" if verdict is Verdict.APPROVE else "not today")
    ran = running.result()
    assert "grantd: waiting for a person to allow this" in str(ran.stderr)
    if verdict is Verdict.APPROVE:
        assert (ran.stdout, ran.exit_status) == ("done\n", 0)
    else:
        assert (ran.stdout, ran.exit_status) == ("", 126)
        assert "grantd: denied: not today" in str(ran.stderr)
        assert front.house.targets.plans == []
    client.abort()


async def test_who_leaves_while_waiting_takes_it_back(front: Gate) -> None:
    """F06: a closed session leaves no approval behind."""
    client = await front.connect(await front.admit())
    process = await client.create_process("touch /dev/null")
    action = await awaiting(front)
    client.abort()
    assert (await settled(front, ActionState.CANCELLED)).id == action.id
    assert process.exit_status is None
    assert front.house.targets.plans == []


async def test_a_closed_channel_takes_it_back_too(front: Gate) -> None:
    """F06: the connection may live on."""
    client = await front.entered(await front.admit())
    number = await client.session()
    client.request(b"exec", String("touch /dev/null"))
    await awaiting(front)
    client.send_packet(97, UInt32(number))
    await settled(front, ActionState.CANCELLED)
    assert not client.gone.is_set()


@pytest.mark.parametrize("command", ["sleep 60", "touch /dev/null; sleep 60"])
async def test_who_leaves_at_once_leaves_nothing_running(trusted: Gate, front: Gate, command: str) -> None:
    """F06: gone before the store has written it down: the command is known, and cut, not lost."""
    for _ in range(5):
        client = await front.entered(await front.admit())
        await client.session()
        client.request(b"exec", String(command))
        client._transport.close()  # type: ignore[union-attr]  # noqa: SLF001
        await asyncio.sleep(0.05)
    await until(lambda: not front.door_busy())
    assert {each.state for each in await actions(front)} <= {ActionState.CUT, ActionState.SUCCEEDED}
    assert front.house.world.live.count() == 0


@pytest.mark.parametrize("how", ["connection", "half", "channel"])
async def test_who_leaves_while_it_runs_ends_it(trusted: Gate, how: str) -> None:
    """I-01: however the client goes, also by closing its half of the socket alone, the command is cut on the target."""
    client = await trusted.entered(await trusted.admit())
    number = await client.session()
    client.request(b"exec", String("sleep 77"))
    assert await trusted.house_runs(1)
    assert client._transport is not None  # noqa: SLF001
    if how == "connection":
        client.abort()
    elif how == "half":
        client._transport.write_eof()  # noqa: SLF001
    else:
        client.send_packet(97, UInt32(number))
    since = Since()
    assert await trusted.house_runs(0)
    assert since.s() < 1.0
    assert (await settled(trusted, ActionState.CUT)).outcome is not None


async def test_a_grant_that_ends_ends_its_command_and_its_connection(
    trusted: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-01, I-02: revoked while it runs: told, 126, and the connection closes."""
    monkeypatch.setattr(limits, "LOOK_EVERY_S", 0.1)
    shown = await trusted.admit()
    client = await trusted.connect(shown)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(client.run("sleep 60"))
        assert await trusted.house_runs(1)
        owner = trusted.house.people["owner"].row.id
        await trusted.house.cases.ending.end(TENANT, shown.grant, EndReason.REVOKED, by=owner, words="an \x07incident")
    assert running.result().exit_status == 126
    said = str(running.result().stderr)
    assert "grantd: an operator ended this: an \\x07incident\r\ngrantd: ended: revoked\r\n" in said
    async with asyncio.timeout(20):
        await client.wait_closed()
    assert trusted.refusals() == ["grant_over"]


async def test_a_client_whose_access_ends_waits_for_no_seal(trusted: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-01, I-31: told, 126 and its channel closed while its recording is still being sealed; and sealed it is."""
    release, close = asyncio.Event(), RecordingSink.close

    async def slow(sink: RecordingSink, outcome: RecordedOutcome) -> Commitment:
        await release.wait()
        return await close(sink, outcome)

    monkeypatch.setattr(RecordingSink, "close", slow)
    shown = await trusted.admit()
    client = await trusted.connect(shown)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(client.run("sleep 60"))
        assert await trusted.house_runs(1)
        trusted.house.world.live.strike(TENANT, [shown.grant], EndReason.EXPIRED)
    assert (running.result().exit_status, running.result().stderr) == (126, "grantd: ended: expired\r\n")
    assert (await settled(trusted, ActionState.RUNNING)).outcome is None
    release.set()
    over = await settled(trusted, ActionState.CUT)
    assert over.outcome is not None
    assert over.outcome.reason == "expired"
    assert trusted.house.world.live.count() == 0


async def test_a_command_under_a_grant_that_is_over_is_refused(trusted: Gate) -> None:
    """I-01: the connection that is still open gives nothing."""
    shown = await trusted.admit()
    client = await trusted.connect(shown)
    await expire(trusted, shown)
    ran = await client.run("id")
    assert (ran.exit_status, ran.stdout) == (126, "")
    assert str(ran.stderr).startswith("grantd: the grant has expired")
    client.abort()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (b"", b"empty"), (b"\xff\xfe", b"not a command"), (b"id\x00id", b"not a command"),
        (b"id\rid", b"not a command"), (b"echo $(", b"not a command"), (b"A" * 200_000, b"longer than"),
    ],
)  # fmt: skip
async def test_what_is_no_command_is_refused_clearly(trusted: Gate, command: bytes, says: bytes) -> None:
    """M7: refused in words, with 126, and nothing reached the target."""
    client = await trusted.entered(await trusted.admit())
    await client.session()
    client.request(b"exec", String(command))
    told, status = b"", b""
    while (got := await client.next())[0] != MSG_CHANNEL_CLOSE:
        told += got[1][8:] if got[0] == MSG_CHANNEL_EXTENDED_DATA else b""
        status = got[1] if got[0] == MSG_CHANNEL_REQUEST else status
    assert told.startswith(b"grantd: ")
    assert says in told
    assert status == String("exit-status") + NO + UInt32(126)
    assert trusted.house.targets.plans == []


async def test_thirty_connections_run_side_by_side(trusted: Gate) -> None:
    """Thirty clients, each with its own bytes; not more than eight log in at a time."""
    grants = [await trusted.admit(flags=STREAM) for _ in range(6)]
    doorstep = asyncio.Semaphore(8)

    async def one(number: int) -> bool:
        async with doorstep:
            client = await trusted.connect(grants[number % 6])
        ran = await client.run(f"cat; echo {number}", input=f"{number}\n" * 500)
        client.abort()
        return ran.stdout == f"{number}\n" * 501

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number)) for number in range(30)]
    assert [task.result() for task in tasks] == [True] * 30


async def test_a_client_that_takes_nothing_is_given_up(trusted: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """F11: its command is cut, and it cannot keep the channel as a hiding place from the idle limit."""
    monkeypatch.setattr(limits, "WRITE_WITHIN_S", 0.3)
    monkeypatch.setattr(limits, "IDLE_S", 0.3)
    monkeypatch.setattr(limits, "LOOK_EVERY_S", 0.1)
    client = await trusted.entered(await trusted.admit())
    await client.session(window=0)
    client.request(b"exec", String("cat /dev/zero"))
    assert (await settled(trusted, ActionState.CUT)).outcome is not None
    assert await client.hung_up(3)


async def test_a_stop_waits_for_what_ran_to_be_sealed(trusted: Gate) -> None:
    """I-30, I-31: after the stop every action is over and every recording closed."""
    client = await trusted.connect(await trusted.admit())
    await client.create_process("sleep 60")
    assert await trusted.house_runs(1)
    await trusted.door.stop()
    assert [each.state for each in await actions(trusted)] == [ActionState.CUT]
    assert (await trusted.house.events())[-3:] == ["recording.closed", "session.cut", "action.cut"]


async def test_a_line_that_is_hard_to_read_holds_nobody_up(front: Gate) -> None:
    """I-60, I-61: 16 KiB that cost the parser a second cost nobody else theirs: cuts and deadlines are on the loop."""
    client = await front.connect(await front.admit())
    lags, loop = list[float](), asyncio.get_running_loop()

    async def watch() -> None:
        while True:
            before = loop.time()
            await asyncio.sleep(0)
            lags.append(loop.time() - before)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        started = loop.time()
        ran = await client.run("a=( " * 4_000, encoding=None)
        took = loop.time() - started
        watching.cancel()
    assert ran.exit_status == 126
    assert max(lags) < took / 3, "the loop stood still while one client's line was read"
    client.abort()
