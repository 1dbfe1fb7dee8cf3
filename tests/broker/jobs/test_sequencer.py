"""The loop over the audit log: keeps going over faults, signs after sequencing, ends on what is no fault."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from broker.core.errors import StoreFault
from broker.core.ids import SYSTEM_TENANT, TenantId
from broker.jobs.sequencer import Sequencer
from tests.pace import Since

T1 = TenantId("t1")


class Clock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.mono = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 22, tzinfo=UTC) + timedelta(seconds=self.mono)

    def monotonic(self) -> float:
        return self.mono


class Meter:
    """Counts failures by step."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def count(self, name: str, **labels: str) -> None:
        self.failed.append(labels["step"])

    def observe(self, name: str, value: float, **labels: str) -> None: ...
    def gauge(self, name: str, value: float, **labels: str) -> None: ...


class Keeper:
    """A log in memory: entries wait, get places, get heads; each call can be made to fail."""

    def __init__(self) -> None:
        self.queue = {SYSTEM_TENANT: 0, T1: 0}
        self.rows = {SYSTEM_TENANT: 0, T1: 0}
        self.signed = {SYSTEM_TENANT: 0, T1: 0}
        self.calls: list[str] = []
        self.fails: dict[str, Exception] = {}

    async def start(self, now: datetime) -> None: ...

    async def waiting(self, *, sweep: bool) -> Sequence[TenantId]:
        self._call("sweep" if sweep else "look")
        return [tenant for tenant, count in self.queue.items() if count]

    async def sequence(self, tenant: TenantId) -> int:
        self._call(f"sequence {tenant}")
        moved = min(self.queue[tenant], 10)
        self.queue[tenant] -= moved
        self.rows[tenant] += moved
        return moved

    def unsigned(self) -> Sequence[TenantId]:
        return [tenant for tenant, count in self.rows.items() if count > self.signed[tenant]]

    async def sign_head(self, tenant: TenantId, now: datetime) -> bool:
        self._call(f"sign {tenant}")
        self.signed[tenant] = self.rows[tenant]
        if tenant != SYSTEM_TENANT:
            self.queue[SYSTEM_TENANT] += 1
        return True

    async def beat(self, now: datetime) -> Sequence[TenantId]:
        self._call("beat")
        return []

    def report(self) -> None:
        self._call("report")

    def _call(self, what: str) -> None:
        self.calls.append(what)
        if what in self.fails:
            raise self.fails[what]


@pytest.fixture
def parts() -> tuple[Sequencer, Keeper, Clock, Meter]:
    """A job over a log in memory."""
    keeper, clock, meter = Keeper(), Clock(), Meter()
    return Sequencer(keeper=keeper, clock=clock, meter=meter), keeper, clock, meter


async def test_a_tick_empties_what_waits_batch_by_batch(parts: tuple[Sequencer, Keeper, Clock, Meter]) -> None:
    """More than a batch is sequenced in one tick, and a head follows at most each second."""
    job, keeper, clock, _ = parts
    keeper.queue[T1] = 25
    await job.step()
    assert (keeper.queue[T1], keeper.signed[T1]) == (0, 25)
    keeper.queue[T1] = 1
    clock.mono += 0.2
    await job.step()
    assert (keeper.rows[T1], keeper.signed[T1]) == (26, 25)
    clock.mono += 0.9
    await job.step()
    assert keeper.signed[T1] == 26


@pytest.mark.parametrize(
    ("call", "step"),
    [("sweep", "sweep"), ("sequence t1", "sequence"), ("sign t1", "sign"), ("beat", "beat")],
)
async def test_a_fault_is_counted_and_the_loop_goes_on(
    parts: tuple[Sequencer, Keeper, Clock, Meter], call: str, step: str
) -> None:
    """Each step may fail without hiding it, without stopping the others, and is tried again."""
    job, keeper, clock, meter = parts
    keeper.queue[T1] = 3
    keeper.fails[call] = StoreFault("the database is gone")
    await job.step()
    assert meter.failed == [step]
    assert keeper.calls[-1] == "report"
    keeper.fails.clear()
    clock.mono += 61
    await job.step()
    assert (keeper.queue[T1], keeper.signed[T1]) == (0, 3)


async def test_what_is_no_fault_ends_the_loop(parts: tuple[Sequencer, Keeper, Clock, Meter]) -> None:
    """A bug is not swallowed: the parent sees it and the process ends rather than run without a log."""
    job, keeper, _, _ = parts
    keeper.queue[T1] = 1
    keeper.fails["sequence t1"] = KeyError("bug")
    with pytest.raises(KeyError):
        await job.run()


async def test_draining_signs_the_system_log_last(parts: tuple[Sequencer, Keeper, Clock, Meter]) -> None:
    """At the end every log has a head, and `_system` holds those of the others."""
    job, keeper, _, _ = parts
    keeper.queue[T1] = 12
    await job.drain()
    assert keeper.queue == {SYSTEM_TENANT: 0, T1: 0}
    assert keeper.signed == keeper.rows == {SYSTEM_TENANT: 1, T1: 12}
    assert keeper.calls.index("sign t1") < keeper.calls.index(f"sign {SYSTEM_TENANT}")


async def test_the_loop_ticks_until_it_is_cancelled(parts: tuple[Sequencer, Keeper, Clock, Meter]) -> None:
    """Cancellation passes through at once."""
    job, keeper, _, _ = parts
    async with asyncio.TaskGroup() as group:
        since = Since()
        running = group.create_task(job.run())
        while keeper.calls.count("report") < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert since.wall_s() >= 0.3, "not in one go"
        running.cancel()
