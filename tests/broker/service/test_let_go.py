"""A session that is cut: its caller is let go first, and it is sealed and written all the same (I-01, I-31)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from broker.core.action import ActionState
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


class Leaving(Terminal):
    """A client that hangs up as soon as it is let go."""

    leave: Callable[[], object]
    let_go = False

    def over(self, lines: Sequence[str]) -> None:
        """It leaves within the same turn of the loop or soon after, as a door's cancellation does."""
        super().over(lines)
        self.let_go = True
        asyncio.get_running_loop().call_later(0.01, self.leave)


@pytest.mark.parametrize("slow", SLOW)
async def test_who_leaves_when_let_go_changes_nothing_of_what_is_written(
    house: House, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    """I-30, I-31: sealed and final, with the reason of the cut; never truncated, never `caller_gone`."""
    agent = await house.add("deployer")
    ticket = await house.started(agent, await house.granted(agent), HANG)
    terminal, release = Leaving(house.targets.journal), held(monkeypatch, *SLOW[slow])
    running = asyncio.ensure_future(house.run(ticket, terminal))  # noqa: TID251  awaited below
    terminal.leave = running.cancel
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
