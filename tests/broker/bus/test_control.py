"""The contract of Control, held by both: called in the same process, and asked over a bus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from broker.bus.client import HeldOversight
from broker.core.action import ActionState, Outcome, StdinMode
from broker.core.errors import Refusal
from broker.core.grant import EndReason
from broker.core.roles import Role
from broker.service.control import Control
from broker.service.live import Scope
from broker.service.oversight import Standing
from broker.service.ports import SessionState
from broker.service.sessions import Sessions
from broker.service.start import Ticket
from broker.service.world import Limits
from policy.classes import CommandClass
from recorder.events import Kind
from recorder.sink import RecordingSink
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.bus.world import admitted, command, over_the_bus, sessions
from tests.broker.service.test_four_eyes import Keyboard, demanded
from tests.broker.service.world import HANG, READ, WRITE, House, opened, refused, until, watching


@pytest.fixture(params=["direct", "bus"])
async def control(house: House, request: pytest.FixtureRequest) -> AsyncIterator[Control]:
    """Either."""
    if request.param == "direct":
        yield house.cases.control
        return
    async with over_the_bus(house) as control:
        yield control


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """Few sessions at once."""
    async with opened(tmp_path, limits=Limits(sessions_per_grant=2)) as made:
        yield made


async def read_ticket(
    house: House, control: Control, line: bytes = READ, stdin: StdinMode = StdinMode.NONE
) -> tuple[Ticket, Sessions]:
    """Something that runs unasked, ready to run."""
    agent = await house.add("deployer")
    admission = await admitted(house, control, agent, await house.granted(agent))
    ticket = (await control.propose(admission, command(line, stdin=stdin))).ticket
    assert ticket is not None
    return ticket, sessions(house, control)


async def test_a_read_runs_to_its_end(house: House, control: Control) -> None:
    """Recorded, sealed, written, with everything that it showed."""
    ticket, here = await read_ticket(house, control)
    shown = house.terminal()
    finished = await here.run.run(ticket, shown, shown)
    assert (finished.state, finished.outcome) == (
        ActionState.SUCCEEDED, Outcome(exit_status=0, signal="", reason="")
    )  # fmt: skip
    assert await house.action(finished) == finished
    row = await house.store.read(TENANT, lambda tx: tx.sessions.get(ticket.session.id))
    assert row is not None
    assert (row.state, row.recording_state) == (SessionState.CLOSED, "final")
    assert house.world.live.count() == 0


async def test_who_waits_is_told_what_people_say(house: House, control: Control) -> None:
    """Each change once; what was allowed is started, and runs."""
    agent, boss = await house.add("deployer"), await house.add("boss", Role.MANAGER)
    admission = await admitted(house, control, agent, await house.granted(agent))
    assert not await control.runs_unseen(admission, command(WRITE))
    action = (await control.propose(admission, command(WRITE))).action
    assert action.state is ActionState.AWAITING
    seen = []
    async for now in control.until_decided(admission, action.id):
        seen.append(now.state)
        if now.state is ActionState.AWAITING:
            await house.decide(boss, action)
    assert seen == [ActionState.AWAITING, ActionState.ALLOWED]
    ticket = await control.start(admission, action.id)
    shown = house.terminal()
    assert (await sessions(house, control).run.run(ticket, shown, shown)).state is ActionState.SUCCEEDED


async def test_what_waits_is_taken_back(house: House, control: Control) -> None:
    """By whoever proposed it."""
    agent = await house.add("deployer")
    admission = await admitted(house, control, agent, await house.granted(agent))
    action = (await control.propose(admission, command(WRITE))).action
    await control.take_back(admission, action.id)
    assert (await house.action(action)).state is ActionState.CANCELLED
    assert await refused(control.start(admission, action.id)) != ""


async def test_a_ticket_that_nobody_runs(house: House, control: Control) -> None:
    """Written as cut; nothing of it ran."""
    ticket, _ = await read_ticket(house, control)
    await control.abandon(ticket)
    assert (await house.action(ticket.action)).state is ActionState.CUT
    assert house.targets.plans == []


async def test_refusals_come_as_they_are(house: House, control: Control) -> None:
    """Code, words, whose fault, and the way out."""
    agent = await house.add("deployer")
    admission = await admitted(house, control, agent, await house.granted(agent))
    with pytest.raises(Refusal) as caught:
        await control.propose(admission, command(b"echo $("))
    assert (caught.value.code, caught.value.way_out) == ("command_refused", "send plain bash")
    assert await refused(control.open_shell(admission)) == "no_shell"
    assert await control.stdin_of(admission, READ, pty=False) is StdinMode.STREAM
    assert await control.unattended(admission) == (CommandClass.READ,)


async def test_a_cut_from_outside_is_heard(house: House, control: Control) -> None:
    """I-02: the cut waits until nothing of it runs any more; the words reach the person."""
    ticket, here = await read_ticket(house, control, HANG)
    shown = house.terminal()
    running = asyncio.ensure_future(here.run.run(ticket, shown, shown))  # noqa: TID251  awaited below
    await until(lambda: len(house.targets.processes) == 1)
    cut = await house.world.live.cut(Scope(tenant=TENANT), "revoked", within=5, words="enough")
    assert (cut.sessions, cut.late) == (1, ())
    finished = await running
    assert (finished.state, finished.outcome and finished.outcome.reason) == (ActionState.CUT, "revoked")
    assert shown.told == ["an operator ended this: enough"]


async def test_a_grant_has_so_many_sessions(house: House, control: Control) -> None:
    """I-22, I-60: counted in one place, before anything of the session is opened."""
    agent, here = await house.add("deployer"), sessions(house, control)
    admission = await admitted(house, control, agent, await house.granted(agent))
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            ticket = (await control.propose(admission, command(HANG))).ticket
            assert ticket is not None
            group.create_task(here.run.run(ticket, house.terminal(), house.terminal()))
        await until(lambda: len(house.targets.processes) == 2)
        third = (await control.propose(admission, command(READ))).ticket
        assert third is not None
        finished = await here.run.run(third, house.terminal(), house.terminal())
        assert finished.outcome is not None
        assert (finished.state, finished.outcome.reason) == (ActionState.FAILED, "too_many_sessions")
        await house.world.live.cut(Scope(tenant=TENANT), "enough", within=5)
    assert len(house.targets.plans) == 2


async def test_input_is_held_until_somebody_watches(house: House, control: Control) -> None:
    """F14: nothing is typed into what must be watched; what a watcher sees is what was recorded, from its beginning."""
    await demanded(house)
    boss = await house.add("boss", Role.OWNER)
    ticket, here = await read_ticket(house, control, b"cat", StdinMode.STREAM)
    keyboard = Keyboard(house)
    keyboard.keys.put_nowait(b"typed\n")
    running = asyncio.ensure_future(here.run.run(ticket, keyboard, keyboard))  # noqa: TID251  awaited below
    await until(lambda: any(told.startswith("held: this must be watched") for told in keyboard.told))
    assert house.targets.processes == []
    async with watching(house, boss, ticket) as watch:
        await until(lambda: keyboard.out_bytes == b"typed\n")
        seen = [each.event.kind for each in watch.follower.snapshot.events]
        assert seen[:1] == [Kind.EXEC]
        async with asyncio.timeout(10):
            while Kind.OUT not in seen:
                seen += [each.event.kind for each in await watch.follower.read()]
        await house.cases.watch.pause(watch)
        await until(lambda: keyboard.told[-1] == "held: an operator paused your input")
        keyboard.keys.put_nowait(b"held\n")
        await house.cases.watch.resume(watch)
        await until(lambda: keyboard.out_bytes == b"typed\nheld\n")
    await house.world.live.cut(Scope(tenant=TENANT), "enough", within=5)
    await running
    assert "session.paused" in await house.events()


async def test_a_shell_is_held_and_its_lines_are_watched_with_it(house: House, control: Control) -> None:
    """A line that runs within a shell is paused as the shell is."""
    agent, boss, owner = (
        await house.add("deployer"),
        await house.add("boss", Role.MANAGER),
        await house.add("owner", Role.OWNER),
    )
    request = await house.cases.access.request(agent.caller, house.wish(flags=frozenset({"shell"})))
    await house.decide(boss, request)
    row = await house.request(request)
    assert row.grant_id is not None
    admission, here = await admitted(house, control, agent, row.grant_id), sessions(house, control)
    ticket = await control.open_shell(admission)
    assert control.rules(admission).version == house.world.policies.last_seen(TENANT).version
    shown, keyboard = house.terminal(), Keyboard(house)

    async def body(sink: RecordingSink) -> Outcome:
        await sink.event(Kind.OUT, 0, b"shown")
        line = (await control.propose(admission, command(b"cat", stdin=StdinMode.STREAM))).ticket
        assert line is not None
        finished = await here.run.run(line, keyboard, shown, within=ticket.session.id)
        return Outcome(exit_status=0 if finished.state is ActionState.CUT else 1, signal="", reason="")

    held = asyncio.ensure_future(here.shells.hold(ticket, shown, body))  # noqa: TID251  awaited below
    await until(lambda: house.world.live.count() == 2)
    (line,) = [live for live in house.world.live.all() if live.session != ticket.session.id]
    async with house.cases.watch.watching(owner.caller, ticket.session.id, "a test", only_look=False) as watch:
        await house.cases.watch.pause(watch)
        assert line.oversight.standing().paused
        await house.cases.watch.resume(watch)
        assert not line.oversight.standing().paused
    await house.world.live.cut(Scope(tenant=TENANT, session=line.session), "enough", within=5)
    assert (await held).exit_status == 0
    assert house.world.live.count() == 0


async def test_a_frozen_tenant_lets_nothing_in(house: House, control: Control) -> None:
    """I-61: in memory, without the store; also for a ticket that was made before."""
    ticket, here = await read_ticket(house, control)
    house.world.live.close(TENANT, "for a drill")
    finished = await here.run.run(ticket, house.terminal(), house.terminal())
    assert finished.outcome is not None
    assert finished.outcome.reason == "frozen"
    assert house.targets.plans == []


async def test_an_ended_grant_admits_nobody(house: House, control: Control) -> None:
    """I-02: at the door as well as on a connection that is open."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    admission = await admitted(house, control, agent, grant)
    assert not await control.is_over(admission)
    await control.refused(admission, "x11")
    assert "session.feature_refused" in await house.events()
    await house.cases.ending.end(TENANT, grant, EndReason.REVOKED, by="")
    assert await control.is_over(admission)


def test_input_is_held_until_it_is_told_that_it_flows() -> None:
    """A worker that was told nothing yet, or whose word comes late, sends nothing on; what came last counts."""
    oversight, flows = HeldOversight(), Standing(must_be_watched=False, paused=False, watchers=(), attended=False)
    before = oversight.flows
    oversight.begin(flows)
    assert (before, oversight.flows) == (False, True)
    late = HeldOversight()
    late.tell(replace(flows, paused=True))
    late.begin(flows)
    assert not late.flows
