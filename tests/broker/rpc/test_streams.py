"""The bytes of one stream, without a network: joined, bounded, in order, and an end when nobody listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from broker.core.errors import Refusal
from broker.rpc.streams import MAX_PIECE_BYTES, MAX_WAITING_BYTES, Mouth, declared, nothing, streamed
from grantd.v1 import action_pb2 as pb

KIB = 1024


class Line:
    """A connection that takes messages only while it is open."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.said: list[pb.ExecuteResponse] = []
        self.broken: Exception | None = None

    async def send(self, message: pb.ExecuteResponse) -> None:
        await self.open.wait()
        if self.broken:
            raise self.broken
        self.said.append(message)


async def test_what_waits_is_joined_up_to_64_kib_and_never_across_streams() -> None:
    """One message for many pieces; stdout and stderr keep their order."""
    line = Line()
    mouth = Mouth(line.send)
    async with asyncio.TaskGroup() as group:
        group.create_task(mouth.speak())
        for piece in (b"a" * 10, b"b" * 10, b"c" * (MAX_PIECE_BYTES - 20), b"d"):
            await mouth.out(piece)
        await mouth.err(b"e")
        await mouth.out(b"f")
        line.open.set()
        mouth.finish(pb.ExecuteResponse(finished=pb.Action(id="x")))
    sizes = [(m.WhichOneof("event"), len(m.stdout) + len(m.stderr)) for m in line.said]
    assert sizes == [("stdout", MAX_PIECE_BYTES), ("stdout", 1), ("stderr", 1), ("stdout", 1), ("finished", 0)]
    assert b"".join(m.stdout for m in line.said) == b"a" * 10 + b"b" * 10 + b"c" * (MAX_PIECE_BYTES - 20) + b"df"


async def test_a_caller_that_does_not_read_holds_up_the_pump_at_its_bound() -> None:
    """I-26: at most 256 KiB and one piece wait here; the pump goes on as soon as something was read."""
    line = Line()
    mouth = Mouth(line.send)
    taken = 0

    async def pump() -> None:
        nonlocal taken
        for _ in range(64):
            await mouth.out(bytes(32 * KIB))
            taken += 32 * KIB
        mouth.finish(pb.ExecuteResponse(finished=pb.Action()))

    async with asyncio.TaskGroup() as group:
        group.create_task(mouth.speak())
        group.create_task(pump())
        await asyncio.sleep(0.05)
        assert taken == MAX_WAITING_BYTES
        line.open.set()
    assert taken == 64 * 32 * KIB == sum(len(m.stdout) for m in line.said)


async def test_what_was_cut_lets_nothing_more_through_and_waits_for_nobody() -> None:
    """I-01: the last lines are queued behind what was sent, also to a caller that does not read; the pump is let go."""
    line = Line()
    mouth = Mouth(line.send)
    async with asyncio.TaskGroup() as group:
        group.create_task(mouth.speak())
        for _ in range(4):
            await mouth.out(bytes(MAX_PIECE_BYTES))
        waiting = group.create_task(asyncio.wait_for(_gone(mouth), 5))
        await asyncio.sleep(0)
        mouth.over(["odd", "ended: expired"])
        await waiting
        mouth.over(["ended: expired"])
        await mouth.tell("odd")
        await mouth.warn(timedelta(seconds=10))
        line.open.set()
        mouth.finish(pb.ExecuteResponse(finished=pb.Action()))
    assert [m.WhichOneof("event") for m in line.said] == [*["stdout"] * 4, "notice", "notice", "finished"]
    assert [m.notice.text for m in line.said[4:6]] == ["odd", "ended: expired"]


async def test_a_caller_that_is_gone_is_told_to_the_pump() -> None:
    """ConnectionError is what ends the command (pump.Outlet), also for one that waits for room."""
    line = Line()
    line.broken = RuntimeError("rpc already finished")
    mouth = Mouth(line.send)
    async with asyncio.TaskGroup() as group:
        group.create_task(mouth.speak())
        for _ in range(4):
            await mouth.out(bytes(MAX_PIECE_BYTES))
        waiting = group.create_task(asyncio.wait_for(_gone(mouth), 5))
        line.open.set()
        await waiting


async def _gone(mouth: Mouth) -> None:
    with pytest.raises(ConnectionError):
        await mouth.out(b"x")


async def test_stdin_is_what_was_declared_or_what_comes() -> None:
    """Each inlet ends with empty bytes, again and again."""

    async def requests() -> AsyncIterator[pb.ExecuteRequest]:
        for piece in (b"a", b"", b"b"):
            yield pb.ExecuteRequest(stdin=piece)

    assert await nothing().read() == b""
    given = declared(b"abc")
    assert [await given.read() for _ in range(3)] == [b"abc", b"", b""]
    coming = streamed(requests())
    assert [await coming.read() for _ in range(4)] == [b"a", b"b", b"", b""]


async def test_a_second_beginning_is_refused() -> None:
    """After the first message only stdin may follow."""

    async def requests() -> AsyncIterator[pb.ExecuteRequest]:
        yield pb.ExecuteRequest(resume=pb.ExecuteResume(action_id="x"))

    with pytest.raises(Refusal, match="only stdin may follow"):
        await streamed(requests()).read()
