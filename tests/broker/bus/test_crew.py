"""Workers as children: what one answers, or does not, ends that one and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import cast

import pytest

from broker.bus import crew as crews
from broker.bus.crew import Crew, Worker
from broker.bus.desk import Rooms
from broker.core.ids import GrantId, TenantId
from tests.broker.bus.world import Line, line
from tests.broker.service.world import House, until


class Process:
    """A child as its parent has it, that ends when it is told to."""

    pid = 1

    def __init__(self) -> None:
        self.returncode: int | None = None
        self._gone = asyncio.Event()

    def kill(self) -> None:
        self.returncode = -9
        self._gone.set()

    async def wait(self) -> int:
        await self._gone.wait()
        return -9


@asynccontextmanager
async def crew_of(house: House, *ready: bool) -> AsyncIterator[tuple[Crew, list[Line]]]:
    """A crew whose workers' ends of the bus are in this process."""
    async with AsyncExitStack() as stack:
        crew = Crew(len(ready), cast("Rooms", None), lambda: pytest.fail("nothing is started"))
        lines = [await stack.enter_async_context(line(house)) for _ in ready]
        for made, listens in zip(lines, ready, strict=True):
            worker = Worker(process=cast("asyncio.subprocess.Process", Process()), desk=made.desk)
            made.desk._kill = worker.process.kill  # noqa: SLF001
            if listens:
                made.desk.ready.set()
            crew._workers.add(worker)  # noqa: SLF001
        yield crew, lines


async def end(crew: Crew) -> None:
    """A grant is over."""
    async with asyncio.timeout(20):
        await crew.end_grant(TenantId("t"), GrantId("g"))


def ended(crew: Crew) -> int:
    """How many were killed."""
    return sum(worker.process.returncode is not None for worker in crew.workers)


@pytest.mark.parametrize(
    "answer",
    [
        b'["no",1,["refusal","x","y","forbidden",""]]',
        b'["no",1,["target","x","y"]]',
        b'["no",1,["store","y"]]',
        b'["yes",1,{"more":1}]',
        b'["yes",1,7]',
    ],
)
async def test_no_answer_of_a_worker_stops_the_end_of_a_grant(house: House, answer: bytes) -> None:
    """I-02: whatever it answers, the end goes on, and the worker is ended."""
    async with crew_of(house, True) as (crew, (made,)):  # noqa: FBT003
        ending = asyncio.ensure_future(end(crew))  # noqa: TID251  awaited below
        await made.reader.readexactly(4)
        made.writer.write(len(answer).to_bytes(4, "big") + answer)
        await ending
        await until(lambda: ended(crew) == 1, within_s=20)


async def test_one_that_starts_is_not_asked(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It listens to nobody yet and has pooled nothing: the ends of grants do not keep it from starting."""
    monkeypatch.setattr(crews, "END_SECONDS", 0.05)
    async with crew_of(house, False) as (crew, _):  # noqa: FBT003
        await end(crew)
        assert ended(crew) == 0


async def test_one_that_says_nothing_is_ended(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """In time, and the end of the grant goes on."""
    monkeypatch.setattr(crews, "END_SECONDS", 0.05)
    async with crew_of(house, True) as (crew, _):  # noqa: FBT003
        await end(crew)
        assert ended(crew) == 1
