"""The expiry loop (I-01, I-02): ends on time, sweeps besides, and one failing tenant never holds up another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from broker.adapters.system import SystemClock
from broker.core.action import ActionState
from broker.core.errors import StoreFault
from broker.core.grant import Grant, GrantState
from broker.core.ids import GrantId, TenantId
from broker.core.roles import Role
from broker.jobs.expiry import AHEAD, HELD_S, SIDE_BY_SIDE, SWEEP_EVERY, Expiry
from broker.service.ending import SLICE, Due
from broker.service.ends import Ends
from broker.service.leases import Leases
from tests.broker.adapters.store.fixtures import OTHER, TENANT
from tests.broker.service.world import HANG, READ, House, until


def loop_of(house: House, ending: object | None = None) -> Expiry:
    """The loop over a house, or over endings of a test's own."""
    world = house.world
    chosen = house.cases.ending if ending is None else ending
    late = (chosen.write_late,)  # type: ignore[attr-defined]
    return Expiry(
        store=house.store, ending=chosen, late=late, ends=world.ends, leases=world.leases, clock=house.clock,  # type: ignore[arg-type]
        meter=house.meter,
    )  # fmt: skip


class FailingEnding:
    """Endings that fail for one tenant, and remember whom they were asked for."""

    def __init__(self, bad: TenantId | None, *, late_fails: bool = False) -> None:
        self.bad, self.late_fails = bad, late_fails
        self.swept: list[TenantId] = []
        self.retried: list[TenantId] = []
        self.written: list[tuple[TenantId, int]] = []
        self.handed: list[int] = []
        """How many slices were written when one was handed over."""
        self.struck: list[GrantId] = []
        self.under_way = self.most_under_way = 0
        self.finishing = self

    async def write_late(self) -> None:
        if self.late_fails:
            raise StoreFault("the disk is full")

    def strike(self, tenant: TenantId, grants: Sequence[GrantId]) -> int:
        self.struck += grants
        return 0

    async def write_lapsed(self, tenant: TenantId, grants: Sequence[GrantId]) -> Sequence[Grant]:
        if tenant == self.bad:
            raise StoreFault("the disk is full")
        self.under_way += 1
        self.most_under_way = max(self.under_way, self.most_under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        self.written.append((tenant, len(grants)))
        return []

    def hand_over(self, tenant: TenantId, ended: Iterable[Grant]) -> None:
        self.handed.append(len(self.written))

    async def lapse_decisions(self, tenant: TenantId) -> int:
        self.swept.append(tenant)
        return 0

    async def lapse_all(self, tenant: TenantId) -> Due:
        self.swept.append(tenant)
        if tenant == self.bad:
            raise StoreFault("the disk is full")
        return Due(grants=(), decisions=0)

    async def hand_due(self, tenant: TenantId) -> int:
        self.retried.append(tenant)
        return 0

    async def drain(self) -> None:
        return


async def test_a_grant_ends_when_it_is_due(house: House) -> None:
    """EXPIRED in the store at the step after its end, not before; how late is measured."""
    agent = await house.add("builder", Role.AGENT)
    grant = await house.granted(agent, ttl=timedelta(seconds=60))
    await house.run(await house.started(agent, grant, READ))
    loop = loop_of(house)
    house.clock.forward(59.5)
    await loop.step()
    assert (await house.grant(grant)).state is GrantState.ACTIVE
    house.clock.forward(0.6)
    await loop.step()
    assert (await house.grant(grant)).state is GrantState.EXPIRED
    assert [name for name, _ in house.meter.counted].count("revocation_lateness_seconds") == 1


async def test_a_running_command_is_cut_by_the_loop(house: House) -> None:
    """The loop sleeps on the heap of ends, so that a short grant does not wait for a sweep."""
    agent = await house.add("builder", Role.AGENT)
    grant = await house.granted(agent, ttl=timedelta(seconds=60))
    async with (
        house.running(await house.started(agent, grant, HANG)) as tasks,
        asyncio.TaskGroup() as group,
    ):
        loop = group.create_task(loop_of(house).run())
        await asyncio.sleep(0.01)
        assert not tasks[0].done()
        house.clock.forward(61)
        house.world.ends.expect(TENANT, house.clock.now() - timedelta(seconds=60))  # wakes it: the clock is a hand's
        assert (await tasks[0]).state is ActionState.CUT
        for _ in range(500):
            await asyncio.sleep(0.01)
            if (await house.grant(grant)).state is GrantState.EXPIRED:
                break
        loop.cancel()
    assert (await house.grant(grant)).state is GrantState.EXPIRED


async def test_the_sweep_looks_at_every_tenant_every_few_seconds(house: House) -> None:
    """The heap is this process's alone; the sweep finds what another one wrote. Due tenants come in between."""
    ending = FailingEnding(None)
    loop = loop_of(house, ending)
    await loop.step()
    assert set(ending.swept) == set(ending.retried) == {TENANT, OTHER}
    ending.swept.clear()
    await loop.step()
    assert ending.swept == []
    house.world.ends.expect(OTHER, house.clock.now())
    await loop.step()
    assert ending.swept == [OTHER]
    house.clock.forward(SWEEP_EVERY)
    await loop.step()
    assert set(ending.swept) == {TENANT, OTHER}


async def test_what_is_due_is_cut_before_any_of_it_is_written(house: House) -> None:
    """However many end at once: the cut waits for no store; the store is given slices, each tenant's in turn."""
    ending = FailingEnding(OTHER)
    loop = loop_of(house, ending)
    for number in range(SLICE * 2 + 1):
        for tenant in (TENANT, OTHER):
            house.world.ends.expect(tenant, house.clock.now(), GrantId(f"{tenant}-{number}"))
    with capture_logs() as logs:
        await loop.strike()
        assert (len(ending.struck), ending.written) == (2 * (SLICE * 2 + 1), [])
        await loop.write()
    assert ending.written == [(TENANT, SLICE), (TENANT, SLICE), (TENANT, 1)]
    assert [entry["tenant"] for entry in logs] == [OTHER] * 3


async def test_all_that_came_is_written_before_any_of_it_is_undone_on_targets(house: House) -> None:
    """I-01: ends of one moment share commits, and stand in the store before the long work of undoing them begins."""
    ending = FailingEnding(None)
    loop = loop_of(house, ending)
    for number in range(SLICE * (SIDE_BY_SIDE + 1)):
        house.world.ends.expect(TENANT, house.clock.now(), GrantId(f"{number}"))
    await loop.strike()
    await loop.write()
    assert ending.most_under_way == SIDE_BY_SIDE
    assert ending.handed == [SIDE_BY_SIDE + 1] * (SIDE_BY_SIDE + 1)


async def test_ends_that_never_stop_coming_do_not_keep_others_from_being_undone(house: House) -> None:
    """So many are written ahead, and no more."""
    ending = FailingEnding(None)
    loop = loop_of(house, ending)
    slices = 2 * AHEAD // SLICE

    async def write(tenant: TenantId, grants: Sequence[GrantId]) -> Sequence[Grant]:
        ending.written.append((tenant, len(grants)))
        return [await house.grant(one)] * len(grants)

    ending.write_lapsed = write  # type: ignore[method-assign]
    one = await house.granted(await house.add("builder", Role.AGENT))
    loop._struck[TENANT] = [one] * SLICE * slices  # noqa: SLF001
    await loop.write()
    assert ending.handed == [slices // 2] * (slices // 2) + [slices] * (slices // 2)


class TimedEnding(FailingEnding):
    """Endings whose writing takes so many seconds, and whose finishing does nothing."""

    def __init__(self, takes_s: float) -> None:
        super().__init__(None)
        self._takes_s = takes_s

    async def write_lapsed(self, tenant: TenantId, grants: Sequence[GrantId]) -> Sequence[Grant]:
        await asyncio.sleep(self._takes_s)
        return await super().write_lapsed(tenant, grants)

    async def run(self) -> None:
        await asyncio.Event().wait()


@asynccontextmanager
async def looping(house: House, ending: FailingEnding, ends: Ends) -> AsyncIterator[None]:
    """The loop under the real clock."""
    expiry = Expiry(
        store=house.store, ending=ending, late=(), ends=ends, leases=Leases(), clock=SystemClock(), meter=house.meter  # type: ignore[arg-type]
    )  # fmt: skip
    async with asyncio.TaskGroup() as group:
        running = group.create_task(expiry.run())
        await asyncio.sleep(0.1)  # the first sweep is over
        yield
        running.cancel()


async def test_a_stream_of_ends_leaves_none_to_the_sweep(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-01: while others end all the time, faster than they are written, what is written is undone after a moment."""
    monkeypatch.setattr("broker.jobs.expiry.SWEEP_EVERY", 3_600.0)
    ends, ending, now = Ends(), TimedEnding(0.05), SystemClock().now()
    async with looping(house, ending, ends):
        for number in range(100):
            ends.expect(TENANT, now + timedelta(seconds=0.2 + number * 0.02), GrantId(f"gr_{number}"))
        await until(lambda: sum(count for _, count in ending.written) == 100, within_s=20)
        assert ending.handed, "nothing is undone before the stream is over"
        assert ending.handed[0] < len(ending.written) / 2


async def test_an_end_that_did_not_come_holds_up_none_before_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-01: what was about to end was revoked, or put off: what was held for it is undone, and not by the sweep."""
    monkeypatch.setattr("broker.jobs.expiry.SWEEP_EVERY", 3_600.0)
    ends, ending = Ends(), TimedEnding(0.0)
    async with looping(house, ending, ends):
        now = SystemClock().now()
        ends.expect(TENANT, now + timedelta(seconds=0.30), GrantId("gr_ends"))
        ends.expect(TENANT, now + timedelta(seconds=0.34), GrantId("gr_put_off"))
        await asyncio.sleep(0.01)
        ends.expect(TENANT, now + timedelta(hours=1), GrantId("gr_put_off"))
        await until(lambda: bool(ending.handed), within_s=10)


async def test_what_is_about_to_end_goes_before_what_is_to_be_undone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-01: written ends wait a moment while others come, and no longer; the sweep leaves none behind."""
    ending, ends = FailingEnding(None), house.world.ends
    one = await house.granted(await house.add("builder", Role.AGENT))

    async def write(tenant: TenantId, grants: Sequence[GrantId]) -> Sequence[Grant]:
        ending.written.append((tenant, len(grants)))
        return [await house.grant(one)]

    ending.write_lapsed = write  # type: ignore[method-assign]
    monkeypatch.setattr(Ends, "calm", False)
    loop = loop_of(house, ending)

    async def comes(name: str) -> list[int]:
        ends.expect(TENANT, house.clock.now(), GrantId(name))
        await loop.strike()
        await loop.write()
        return ending.handed

    assert await comes("first") == []
    house.clock.forward(HELD_S / 2)
    assert await comes("second") == []
    house.clock.forward(HELD_S / 2)
    assert await comes("third") == [3, 3, 3]
    assert await comes("fourth") == [3, 3, 3]
    await loop.sweep()
    assert ending.handed == [3, 3, 3, 4]
    monkeypatch.setattr(Ends, "calm", True)
    assert await comes("fifth") == [3, 3, 3, 4, 5]


async def test_a_store_that_hangs_delays_no_cut(house: House) -> None:
    """I-01, I-61: while a slice waits for the store, what comes due next is cut at once, and written afterwards."""
    ending, released = FailingEnding(None), asyncio.Event()
    write = ending.write_lapsed

    async def hang(tenant: TenantId, grants: Sequence[GrantId]) -> Sequence[Grant]:
        await released.wait()
        return await write(tenant, grants)

    ending.write_lapsed = hang  # type: ignore[method-assign]
    loop, one, two = loop_of(house, ending), GrantId("one"), GrantId("two")
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(part) for part in (loop._strike_on(), loop._write_on())]  # noqa: SLF001
        house.world.ends.expect(TENANT, house.clock.now(), one)
        await until(lambda: ending.struck == [one])
        house.world.ends.expect(TENANT, house.clock.now(), two)
        await until(lambda: ending.struck == [one, two])
        assert ending.written == []
        released.set()
        await until(lambda: ending.written == [(TENANT, 1), (TENANT, 1)])
        for task in running:
            task.cancel()


async def test_a_first_use_that_was_never_written_ends_nothing(house: House) -> None:
    """What memory heard of it was never true: the store has the last word, and the grant's own end is awaited."""
    agent = await house.add("builder", Role.AGENT)
    grant = await house.granted(agent, ttl=timedelta(seconds=60))
    house.world.ends.expect(TENANT, house.clock.now() + timedelta(seconds=60), grant)
    house.clock.forward(61)
    loop = loop_of(house)
    await loop.step()
    assert (await house.grant(grant)).state is GrantState.APPROVED
    assert not house.cases.ending.has_ended(grant)
    await house.run(await house.started(agent, grant, READ))
    house.clock.forward(61)
    await loop.step()
    assert (await house.grant(grant)).state is GrantState.EXPIRED


async def test_one_failing_tenant_holds_up_nobody(house: House) -> None:
    """Whichever comes first: the others end on time, and the failure is in the log with its cause."""
    for bad, good in ((TENANT, OTHER), (OTHER, TENANT)):
        ending = FailingEnding(bad)
        with capture_logs() as logs:
            await loop_of(house, ending).step()
        assert good in ending.retried
        assert bad in ending.swept
        assert [(e["event"], e["tenant"], e["cause"]) for e in logs] == [("expiry.failed", bad, "the disk is full")]


async def test_late_ends_that_cannot_be_written_hold_up_nobody(house: House) -> None:
    """The ends that the store would not take belong to one tenant; the sweeps of all go on."""
    ending = FailingEnding(None, late_fails=True)
    with capture_logs() as logs:
        await loop_of(house, ending).step()
    assert set(ending.swept) == {TENANT, OTHER}
    assert [entry["cause"] for entry in logs] == ["the disk is full"]


async def test_a_store_that_is_down_is_tried_again(house: House) -> None:
    """What came due meanwhile ends as soon as it is back; the loop never ends."""
    agent = await house.add("builder", Role.AGENT)
    grant = await house.granted(agent, ttl=timedelta(seconds=60))
    await house.run(await house.started(agent, grant, READ))
    loop = loop_of(house)
    house.clock.forward(61)
    house.store.down(down=True)
    with capture_logs() as logs:
        await loop.step()
    assert logs
    house.store.down(down=False)
    house.clock.forward(SWEEP_EVERY)
    await loop.step()
    assert (await house.grant(grant)).state is GrantState.EXPIRED
