"""A session that is cut: its caller is let go first, and it is sealed and written all the same (I-01, I-31)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from broker.core.action import ActionState, Outcome
from broker.service.closing import Closing
from broker.service.live import Scope
from broker.service.ports import Session
from recorder.sink import RecordingSink
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.fake_targets import FakeProcess
from tests.broker.service.test_shell import for_ever, opened_shell
from tests.broker.service.world import HANG, House, Terminal, until

SLOW: dict[str, tuple[type, str]] = {
    "the target": (FakeProcess, "cut"),
    "the disk": (RecordingSink, "close"),
    "the store": (Closing, "write"),
}


def held(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> asyncio.Event:
    """What is asked of it waits for the event, and is then done as ever."""
    release, does = asyncio.Event(), getattr(owner, name)

    async def waits(*given: object, **named: object) -> object:
        await release.wait()
        return await does(*given, **named)

    monkeypatch.setattr(owner, name, waits)
    return release


async def row_of(house: House) -> Session:
    """The newest session's."""
    rows = await house.store.inner.read(TENANT, lambda tx: tx.sessions.page(identity=None, after=None, limit=1))
    return rows[0]


@pytest.mark.parametrize("slow", SLOW)
async def test_who_is_cut_is_let_go_before_anything_that_takes_time(
    house: House, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    """I-01: neither a target that does not answer, nor a seal, nor a busy store holds up the word to the caller."""
    agent = await house.add("deployer")
    ticket, terminal = await house.started(agent, await house.granted(agent), HANG), house.terminal()
    release = held(monkeypatch, *SLOW[slow])
    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.run(ticket, terminal))
        await until(lambda: bool(house.targets.running))
        await house.world.live.cut(Scope(tenant=TENANT), "revoked", within=0.05, words="an incident")
        await until(lambda: bool(terminal.last))
        assert not running.done()
        release.set()
    assert terminal.last == ("an operator ended this: an incident", "ended: revoked")
    row = await row_of(house)
    assert (running.result().state, row.state, row.recording_state) == (ActionState.CUT, "cut", "final")


async def test_the_cut_itself_is_the_word(house: House) -> None:
    """I-01: whoever is in a session has been let go when the cut returns; no turn of the loop is waited for."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    ticket, terminal = await house.started(agent, grant, HANG), house.terminal()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.run(ticket, terminal))
        await until(lambda: bool(house.targets.running))
        assert house.world.live.strike(TENANT, [grant], "expired") == 1
        assert terminal.last == ("ended: expired",)
    assert running.result().state is ActionState.CUT


async def test_a_door_that_fails_to_say_it_keeps_nobody_from_being_cut(house: House) -> None:
    """I-01, I-61: the second session is cut, and the first as well."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    tickets = [await house.started(agent, grant, HANG) for _ in range(2)]
    doors = [Broken(house.targets.journal), house.terminal()]
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(house.run(*pair)) for pair in zip(tickets, doors, strict=True)]
        await until(lambda: len(house.targets.running) == len(tickets))
        assert house.world.live.strike(TENANT, [grant], "expired") == len(tickets)
    assert [task.result().state for task in running] == [ActionState.CUT] * 2
    assert doors[1].last == ("ended: expired",)


@pytest.mark.parametrize("turns", [*range(12), 20, 40, 60])
async def test_who_was_told_of_a_cut_was_cut(house: House, turns: int) -> None:
    """I-30: a command that ends by itself in the moment of its cut is written as what its caller was told."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    ticket, terminal = await house.started(agent, grant, HANG), house.terminal()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.run(ticket, terminal))
        await until(lambda: bool(house.targets.running))
        house.targets.running[0].end(Outcome(exit_status=0, signal="", reason=""))
        for _ in range(turns):
            await asyncio.sleep(0)
        house.world.live.strike(TENANT, [grant], "expired")
    row = await row_of(house)
    assert (row.state == "cut") == bool(terminal.last)
    assert running.result().state is (ActionState.CUT if terminal.last else ActionState.SUCCEEDED)


class Broken(Terminal):
    """A door with a defect."""

    def over(self, lines: Sequence[str]) -> None:
        """Not."""
        raise RuntimeError("a defect")


class Leaving(Terminal):
    """A client that hangs up as soon as it is let go."""

    leave: Callable[[], object]
    let_go = False
    after_s = 0.01

    def over(self, lines: Sequence[str]) -> None:
        """It leaves within the same turn of the loop or soon after, as a door's cancellation does."""
        super().over(lines)
        self.let_go = True
        if self.after_s:
            asyncio.get_running_loop().call_later(self.after_s, self.leave)
        else:
            self.leave()


@pytest.mark.parametrize("after_s", [0.0, 0.01])
@pytest.mark.parametrize("slow", SLOW)
async def test_who_leaves_when_let_go_changes_nothing_of_what_is_written(
    house: House, monkeypatch: pytest.MonkeyPatch, slow: str, after_s: float
) -> None:
    """I-30, I-31: sealed and final, with the reason of the cut; never truncated, never `caller_gone`."""
    agent = await house.add("deployer")
    ticket = await house.started(agent, await house.granted(agent), HANG)
    terminal, release = Leaving(house.targets.journal), held(monkeypatch, *SLOW[slow])
    running = asyncio.ensure_future(house.run(ticket, terminal))  # noqa: TID251  awaited below
    terminal.leave, terminal.after_s = running.cancel, after_s
    await until(lambda: bool(house.targets.running))
    await house.world.live.cut(Scope(tenant=TENANT), "expired", within=0.05)
    await asyncio.sleep(0.05)
    release.set()
    await ended(running)
    row = await row_of(house)
    assert (row.state, row.end_reason, row.recording_state) == ("cut", "expired", "final")
    assert row.recording_root


async def test_a_shell_that_is_cut_is_let_go_before_it_is_sealed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a command; what it is told stands in its recording, so it is told first."""
    ticket = await opened_shell(house)
    terminal, release = Leaving(house.targets.journal), held(monkeypatch, RecordingSink, "close")
    running = asyncio.ensure_future(house.cases.sessions.shells.hold(ticket, terminal, for_ever))  # noqa: TID251  awaited below
    terminal.leave = running.cancel
    await until(lambda: house.world.live.count() == 1)
    await asyncio.sleep(0.05)
    await house.world.live.cut(Scope(tenant=TENANT), "expired", within=0.05)
    await until(lambda: terminal.let_go)
    assert terminal.told == ["ended: expired"]
    await asyncio.sleep(0.05)
    assert not running.done()
    release.set()
    await ended(running)
    row = await row_of(house)
    assert (row.state, row.end_reason, row.recording_state) == ("cut", "expired", "final")


async def ended(running: asyncio.Future[Any]) -> None:
    """However it ends."""
    async with asyncio.timeout(10):
        await asyncio.wait([running])
