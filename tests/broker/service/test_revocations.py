"""Revoked grants reach the list of their target, soon, again after a failure, and hold up nothing (I-62)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from broker.core.errors import TargetFault
from broker.core.grant import EndReason
from broker.core.identity import Target
from broker.core.ids import GrantId
from broker.core.kinds import SshSettings
from broker.core.roles import Role
from broker.jobs import revocations
from broker.jobs.revocations import KeepingLists
from broker.service.revocations import AGAIN, REMEMBERED, RENEWED, Revocations
from tests.broker.adapters.store.fixtures import OTHER, TENANT
from tests.broker.service.somebody import Somebody
from tests.broker.service.world import House, until


@dataclass(slots=True)
class FakeLists:
    """What targets keep; fails on demand."""

    kept: dict[str, tuple[str, ...]] = field(default_factory=dict)
    pushes: list[tuple[str, str]] = field(default_factory=list)
    fails: bool = False
    hangs: set[str] = field(default_factory=set)
    """Names of targets that take a push and never answer."""
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def push(
        self, target: Target, login: str, grants: tuple[str, ...], announce: Callable[[int], Awaitable[None]]
    ) -> None:
        await announce(7)
        self.pushes.append((target.name, login))
        if target.name in self.hangs:
            await self.let_go.wait()
        if self.fails:
            raise TargetFault("the target cannot be reached", code="unreachable")
        self.kept[target.name] = grants


@dataclass(slots=True)
class Lists:
    """A house whose web1 keeps a list, and whose db1 does not."""

    house: House
    agent: Somebody
    fake: FakeLists
    revocations: Revocations

    async def tend(self) -> int:
        """How many pushes a look made."""
        before = len(self.fake.pushes)
        async with asyncio.TaskGroup() as group:
            await self.revocations.tend(TENANT, group)
        return len(self.fake.pushes) - before

    async def revoked(self, reason: EndReason = EndReason.REVOKED) -> GrantId:
        """A grant that just ended."""
        grant = await self.house.granted(self.agent)
        await self.house.cases.ending.end(TENANT, grant, reason, by="")
        return grant


@pytest.fixture
async def lists(house: House) -> Lists:
    """Nothing pushed yet."""
    await house.change_target(replace(house.web1, settings=SshSettings(krl_login="keeper")))
    fake = FakeLists()
    return Lists(
        house=house, agent=await house.add("bot", Role.AGENT), fake=fake, revocations=Revocations(house.world, fake)
    )


async def test_a_revoked_grant_is_on_its_targets_list(lists: Lists) -> None:
    """An empty one at first; then with it, once; one that time ended is not on it. Serials are in the log."""
    assert await lists.tend() == 1
    assert lists.fake.kept == {"web1": ()}
    assert await lists.tend() == 0
    first = await lists.revoked()
    assert await lists.tend() == 1
    assert lists.fake.kept == {"web1": (first,)}
    await lists.revoked(EndReason.EXPIRED)
    assert await lists.tend() == 0
    second = await lists.revoked(EndReason.FROZEN)
    assert await lists.tend() == 1
    assert lists.fake.kept == {"web1": tuple(sorted((first, second)))}
    assert lists.fake.pushes[-1] == ("web1", "keeper")
    assert (await lists.house.events()).count("credential.issued") == 3


async def test_a_list_is_renewed_before_it_is_old(lists: Lists) -> None:
    """Without a revocation too; what is long over is off it then."""
    await lists.revoked()
    await lists.tend()
    lists.house.clock.forward(RENEWED.total_seconds() - 1)
    assert await lists.tend() == 0
    lists.house.clock.forward(REMEMBERED.total_seconds())
    assert await lists.tend() == 1
    assert lists.fake.kept == {"web1": ()}


async def test_a_push_that_fails_is_counted_and_tried_again(lists: Lists) -> None:
    """After half a minute, and at once where something else is revoked; the end itself waits for none of it."""
    lists.fake.fails = True
    first = await lists.revoked()
    assert await lists.tend() == 1
    assert [name for name, _ in lists.house.meter.counted].count("revocation_list_failures") == 1
    assert await lists.tend() == 0
    second = await lists.revoked()
    assert await lists.tend() == 1
    lists.fake.fails = False
    lists.house.clock.forward(AGAIN.total_seconds())
    assert await lists.tend() == 1
    assert lists.fake.kept == {"web1": tuple(sorted((first, second)))}


async def test_another_tenants_lists_are_its_own(lists: Lists) -> None:
    """A look at one tenant pushes nothing of another's."""
    async with asyncio.TaskGroup() as group:
        await lists.revocations.tend(OTHER, group)
    assert lists.fake.pushes == []


@asynccontextmanager
async def running(job: KeepingLists) -> AsyncIterator[None]:
    """The job, ended afterwards."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(job.run())
        yield
        task.cancel()


async def test_an_end_wakes_the_job(lists: Lists, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bell that every end rings: no waiting for the next round, which never comes here."""
    monkeypatch.setattr(revocations, "EVERY", 600.0)
    job = KeepingLists(store=lists.house.store, revocations=lists.revocations, bell=lists.house.world.bell)
    async with running(job):
        await until(lambda: lists.fake.kept == {"web1": ()})
        grant = await lists.revoked()
        await until(lambda: lists.fake.kept == {"web1": (grant,)})


async def test_a_target_that_hangs_holds_up_no_other(lists: Lists) -> None:
    """Somebody who has one machine keeps its push open: the lists of the others are written all the same."""
    for name in [f"trap{number}" for number in range(3)]:
        trap = await lists.house.put_target(name)
        await lists.house.change_target(replace(trap, settings=SshSettings(krl_login="keeper")))
        lists.fake.hangs.add(name)
    job = KeepingLists(store=lists.house.store, revocations=lists.revocations, bell=lists.house.world.bell)
    async with running(job):
        await until(lambda: lists.fake.kept == {"web1": ()})
        grant = await lists.revoked()
        await until(lambda: lists.fake.kept == {"web1": (grant,)})
        assert [name for name, _ in lists.fake.pushes].count("trap0") == 1, "one push at a time to a target"


async def test_what_is_revoked_during_a_push_is_pushed_after_it(lists: Lists, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and not with the next round, which never comes here; never two pushes to a target at the same time."""
    monkeypatch.setattr(revocations, "EVERY", 600.0)
    lists.fake.hangs.add("web1")
    job = KeepingLists(store=lists.house.store, revocations=lists.revocations, bell=lists.house.world.bell)
    async with running(job):
        await until(lambda: lists.fake.pushes == [("web1", "keeper")])
        grant = await lists.revoked()
        await asyncio.sleep(0.1)
        assert lists.fake.pushes == [("web1", "keeper")]
        lists.fake.let_go.set()
        await until(lambda: lists.fake.kept == {"web1": (grant,)})


@pytest.mark.parametrize(
    "moved",
    [{"settings": SshSettings(krl_login="other")}, {"host": "192.0.2.99"}, {"port": 2222}],
    ids=["login", "host", "port"],
)
async def test_another_place_has_no_list_yet(lists: Lists, moved: dict[str, object]) -> None:
    """Another login or machine: written within half a minute, as a sshd that looks for it there refuses everybody."""
    await lists.tend()
    settings = {"settings": SshSettings(krl_login="keeper")} | moved
    await lists.house.change_target(replace(lists.house.web1, **settings))  # type: ignore[arg-type]
    lists.house.clock.forward(AGAIN.total_seconds())
    assert await lists.tend() == 1


async def test_a_clock_that_is_set_back_keeps_no_list_from_its_renewal(lists: Lists) -> None:
    """Else it would grow old, and then an old list means nothing."""
    await lists.tend()
    lists.house.clock.forward(RENEWED.total_seconds())
    lists.house.clock.wall -= timedelta(days=1)
    assert await lists.tend() == 1


def test_a_grant_stays_longer_than_its_certificates_live() -> None:
    """A minute of life, half a minute of skew on either side, and pushes that come late."""
    assert timedelta(minutes=5) < REMEMBERED
