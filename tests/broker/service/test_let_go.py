"""A session that is cut: its caller is let go first, and it is sealed and written all the same (I-01, I-31)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from broker.core.action import ActionState, Outcome, StdinMode
from broker.service import sealing
from broker.service.closing import Closing
from broker.service.live import Scope
from broker.service.ports import Session
from recorder.sink import RecordingSink
from recorder.track import RecordingMeta
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.fake_targets import FakeProcess
from tests.broker.service.terminal import Terminal
from tests.broker.service.test_shell import LEFT, for_ever, granted, opened_shell
from tests.broker.service.world import HANG, House, until

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


@pytest.mark.parametrize("door", ["sound", "broken"])
@pytest.mark.parametrize("how", ["struck", "lapsed"])
async def test_what_is_over_before_it_begins_asks_nothing_of_the_target(
    house: House, monkeypatch: pytest.MonkeyPatch, how: str, door: str
) -> None:
    """I-01, I-30: while its recording is made. It is let go, sealed and written, also where the door has a defect."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    ticket = await house.started(agent, grant, HANG)
    terminal = house.terminal() if door == "sound" else Broken(house.targets.journal)
    made = house.recordings.create

    async def slowly(meta: RecordingMeta) -> RecordingSink:
        sink = await made(meta)
        if how == "struck":
            assert house.world.live.strike(TENANT, [grant], "expired") == 1
        house.clock.forward(0.0 if how == "struck" else ticket.seconds_left)
        return sink

    monkeypatch.setattr(house.recordings, "create", slowly)
    assert (await house.run(ticket, terminal)).state is ActionState.CUT
    assert house.targets.journal == []
    assert terminal.last == (("ended: expired",) if door == "sound" else ())
    row = await row_of(house)
    assert (row.state, row.end_reason, row.recording_state) == ("cut", "expired", "final")


@pytest.mark.parametrize("turns", range(12))
async def test_no_byte_of_input_goes_to_the_target_after_the_cut(house: House, turns: int) -> None:
    """I-01: neither what was typed before it, nor an end of input, which would end a command as if all had been said.

    Whatever was on its way at that moment.
    """
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    proposal = await house.propose(agent, grant, b"cat", stdin_mode=StdinMode.STREAM)
    assert proposal.ticket is not None
    terminal = Typist(house.targets.journal)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.run(proposal.ticket, terminal))
        await until(lambda: bool(house.targets.processes))
        for _ in range(turns):
            await asyncio.sleep(0)
        house.world.live.strike(TENANT, [grant], "expired")
        before = [what for what, _ in house.targets.journal].count("written")
        terminal.hung_up = turns % 2 == 1
    assert running.result().state is ActionState.CUT
    assert [what for what, _ in house.targets.journal].count("written") == before
    assert not any(process.heard_the_end for process in house.targets.processes)


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


class Typist(Terminal):
    """A client that types for ever, until its end of input."""

    hung_up = False

    async def read(self) -> bytes:
        """The next of it, soon."""
        await asyncio.sleep(0)
        return b"" if self.hung_up else b"y\n"


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


async def test_a_shell_is_let_go_while_its_line_waits_for_the_store(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-01, I-61: what ran in it is over on the target; that its end cannot be written keeps nobody at a dead line."""
    agent = await house.add("deployer")
    grant = await granted(house, agent)
    ticket = await house.cases.shell.open(agent.caller, grant, door="ssh")
    line = await house.started(agent, grant, HANG)
    terminal, release = Leaving(house.targets.journal), held(monkeypatch, Closing, "write")

    async def body(_: RecordingSink) -> Outcome:
        await house.cases.run.run(line, house.terminal(), house.terminal(), within=ticket.session.id)
        return LEFT

    running = asyncio.ensure_future(house.cases.sessions.shells.hold(ticket, terminal, body))  # noqa: TID251  awaited below
    terminal.leave = running.cancel
    await until(lambda: bool(house.targets.running))
    await house.world.live.cut(Scope(tenant=TENANT), "expired", within=0.05)
    try:
        await until(lambda: terminal.let_go)
        assert terminal.told == ["ended: expired"]
        assert not house.targets.running
    finally:
        release.set()
        await ended(running)
    row = await house.store.inner.read(TENANT, lambda tx: tx.sessions.get(ticket.session.id))
    assert row is not None
    assert (row.state, row.end_reason, row.recording_state) == ("cut", "expired", "final")


async def ended(running: asyncio.Future[Any]) -> None:
    """However it ends."""
    async with asyncio.timeout(10):
        await asyncio.wait([running])


async def test_what_waits_to_be_sealed_is_over_for_its_caller_and_lost_to_nobody(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-01, I-30, I-61: while others are about to end, what ran out is let go and ended on its target.

    Its seal waits; a freeze and a stop wait for no such seal longer than it may take, and it is made all the same.
    """
    monkeypatch.setattr(sealing, "LONGEST_S", 60.0)
    calm = house.world.ends._calm  # noqa: SLF001  an end that is about to come, for as long as the test wants
    calm.clear()
    agent = await house.add("deployer")
    out = await house.granted(agent)
    ticket, terminal = await house.started(agent, out, HANG), house.terminal()
    other = await house.started(agent, await house.granted(agent), HANG)
    async with asyncio.TaskGroup() as group:
        ran_out = group.create_task(house.run(ticket, terminal))
        taken = group.create_task(house.run(other))
        await until(lambda: len(house.targets.running) == 2)
        assert house.world.live.strike(TENANT, [out], "expired") == 1
        assert terminal.last == ("ended: expired",)
        await until(lambda: len(house.targets.running) == 1)
        cut = await house.world.live.cut(Scope(tenant=TENANT), "frozen", within=0.3)
        assert (cut.sessions, cut.late) == (2, (ticket.session.id,))
        assert (await taken).state is ActionState.CUT
        ran_out.cancel()  # its caller leaves, or the broker stops: the seal counts all the same
        await asyncio.sleep(0.01)
        assert not ran_out.done()
        calm.set()
    assert ran_out.cancelled()
    rows = await house.store.inner.read(TENANT, lambda tx: tx.sessions.page(identity=None, after=None, limit=2))
    assert {(row.state, row.end_reason, row.recording_state) for row in rows} == {
        ("cut", "expired", "final"), ("cut", "frozen", "final"),
    }  # fmt: skip
