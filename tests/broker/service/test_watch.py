"""Watching a live session: written down first, for eyes that may, and not a moment longer (I-33, I-41, F07)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

import pytest

from broker.core.errors import StoreFault
from broker.core.identity import IdentityStatus
from broker.core.roles import Role
from broker.service.feed import WAITING_COST
from broker.service.start import Ticket
from broker.service.watch import RECHECK_S, WATCHERS_PER_SESSION, Watch
from recorder.grec import Kind
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.somebody import Somebody
from tests.broker.service.world import FLOOD, HANG, House, refused, until, watching
from tests.pace import Since


async def test_a_watcher_is_in_the_log_and_in_the_recording_before_they_see_anything(house: House) -> None:
    """I-33: who, when, why; nothing is shown where it could not be written. They see the very mark of their coming."""
    agent, manager = await house.add("deployer"), await house.add("manager", Role.MANAGER)
    ticket = await house.started(agent, await house.granted(agent), HANG)
    async with house.running(ticket) as (running,):
        house.audit_fails = True
        with pytest.raises(StoreFault):
            async with watching(house, manager, ticket):
                pytest.fail("they watch, and nobody would ever know")
        house.audit_fails = False
        async with watching(house, manager, ticket) as watch:
            assert (await house.events())[-1] == "session.watched"
            marks = [item.event.payload for item in watch.follower.snapshot.events if item.event.kind == Kind.MARK]
            assert f"watched by {manager.id}".encode() in marks[-1]
            assert watch.live.oversight.standing().watchers == ("manager",)
            (listed,) = await house.cases.session.running(manager.caller)
            assert listed.oversight == watch.live.oversight.standing()
        assert (await house.events())[-1] == "session.unwatched"
        assert ("watches", {"reason": "left"}) in house.meter.counted
        running.cancel()
    reader = await house.cases.session.play(manager.caller, ticket.session.id, "a test")
    kept = b"".join(event.payload for event in reader.events() if event.kind == Kind.MARK)
    assert f"unwatched by {manager.id}".encode() in kept


async def test_who_may_not_see_a_session_may_not_watch_it(house: House) -> None:
    """I-46, F07: as if it did not exist; one that is over says so to those who may see it."""
    agent, manager = await house.add("deployer"), await house.add("manager", Role.MANAGER)
    stranger = await house.add("stranger", Role.MANAGER, teams=())
    other = await house.add("other")
    ticket = await house.started(agent, await house.granted(agent), HANG)
    async with house.running(ticket) as (running,):
        for who in (stranger, other):
            assert await refused(entered(house, who, ticket)) == "not_found"
        assert "session.watched" not in await house.events()
        running.cancel()
    assert await refused(entered(house, manager, ticket)) == "session_over"


async def test_nobody_attends_what_they_or_their_agent_asked_for(house: House) -> None:
    """I-12 for watching: they may look, and input never flows because of them; nor because of who only looks."""
    owner = await house.add("boss", Role.OWNER)
    theirs, manager = await house.add("theirs", owner=owner), await house.add("manager", Role.MANAGER)
    ticket = await house.started(theirs, await house.granted(theirs), HANG)
    async with house.running(ticket) as (running,):
        async with watching(house, owner, ticket) as watch:
            assert not watch.watcher.attends
            assert await refused(house.cases.watch.pause(watch)) == "only_looks"
            assert await refused(house.cases.watch.resume(watch)) == "only_looks"
        async with watching(house, manager, ticket, only_look=True) as watch:
            assert not watch.watcher.attends
        async with watching(house, manager, ticket) as watch:
            assert watch.watcher.attends
        running.cancel()


@pytest.mark.parametrize("lost", ["role", "team", "suspended", "key"])
async def test_losing_the_right_ends_the_watching_within_a_second(house: House, lost: str) -> None:
    """I-41: also where another broker changed the row, and only the store says so."""
    agent, manager = await house.add("deployer"), await house.add("manager", Role.MANAGER)
    changed = {
        "role": replace(manager.row, role=Role.VIEWER),
        "team": replace(manager.row, teams=frozenset()),
        "suspended": replace(manager.row, status=IdentityStatus.SUSPENDED),
        "key": replace(manager.row, key=bytes(32)),
    }[lost]
    ticket = await house.started(agent, await house.granted(agent), HANG)
    async with house.running(ticket) as (running,):
        since = Since()
        assert await refused(watched(house, manager, ticket, house.put(changed))) == "not_permitted"
        assert since.s() < 1.5  # one second, and what the two writes take
        assert house.world.live.get(TENANT, ticket.session.id) is not None, "the session itself goes on"
        assert ("watches", {"reason": "lost_right"}) in house.meter.counted
        running.cancel()


async def test_a_dismissal_on_this_broker_counts_at_once(house: House) -> None:
    """F14: not at the next look at the store."""
    agent, manager = await house.add("deployer"), await house.add("manager", Role.MANAGER)
    ticket = await house.started(agent, await house.granted(agent), HANG)
    async with house.running(ticket) as (running,):
        live = house.world.live.get(TENANT, ticket.session.id)
        assert live is not None

        async def forget() -> None:
            assert live.oversight.standing().attended
            house.cases.identify.forget(manager.caller.key)
            assert live.oversight.standing().watchers == ()

        since = Since()
        assert await refused(watched(house, manager, ticket, forget())) == "not_permitted"
        assert since.s() < RECHECK_S
        running.cancel()


async def test_who_watches_too_slowly_is_dropped_and_the_session_is_not_slowed(house: House) -> None:
    """I-60, I-27: a clear word, and they may come again."""
    agent, manager = await house.add("deployer"), await house.add("manager", Role.MANAGER)
    ticket = await house.started(agent, await house.granted(agent), FLOOD)
    async with house.running(ticket) as (running,):
        live = house.world.live.get(TENANT, ticket.session.id)
        assert live is not None
        first = live.feed.snapshot().next_seq
        assert await refused(watched(house, manager, ticket, asyncio.sleep(0))) == "watches_too_slowly"
        assert live.feed.snapshot().next_seq - first >= WAITING_COST // 65_536
        assert ("watches", {"reason": "overtaken"}) in house.meter.counted
        async with watching(house, manager, ticket) as again:
            assert await again.follower.read()
        running.cancel()


async def test_as_many_may_watch_as_may(house: House) -> None:
    """I-60: eight streams a session, whoever has them."""
    agent = await house.add("deployer")
    ticket = await house.started(agent, await house.granted(agent), HANG)
    async with house.running(ticket) as (running,), asyncio.TaskGroup() as group:
        leave = asyncio.Event()
        one = await house.add("manager", Role.MANAGER)
        for _ in range(WATCHERS_PER_SESSION):
            group.create_task(until_told(house, one, ticket, leave))
        live = house.world.live.get(TENANT, ticket.session.id)
        assert live is not None
        await until(lambda: live.oversight.streams == WATCHERS_PER_SESSION)
        assert await refused(entered(house, one, ticket)) == "too_many_watchers"
        leave.set()
        running.cancel()


async def test_pausing_is_written_down_by_name(house: House) -> None:
    """I-33, I-34: who held the input and who let it through, in the log and in the recording."""
    agent, manager = await house.add("deployer"), await house.add("manager", Role.MANAGER)
    ticket = await house.started(agent, await house.granted(agent), HANG)
    async with house.running(ticket) as (running,):
        async with watching(house, manager, ticket) as watch:
            await house.cases.watch.pause(watch)
            assert not flows(watch)
            await house.cases.watch.resume(watch)
            assert flows(watch)
            assert (await house.events())[-3:] == ["session.watched", "session.paused", "session.resumed"]
            house.audit_fails = True
            with pytest.raises(StoreFault):
                await house.cases.watch.pause(watch)
            assert not flows(watch), "a hold needs no store"
            with pytest.raises(StoreFault):
                await house.cases.watch.resume(watch)
            assert not flows(watch), "what nobody can prove lets nothing through"
            house.audit_fails = False
        running.cancel()


def flows(watch: Watch) -> bool:
    """Whether its session takes input."""
    return watch.live.oversight.flows


async def watched(house: House, who: Somebody, ticket: Ticket, meanwhile: Awaitable[object]) -> None:
    """Watches until somebody ends it; reads nothing."""
    async with watching(house, who, ticket):
        await meanwhile
        await asyncio.sleep(20)


async def entered(house: House, who: Somebody, ticket: Ticket) -> None:
    """Begins to watch, and stops."""
    async with watching(house, who, ticket):
        pass


async def until_told(house: House, who: Somebody, ticket: Ticket, leave: asyncio.Event) -> None:
    """Watches until the event is set."""
    async with watching(house, who, ticket):
        await leave.wait()
