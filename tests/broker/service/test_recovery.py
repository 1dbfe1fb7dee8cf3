"""A broker that dies: what it left behind is ended and marked before anything is served (I-01, I-30, I-31)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from broker.core.action import ActionState
from broker.core.clock import Instant
from broker.core.errors import StoreFault, TargetFault
from broker.core.grant import EndReason, GrantState
from broker.core.ids import SYSTEM_TENANT, GrantId
from broker.core.request import RequestState
from broker.core.roles import Role
from broker.service import recovery
from broker.service.ports import Session, SessionState
from broker.service.start import Ticket
from recorder.grec import Kind
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.world import HANG, READ, WRITE, House, refused


async def died_running(house: House, *, seconds: float = 1.0) -> tuple[GrantId, Ticket]:
    """A command that ran when the broker died: its recording has begun and has no end. `seconds` pass after that."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    ticket = await house.started(agent, grant, HANG)
    sink = await house.world.recordings.create(ticket.meta)  # as far as it got
    await sink.event(Kind.OUT, 0, b"half a line")
    await sink.sync()
    house.clock.forward(seconds)
    return grant, ticket


async def session_of(house: House, ticket: Ticket) -> Session:
    """Its row as it stands."""
    row = await house.store.inner.read(TENANT, lambda tx: tx.sessions.get(ticket.session.id))
    assert row is not None
    return row


async def test_what_ran_is_lost_and_says_so(house: House) -> None:
    """RUNNING -> LOST, the session too, its recording recovered as truncated with what was durable."""
    grant, ticket = await died_running(house)
    manager = await house.add("manager", Role.MANAGER)
    async with house.restarted() as after:
        found = await after.cases.recovery.run()
        assert (found.sessions, found.grants, found.recordings) == (1, 0, 1)
        lost = await house.action(ticket.action)
        assert (lost.state, lost.note) == (ActionState.LOST, "broker_died")
        session = await session_of(house, ticket)
        assert (session.state, session.recording_state) == (SessionState.LOST, "truncated")
        assert session.recording_leaves > 1
        reader = await after.cases.session.play(manager.caller, ticket.session.id, "what happened")
        assert (reader.state, b"".join(e.payload for e in reader.events())) == ("truncated", b"half a line")
        assert (await house.grant(grant)).state is GrantState.ACTIVE
        assert (await house.events())[-4:] == ["recording.recovered", "session.cut", "action.lost", "recording.viewed"]
        again = await after.cases.recovery.run()
        assert (again.sessions, again.grants, again.recordings) == (0, 0, 0)


async def test_what_ended_meanwhile_is_ended_before_serving(house: House) -> None:
    """I-01: the grant's time ran out while the broker was down: EXPIRED, and what waited under it is void."""
    grant, ticket = await died_running(house)
    agent = await house.add("other")
    waiting = (await house.propose(agent, await house.granted(agent, ttl=timedelta(minutes=5)), WRITE)).action
    house.clock.forward(3600)
    async with house.restarted() as after:
        found = await after.cases.recovery.run()
        assert (found.sessions, found.grants) == (1, 2)
        assert (await house.grant(grant)).state is GrantState.EXPIRED
        assert (await house.action(waiting)).state is ActionState.CANCELLED
        assert (await house.action(ticket.action)).state is ActionState.LOST
        assert grant in after.targets.ended
        assert len(after.world.ends) == 0


async def test_a_day_back_at_a_restart_lengthens_nothing(house: House) -> None:
    """I-05: by the moment that was kept, what has ended is over, what lasts has what it had left, and nothing begins;
    once the clock is right again neither has more.
    """  # noqa: D205
    agent = await house.add("deployer")
    short, long = [await house.granted(agent, ttl=timedelta(minutes=minutes)) for minutes in (5, 15)]
    for grant in (short, long):
        await house.started(agent, grant, READ)
    house.clock.forward(600)
    kept = house.clock.now()
    house.clock.wall -= timedelta(days=1)
    async with house.restarted() as after:
        after.world.leases.remember(Instant(wall=kept, mono=house.clock.monotonic()))
        await after.cases.recovery.run()
        assert [(await house.grant(grant)).state for grant in (short, long)] == [GrantState.EXPIRED, GrantState.ACTIVE]
        for grant in (short, long):
            assert await refused(after.propose(agent, grant, READ)) == "clock_moved_back"
        house.clock.forward(299)
        assert after.world.ends.due(after.world.reading(), 9) == []
        house.clock.forward(2)
        assert [lapse.grant for lapse in after.world.ends.due(after.world.reading(), 9)] == [long]
        house.clock.wall += timedelta(days=1)
        assert await refused(after.propose(agent, long, READ, idempotency_key="later")) == "grant_expired"


async def test_an_older_database_revives_nothing(house: House) -> None:
    """After a restore from backup: what was revoked since is ended before anything is served, and so is all else that
    lives in it; nothing is granted or decided. A tenant whose log is whole keeps what it has only if `_system`'s is.
    """  # noqa: D205
    agent, person = await house.add("deployer"), await house.add("asker", Role.VIEWER)
    used, unused = await house.granted(agent), await house.granted(agent)
    await house.started(agent, used, READ)
    allowed = (await house.propose(agent, used, WRITE)).action
    asked = await house.cases.access.request(person.caller, house.wish())
    async with house.restarted() as after:
        after.health.break_log(SYSTEM_TENANT, "the log has 3 rows, 9 were signed")
        assert (await after.cases.recovery.run()).grants == 2
        for grant in (used, unused):
            ended = await house.grant(grant)
            assert (ended.state, ended.end_reason) == (GrantState.REVOKED, EndReason.RESTORED)
        assert (await house.action(allowed)).state is ActionState.CANCELLED
        assert (await house.request(asked)).state is RequestState.CANCELLED
        assert await refused(after.propose(agent, used, READ)) == "audit_log_forked"
        assert (await after.cases.recovery.run()).grants == 0


async def test_every_end_that_is_still_to_come_is_awaited_again(house: House) -> None:
    """By the restarted broker as by the one before: without anybody's use of the grant meanwhile (I-01)."""
    agent = await house.add("deployer")
    grant = await house.granted(agent, ttl=timedelta(minutes=5))
    await house.started(agent, grant, READ)
    async with house.restarted() as after:
        await after.cases.recovery.run()
        assert len(after.world.ends) == 1
        assert after.world.ends.due(after.world.reading(), 9) == []
        house.clock.forward(300)
        assert [lapse.grant for lapse in after.world.ends.due(after.world.reading(), 9)] == [grant]


async def test_a_target_that_hangs_keeps_nobody_from_what_is_served(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start waits a while for what has to be undone there, no longer; it is undone later."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    await house.started(agent, grant, READ)
    house.targets.end_fails = True
    await house.cases.ending.end(TENANT, grant, EndReason.REVOKED, by="")
    monkeypatch.setattr(recovery, "FINISH_WITHIN", 0.2)
    async with house.restarted() as after:
        after.targets.hangs = True
        await after.cases.recovery.run()
        assert (await house.grant(grant)).state is GrantState.ENDING
        after.targets.hangs = False
        house.clock.forward(60)
        await after.cases.ending.retry_due(TENANT)
    assert (await house.grant(grant)).state is GrantState.REVOKED


async def test_an_end_that_was_never_finished_is_finished(house: House) -> None:
    """ENDING and STUCK grants are over in the new process: nothing of them can still run there."""
    agent = await house.add("deployer")
    grants = [await house.granted(agent) for _ in range(2)]
    for grant in grants:
        await house.started(agent, grant, READ)
    house.targets.end_fails = True
    for grant in grants:
        await house.cases.ending.end(TENANT, grant, EndReason.REVOKED, by="")
    async with house.restarted() as after:
        await after.cases.recovery.run()
    assert {(await house.grant(grant)).state for grant in grants} == {GrantState.REVOKED}


async def test_a_recording_that_is_gone_is_said_loudly(house: House) -> None:
    """Deleted while the broker was down: the row says torn, and nothing is guessed."""
    _, ticket = await died_running(house)
    for file in Path(house.folder, "recordings").rglob("*"):
        if file.is_file():
            file.unlink()
    async with house.restarted() as after:
        assert (await after.cases.recovery.run()).recordings == 0
    session = await session_of(house, ticket)
    assert (session.state, session.recording_state) == (SessionState.LOST, "torn")


async def test_a_recording_that_was_changed_is_said_loudly(house: House) -> None:
    """What was audited before the crash must still be there, else the start says it loudly."""
    _, ticket = await died_running(house)
    noted = replace(await session_of(house, ticket), recording_leaves=2, recording_root=bytes(32))
    await house.store.run(TENANT, lambda tx: tx.sessions.put(noted))
    with capture_logs() as logs:
        async with house.restarted() as after:
            await after.cases.recovery.run()
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["recording.altered"]
    assert (await session_of(house, ticket)).recording_root != bytes(32)


async def test_a_start_that_dies_half_way_is_followed_by_another(house: House) -> None:
    """A store that fails during recovery: nothing is served, and the next start does all of it."""
    grant, ticket = await died_running(house, seconds=3600)
    async with house.restarted() as after:
        after.store.writes_fail = True
        with pytest.raises(StoreFault):
            await after.cases.recovery.run()
        after.store.writes_fail = False
        await after.cases.recovery.run()
    assert (await house.grant(grant)).state is GrantState.EXPIRED
    assert (await house.action(ticket.action)).state is ActionState.LOST


async def _unwritten(house: House) -> Ticket:
    """A command that ended while the store took nothing, and whose caller was told so."""
    agent = await house.add("deployer")
    ticket = await house.started(agent, await house.granted(agent), HANG)
    with pytest.RaisesGroup(StoreFault):
        async with house.running(ticket):
            house.store.writes_fail = True
            house.targets.processes[0].end(TargetFault("gone", code="connection_lost"))
    house.store.writes_fail = False
    assert (await house.action(ticket.action)).state is ActionState.RUNNING
    return ticket


async def test_an_outcome_that_was_not_written_is_written_later(house: House) -> None:
    """By the job that writes late ends, as it was; nothing is lost but time."""
    ticket = await _unwritten(house)
    await house.cases.closing.write_late()
    done = await house.action(ticket.action)
    assert (done.state, done.outcome and done.outcome.reason) == (ActionState.FAILED, "connection_lost")
    assert (await session_of(house, ticket)).state is SessionState.CLOSED


async def test_an_end_on_its_way_to_the_store_is_nobody_elses_to_write(house: House) -> None:
    """The job that writes late ends looks while commands end: each end is in the log once, and the job lives on."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    tickets = [await house.started(agent, grant, READ) for _ in range(4)]

    async def late() -> None:
        while True:
            await house.cases.closing.write_late()
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        job = group.create_task(late())
        async with asyncio.TaskGroup() as commands:
            for ticket in tickets:
                commands.create_task(house.run(ticket))
        job.cancel()
    events = await house.events()
    ended = [event for event in events if event in ("action.succeeded", "action.failed")]
    assert len(ended) == len(tickets)
    assert events.count("recording.closed") == len(tickets)


async def test_an_outcome_that_was_not_written_is_found_at_the_next_start(house: House) -> None:
    """The last resort: the store took nothing to the end; the new broker marks the command as lost."""
    ticket = await _unwritten(house)
    async with house.restarted() as after:
        await after.cases.recovery.run()
    assert (await house.action(ticket.action)).state is ActionState.LOST
