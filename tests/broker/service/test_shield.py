"""Cleanup ends however often its task is cancelled, and the cancellation is not lost (style rule 18)."""

from __future__ import annotations

import asyncio

import pytest

from broker.service.shield import to_the_end


class Work:
    """Cleanup that takes its time."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.began, self.go, self.done = asyncio.Event(), asyncio.Event(), False
        self._failure = failure

    async def run(self) -> str:
        self.began.set()
        await self.go.wait()
        self.done = True
        if self._failure is not None:
            raise self._failure
        return "sealed"


async def test_it_returns_what_the_work_returns_and_raises_what_it_raises() -> None:
    """Without a cancellation it is as if it were not there."""
    good, bad = Work(), Work(OSError("disk"))
    good.go.set()
    bad.go.set()
    assert await to_the_end(good.run()) == "sealed"
    with pytest.raises(OSError, match="disk"):
        await to_the_end(bad.run())


@pytest.mark.parametrize("times", [1, 5])
async def test_a_cancelled_task_still_ends_its_work(times: int) -> None:
    """The session is sealed, and whoever cancelled sees it cancelled, afterwards."""
    work = Work()
    task = asyncio.get_running_loop().create_task(to_the_end(work.run()))
    await work.began.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()
    work.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.done
    assert task.cancelled()


async def test_a_failure_under_a_cancellation_is_its_cause() -> None:
    """Neither hides the other."""
    work = Work(OSError("disk"))
    task = asyncio.get_running_loop().create_task(to_the_end(work.run()))
    await work.began.wait()
    task.cancel()
    await asyncio.sleep(0)
    work.go.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert isinstance(caught.value.__cause__, OSError)


async def test_a_timeout_around_it_is_a_timeout() -> None:
    """The cancellation that a timeout sends comes through as the timeout it is."""
    work = Work()

    async def finish_later() -> None:
        await asyncio.sleep(0.05)
        work.go.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(finish_later())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await to_the_end(work.run())
    assert work.done
