"""WatchSession over real gRPC: what a watcher sees, what they may do, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import grpc.aio
import pytest

import broker.rpc.watch
from broker.core.ids import SessionId
from broker.core.roles import Role
from grantd.v1 import action_pb2
from grantd.v1 import session_pb2 as pb
from grantd.v1.action_pb2_grpc import ActionServiceStub
from grantd.v1.session_pb2_grpc import SessionServiceStub
from recorder.grec import Kind
from tests.broker.rpc.agent import granted, identified, start
from tests.broker.rpc.calls import next_of, refusal_of, said
from tests.broker.rpc.world import House
from tests.pace import Since

PRESENT = pb.WatchSessionRequest(present=pb.Present())
PAUSE, RESUME = pb.WatchSessionRequest(pause=pb.Pause()), pb.WatchSessionRequest(resume=pb.Resume())
WATCH_BEAT_S = 0.1
_KEPT = 1 << 16


@dataclass
class Typed:
    """A command of the agent's, whose stdin the test types and whose output it reads."""

    call: grpc.aio.StreamStreamCall[action_pb2.ExecuteRequest, action_pb2.ExecuteResponse]
    session: str
    out: bytes = b""
    notices: list[str] = field(default_factory=list)
    size: int = 0

    async def type(self, data: bytes) -> None:
        """Bytes of stdin."""
        await self.call.write(action_pb2.ExecuteRequest(stdin=data))

    async def read(self) -> None:
        """Takes in everything until the end."""
        while (response := await self.call.read()) is not grpc.aio.EOF:
            assert isinstance(response, action_pb2.ExecuteResponse)
            self.size += len(response.stdout)
            self.out += response.stdout if self.size < _KEPT else b""
            if response.HasField("notice"):
                self.notices.append(response.notice.text)


@asynccontextmanager
async def running(house: House, line: str, *, stdin: bool = False) -> AsyncIterator[Typed]:
    """A command that runs; it is over when the block is."""
    mode = action_pb2.STDIN_MODE_STREAM if stdin else action_pb2.STDIN_MODE_NONE
    async with house.channel(house.people["agent"]) as channel, asyncio.TaskGroup() as group:
        call = ActionServiceStub(channel).Execute(timeout=60)
        await call.write(start(await granted(house), line, stdin_mode=mode))
        first = await next_of(call)
        typed = Typed(call=call, session=first.action.session_id)
        reading = group.create_task(typed.read())
        yield typed
        call.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait([reading])
        reading.cancel()


@asynccontextmanager
async def watching(
    house: House, session: str, *, who: str = "manager", beats: bool = False
) -> AsyncIterator[grpc.aio.StreamStreamCall[pb.WatchSessionRequest, pb.WatchSessionResponse]]:
    """A stream that has begun; with `beats` it says that it is there.

    Beats are for a stream that the test itself ends: grpc.aio puts INTERNAL in place of the server's status where a
    write fails, as it does on a stream that the server has just ended. See `_nobody_is_silent`.
    """
    async with house.channel(house.people[who]) as channel, asyncio.TaskGroup() as group:
        call = SessionServiceStub(channel).WatchSession(timeout=60)
        beating = group.create_task(_beat(call) if beats else asyncio.sleep(0))
        await call.write(pb.WatchSessionRequest(start=pb.WatchStart(session_id=session, reason="a test")))
        yield call
        beating.cancel()
        call.cancel()


@pytest.fixture(autouse=True)
def _nobody_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who says nothing is there for as long as a test may take, unless the test is about silence."""
    monkeypatch.setattr(broker.rpc.watch, "SILENT_S", 120.0)


async def _beat(call: grpc.aio.StreamStreamCall[pb.WatchSessionRequest, pb.WatchSessionResponse]) -> None:
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        while True:
            await asyncio.sleep(WATCH_BEAT_S)
            await call.write(PRESENT)


async def test_a_watcher_sees_what_is_recorded_and_how_it_ended(house: House) -> None:
    """I-30, I-33: joined, all events without a gap, how it stands, and at last the session as its row has it."""
    async with running(house, "cat", stdin=True) as typed:
        await typed.type(b"before\n")
        await said(lambda: typed.out == b"before\n")
        async with watching(house, typed.session) as watch:
            joined = (await next_of(watch)).joined
            assert (joined.session.id, joined.session.state, joined.attends) == (typed.session, "open", True)
            assert (joined.first_seq, joined.terminal) == (0, False)
            await typed.type(b"after\n")
            await said(lambda: typed.out == b"before\nafter\n")
            await typed.call.write(action_pb2.ExecuteRequest(stdin_eof=True))
            messages = await _all(watch)
        assert messages[-1].ended.session.state == "closed"
        standings = [m.oversight for m in messages if m.HasField("oversight")]
        assert [(list(s.watchers), s.flows, s.paused, s.must_be_watched) for s in standings] == [
            (["manager"], True, False, False)
        ]
        events = [event for message in messages for event in message.events.events]
        assert [event.seq for event in events] == list(range(len(events)))
        reader = await house.cases.session.play(await identified(house, "manager"), SessionId(typed.session), "compare")
        kept = [(e.t_us, e.kind, e.chan, e.payload) for e in reader.events()]
        assert [(e.t_us, e.kind, e.channel, e.payload) for e in events] == kept
        assert [e.payload for e in events if e.kind == Kind.OUT] == [b"before\n", b"after\n"]
    names = await house.events()
    assert names.index("session.watched") < names.index("session.closed")
    assert ("watches", {"reason": "over"}) in house.meter.counted


async def test_a_pause_holds_the_input_at_once_and_the_output_goes_on(house: House) -> None:
    """F14: what was typed meanwhile goes through afterwards, in order; the caller is told both."""
    async with running(house, "cat", stdin=True) as typed, watching(house, typed.session) as watch:
        await next_of(watch)
        live = house.world.live.get(house.people["agent"].row.tenant, SessionId(typed.session))
        assert live is not None
        await watch.write(PAUSE)
        await said(lambda: not live.oversight.flows)
        await typed.type(b"held ")
        await typed.type(b"back\n")
        await asyncio.sleep(0.3)
        assert typed.out == b""
        assert typed.notices == ["held: an operator paused your input"]
        await watch.write(RESUME)
        await said(lambda: typed.out == b"held back\n")
        assert typed.notices[1:] == ["your input goes through again"]
    assert {"session.paused", "session.resumed"} <= set(await house.events())


async def test_a_watcher_who_falls_silent_is_gone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """F14: a stream that stays open proves nothing: a stopped program counts as absent."""
    monkeypatch.setattr(broker.rpc.watch, "SILENT_S", 0.4)
    async with running(house, "tail -f /dev/null") as typed, watching(house, typed.session) as watch:
        since = Since()
        assert await refusal_of(_all(watch)) == ("FAILED_PRECONDITION", "watcher_silent")
        assert since.s() < 2
    assert ("watches", {"reason": "vanished"}) in house.meter.counted


async def test_a_watcher_who_says_so_is_there(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """F14: for as long as they go on saying it."""
    monkeypatch.setattr(broker.rpc.watch, "SILENT_S", 10 * WATCH_BEAT_S)
    async with running(house, "tail -f /dev/null") as typed, watching(house, typed.session, beats=True) as watch:
        await next_of(watch)
        await asyncio.sleep(12 * WATCH_BEAT_S)
        (listed,) = await house.cases.session.running(await identified(house, "owner"))
        assert listed.oversight is not None
        assert listed.oversight.watchers == ("manager",)


async def test_who_does_not_read_is_dropped_and_the_command_runs_on(house: House) -> None:
    """I-60: the session is as fast as without them, and the watcher is told."""
    async with running(house, "cat /dev/zero") as typed, watching(house, typed.session) as watch:
        await said(lambda: ("watches", {"reason": "overtaken"}) in house.meter.counted, within=40)
        so_far = typed.size
        await said(lambda: typed.size > so_far + (1 << 20))
        assert await refusal_of(_all(watch)) == ("RESOURCE_EXHAUSTED", "watches_too_slowly")


async def test_the_stream_ends_with_the_role(house: House) -> None:
    """I-41: within a second, by a change that this broker was not told of."""
    async with running(house, "tail -f /dev/null") as typed, watching(house, typed.session) as watch:
        await next_of(watch)
        await house.change(house.people["manager"], role=Role.VIEWER)
        since = Since()
        assert await refusal_of(_all(watch)) == ("PERMISSION_DENIED", "not_permitted")
        assert since.s() < 1.0


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "no_beginning"),
        ([PRESENT], "no_beginning"),
        ([pb.WatchSessionRequest(start=pb.WatchStart(session_id="se_" + "a" * 26, reason="a test"))], "not_found"),
        ([pb.WatchSessionRequest(start=pb.WatchStart(session_id="x", reason="a test"))], "bad_field"),
    ],
    ids=["nothing", "no start", "none such", "no id"],
)
async def test_a_beginning_that_is_none(house: House, messages: list[pb.WatchSessionRequest], reason: str) -> None:
    """Refused in words, and nothing is in the log."""
    async with house.channel(house.people["manager"]) as channel:
        _, told = await refusal_of(_all(SessionServiceStub(channel).WatchSession(iter(messages), timeout=10)))
    assert told == reason
    assert "session.watched" not in await house.events()


async def test_what_runs_is_listed_with_who_watches(house: House) -> None:
    """`open_only`: nothing that is over, one page."""
    async with running(house, "true"):
        pass
    async with running(house, "tail -f /dev/null") as typed, watching(house, typed.session) as watch:
        await next_of(watch)
        async with house.channel(house.people["viewer"]) as channel:
            found = await SessionServiceStub(channel).ListSessions(pb.ListSessionsRequest(open_only=True))
            one = await SessionServiceStub(channel).GetSession(pb.GetSessionRequest(session_id=typed.session))
        assert [session.id for session in found.sessions] == [typed.session]
        assert list(found.sessions[0].oversight.watchers) == ["manager"]
        assert one.session.oversight.flows


async def _all(
    call: grpc.aio.StreamStreamCall[pb.WatchSessionRequest, pb.WatchSessionResponse],
) -> list[pb.WatchSessionResponse]:
    """Every message to the end."""
    found = []
    while isinstance(message := await call.read(), pb.WatchSessionResponse):
        found.append(message)
    return found
