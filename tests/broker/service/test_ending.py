"""Access ends, whatever else does not work: on time, on a word, on a freeze (I-01, I-02, I-05, I-31, I-61)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from broker.core.action import Action, ActionState
from broker.core.errors import StoreFault
from broker.core.grant import EndReason, GrantState
from broker.core.ids import GrantId, IdentityId
from broker.core.roles import Role
from broker.jobs.expiry import Expiry
from broker.service.leases import MAX_STEP_BACK
from broker.service.live import LiveSession
from broker.service.start import Ticket
from broker.service.stepup import Change
from tests.broker.adapters.store.fixtures import OTHER, TENANT
from tests.broker.service.somebody import Somebody
from tests.broker.service.world import FLOOD, HANG, READ, WRITE, House, refused, until
from tests.pace import Since


def reasons(tasks: list[asyncio.Task[Action]]) -> list[str]:
    """How each of the commands ended: CUT, and why."""
    found = []
    for task in tasks:
        done = task.result()
        assert done.state is ActionState.CUT
        found.append(done.outcome.reason if done.outcome else "")
    return found


def unsigned() -> Change:
    """A suspension that nobody signed: enough for an agent."""
    return Change(method="SuspendIdentity", payload=b"x", step_ups=[])


async def two_running(house: House, agent: Somebody) -> tuple[GrantId, list[Ticket]]:
    """A grant with an idle command and one that never stops writing."""
    grant = await house.granted(agent)
    return grant, [await house.started(agent, grant, HANG), await house.started(agent, grant, FLOOD)]


async def cut_within_a_second(house: House, tickets: list[Ticket], end: Callable[[], Awaitable[object]]) -> list[str]:
    """Runs the commands, ends them, and takes the time until nothing runs on the target and all is sealed."""
    async with house.running(*tickets) as tasks:
        since = Since()
        await end()
        await asyncio.wait(tasks)
        assert since.s() < 1.0
    assert (house.targets.running, house.world.live.count()) == ([], 0)
    return reasons(tasks)


# ---- by time


async def test_the_deadline_cuts_without_anybody(house: House) -> None:
    """I-01: no sweep, no store, no job: the session itself ends at its end, busy or idle, and never before."""
    agent = await house.add("deployer")
    _, tickets = await two_running(house, agent)
    house.clock.forward(3599.7)
    since = Since()
    async with house.running(*tickets) as tasks:
        house.store.down(down=True)
        await until(lambda: house.targets.running == [])
        assert since.wall_s() > 0.2
        assert since.s() < 1.3
        house.store.down(down=False)
    assert reasons(tasks) == ["expired", "expired"]
    for ticket in tickets:
        assert (await house.action(ticket.action)).state is ActionState.CUT


async def test_a_ticket_that_comes_too_late_never_starts(house: House) -> None:
    """Started in the store, but its grant is over before it reaches the target."""
    agent = await house.add("deployer")
    ticket = await house.started(agent, await house.granted(agent), READ)
    house.clock.forward(3600)
    done = await house.run(ticket)
    assert (done.state, done.outcome and done.outcome.reason) == (ActionState.CUT, "expired")


async def test_the_sweep_ends_everything_that_is_over(house: House) -> None:
    """I-01: grants, requests and actions, in one look; again is harmless and finds nothing."""
    agent, person = await house.add("deployer"), await house.add("asker", Role.VIEWER)
    grant = await house.granted(agent, ttl=timedelta(minutes=5))
    waiting = (await house.propose(agent, grant, WRITE)).action
    await house.cases.access.request(person.caller, house.wish())
    assert await house.cases.ending.sweep(TENANT) == await house.cases.ending.sweep(OTHER)
    house.clock.forward(600)
    due = await house.cases.ending.sweep(TENANT)
    assert ([one.id for one in due.grants], due.decisions) == ([grant], 1)
    assert (await house.grant(grant)).state is GrantState.EXPIRED
    assert (await house.action(waiting)).state is ActionState.CANCELLED
    assert (await house.cases.ending.sweep(TENANT)).grants == ()
    assert house.targets.ended == [grant]


async def test_the_job_ends_on_time_and_survives_a_bad_store(house: House) -> None:
    """One failing look stops nothing: the next one does it all."""
    agent = await house.add("deployer")
    grant, tickets = await two_running(house, agent)
    job = Expiry(
        store=house.store, ending=house.cases.ending, late=[house.cases.ending.write_late], ends=house.world.ends,
        leases=house.world.leases, clock=house.clock, meter=house.meter,
    )  # fmt: skip
    await job.step()
    assert (await house.grant(grant)).state is GrantState.ACTIVE

    async def late() -> None:
        house.clock.forward(3600)
        house.store.down(down=True)
        with capture_logs() as logs:  # drawn for a terminal, with every local, it takes most of the second
            await job.step()
        assert {entry["event"] for entry in logs} >= {"expiry.failed"}
        house.store.down(down=False)
        house.clock.forward(2)
        await job.step()

    assert await cut_within_a_second(house, tickets, late) == ["expired", "expired"]
    assert (await house.grant(grant)).state is GrantState.EXPIRED


# ---- by a word


async def test_revoke(house: House) -> None:
    """I-02: running, waiting and issued things end within a second; nothing new starts; twice is harmless."""
    agent, owner = await house.add("deployer"), await house.add("owner", Role.OWNER)
    grant, tickets = await two_running(house, agent)
    waiting = (await house.propose(agent, grant, WRITE)).action
    token = await house.cases.issue.token(agent.caller, grant)

    async def end() -> None:
        ended, cut = await house.cases.access.revoke(owner.caller, grant, "enough")
        assert (ended.state, ended.ended_by, cut) == (GrantState.REVOKED, owner.id, 2)

    assert await cut_within_a_second(house, tickets, end) == ["revoked", "revoked"]
    assert (await house.action(waiting)).state is ActionState.CANCELLED
    assert await refused(house.propose(agent, grant, READ)) == "grant_over"
    assert await refused(house.cases.issue.token(agent.caller, grant)) == "grant_over"
    assert await house.cases.issue.grant_of_token(agent.caller, token.token) == grant
    assert (await house.cases.access.revoke(owner.caller, grant, ""))[1] == 0
    assert (await house.events()).count("grant.revoked") == 1


async def test_who_may_revoke(house: House) -> None:
    """One's own, one's agent's; another's only by who may cut sessions; what one does not see does not exist."""
    owner = await house.add("owner", Role.VIEWER)
    agent, other = await house.add("deployer", owner=owner), await house.add("other")
    viewer, manager = await house.add("viewer", Role.VIEWER), await house.add("manager", Role.MANAGER)
    revoke = house.cases.access.revoke
    grants = [await house.granted(agent) for _ in range(3)]
    assert await refused(revoke(other.caller, grants[0], "")) == "not_found"
    assert await refused(revoke(viewer.caller, grants[0], "")) == "not_permitted"
    assert await refused(revoke(manager.caller, grants[0], "\0")) == "bad_text"
    for who, grant in zip((agent, owner, manager), grants, strict=True):
        assert (await revoke(who.caller, grant, ""))[0].state is GrantState.REVOKED


async def test_revoke_while_the_store_fails(house: House) -> None:
    """I-31, I-61: the cut needs no store; nothing starts meanwhile; the end is written when the store is back."""
    agent, owner = await house.add("deployer"), await house.add("owner", Role.OWNER)
    grant, tickets = await two_running(house, agent)

    async def end() -> None:
        house.store.writes_fail = True
        with pytest.raises(StoreFault):  # whoever revokes is not left to believe that it is written
            await house.cases.access.revoke(owner.caller, grant, "enough")
        house.store.writes_fail = False

    assert await cut_within_a_second(house, tickets, end) == ["revoked", "revoked"]
    assert await refused(house.propose(agent, grant, READ)) == "not_found"
    assert await refused(house.cases.issue.token(agent.caller, grant)) == "not_found"
    house.store.writes_fail = True
    with pytest.raises(StoreFault):
        await house.cases.ending.write_late()
    house.store.writes_fail = False
    await house.cases.ending.write_late()
    await house.cases.ending.finishing.drain()
    ended = await house.grant(grant)
    assert (ended.state, ended.end_reason, ended.ended_by) == (GrantState.REVOKED, EndReason.REVOKED, owner.id)
    assert not house.cases.ending.is_ended(grant)


async def test_a_revocation_that_does_not_take_is_a_state(house: House) -> None:
    """Tried again, later and later; STUCK from the third failure on: said aloud, counted, and over once it works."""
    agent = await house.add("deployer")
    grant, _ = await two_running(house, agent)
    house.targets.end_fails = True
    await house.cases.ending.end(TENANT, grant, EndReason.REVOKED, by=agent.id)
    assert await house.cases.ending.retry_due(TENANT) == 0
    pauses, states = [2.5, 5, 10], [GrantState.ENDING, GrantState.ENDING, GrantState.STUCK]
    with capture_logs() as logs:
        for pause, state in zip(pauses, states, strict=True):
            assert (await house.grant(grant)).state is state
            house.clock.forward(pause * 0.7)
            assert await house.cases.ending.retry_due(TENANT) == 0
            house.clock.forward(pause * 0.3)
            assert await house.cases.ending.retry_due(TENANT) == 1
    assert [entry["cause"] for entry in logs if entry["event"] == "grant.stuck"] == ["the connection does not close"]
    failures = [labels["stuck"] for name, labels in house.meter.counted if name == "revocation_failures"]
    assert failures == ["no", "no", "yes", "yes"]
    house.targets.end_fails = False
    house.clock.forward(600)
    assert await house.cases.ending.retry_due(TENANT) == 1
    assert (await house.grant(grant)).state is GrantState.REVOKED
    house.clock.forward(600)
    assert await house.cases.ending.retry_due(TENANT) == 0
    names = [name for name in await house.events() if name.startswith("grant.")]
    assert names == ["grant.activated", "grant.ending", "grant.stuck", "grant.revoked"]


async def test_a_session_that_will_not_close_keeps_it_open(house: House) -> None:
    """The cut waits a second and no longer, says who is late, and the end stays open until that is gone."""
    agent = await house.add("deployer")
    grant, tickets = await two_running(house, agent)
    live = LiveSession(tenant=TENANT, session=tickets[0].session.id, grant=grant, identity=agent.id)
    with house.world.live.enter(live, per_grant=9, in_all=9):
        since = Since()
        assert await house.cases.ending.end(TENANT, grant, EndReason.REVOKED, by="") == 1
        assert since.s() < 2.5
        assert (await house.grant(grant)).state is GrantState.ENDING
    house.clock.forward(2.5)
    await house.cases.ending.retry_due(TENANT)
    assert (await house.grant(grant)).state is GrantState.REVOKED


# ---- suspension


async def test_suspend(house: House) -> None:
    """I-02: certificate, grants and sessions of that one alone, within a second."""
    agent, other, manager = await house.add("a"), await house.add("b"), await house.add("m", Role.MANAGER)
    grant, tickets = await two_running(house, agent)
    theirs = await house.granted(other)
    identify = house.cases.identify
    await identify.identify(TENANT, agent.id, agent.row.key)

    async def end() -> None:
        row = await house.cases.people.suspend(manager.caller, agent.id, "leaked key", unsigned())
        assert row.status == "suspended"

    assert await cut_within_a_second(house, tickets, end) == ["identity_removed"] * 2
    assert (await house.grant(grant)).state is GrantState.REVOKED
    assert (await house.grant(theirs)).state is GrantState.APPROVED
    assert await refused(identify.identify(TENANT, agent.id, agent.row.key)) == "unknown_identity"
    assert await refused(house.propose(agent, grant, READ)) == "identity_suspended"
    assert await refused(house.cases.access.request(agent.caller, house.wish())) == "identity_suspended"
    await house.cases.people.suspend(manager.caller, agent.id, "again", unsigned())
    assert (await house.events()).count("agent.removed") == 1


async def test_suspend_while_the_store_fails(house: House) -> None:
    """I-61: the sessions are cut all the same; the caller is told to call again, and then it is written."""
    agent, manager = await house.add("deployer"), await house.add("m", Role.MANAGER)
    grant, tickets = await two_running(house, agent)

    async def end() -> None:
        house.store.writes_fail = True
        with pytest.raises(StoreFault):
            await house.cases.people.suspend(manager.caller, agent.id, "leaked key", unsigned())
        house.store.writes_fail = False

    assert await cut_within_a_second(house, tickets, end) == ["identity_removed"] * 2
    await house.cases.people.suspend(manager.caller, agent.id, "leaked key", unsigned())
    assert (await house.grant(grant)).state is GrantState.REVOKED


async def test_who_may_suspend(house: House) -> None:
    """I-43: not oneself, not the last owner, people by owners alone, a manager their own teams' agents alone."""
    await house.put_team("web")
    agent, far = await house.add("deployer"), await house.add("far", teams=["web"])
    owner, admin = await house.add("owner", Role.OWNER), await house.add("admin", Role.ADMIN)
    manager = await house.add("manager", Role.MANAGER)
    suspend, change = house.cases.people.suspend, unsigned()
    assert await refused(suspend(owner.caller, owner.id, "", change)) == "own_identity"
    assert await refused(suspend(admin.caller, owner.id, "", change)) == "not_permitted"
    assert await refused(suspend(manager.caller, far.id, "", change)) == "not_found"
    assert await refused(suspend(manager.caller, IdentityId("ag_x"), "", change)) == "not_found"
    stale = replace(owner.caller, identity=manager.id)
    assert await refused(suspend(stale, owner.id, "", change)) == "last_owner"
    for who, whom in ((manager, agent), (admin, far)):
        await suspend(who.caller, whom.id, "", change)
    assert await refused(suspend(owner.caller, admin.id, "", change)) == "step_up_needed"
    await suspend(owner.caller, admin.id, "", house.change("SuspendIdentity", b"x", owner))
    assert (await house.events()).count("person.removed") == 1


# ---- the kill switch


async def test_freeze(house: House) -> None:
    """I-61: everything of the tenant is cut and ended, nothing of any kind starts; lifting revives nothing."""
    agent, approver = await house.add("deployer"), await house.add("approver", Role.OWNER)
    grant, tickets = await two_running(house, agent)
    waiting = (await house.propose(agent, grant, WRITE)).action
    person = await house.add("asker", Role.VIEWER)
    access = await house.cases.access.request(person.caller, house.wish())

    async def end() -> None:
        assert (await house.cases.freeze.freeze(approver.caller, "incident")).sessions == 2

    assert await cut_within_a_second(house, tickets, end) == ["frozen", "frozen"]
    assert (await house.grant(grant)).end_reason is EndReason.FROZEN
    assert (await house.action(waiting)).state is ActionState.CANCELLED
    for attempt in (
        house.cases.access.request(agent.caller, house.wish()),
        house.decide(approver, access),
        house.propose(agent, grant, READ),
        house.cases.issue.token(agent.caller, grant),
    ):
        assert await refused(attempt) == "frozen"
    assert (await house.cases.freeze.freeze(approver.caller, "again")).sessions == 0
    assert (await house.events()).count("system.frozen") == 1
    change = house.change("unfreeze", b"x", approver)
    await house.cases.freeze.unfreeze(approver.caller, "over", change)
    assert (await house.decide(approver, access)).state == "approved"
    assert (await house.grant(grant)).state is GrantState.REVOKED
    assert "system.unfrozen" in await house.events()


async def test_freeze_while_the_database_is_gone(house: House) -> None:
    """I-61: cut at once, and this process issues nothing even when the store is back, which is told then."""
    agent, owner = await house.add("deployer"), await house.add("owner", Role.OWNER)
    _, tickets = await two_running(house, agent)
    other = await house.granted(agent)

    async def end() -> None:
        house.store.down(down=True)
        pulled = await house.cases.freeze.freeze(owner.caller, "incident")
        assert (pulled.sessions, pulled.recorded) == (2, False)
        house.store.down(down=False)

    assert await cut_within_a_second(house, tickets, end) == ["frozen", "frozen"]
    for attempt in (
        house.cases.access.request(agent.caller, house.wish()),
        house.propose(agent, other, READ),
        house.cases.issue.token(agent.caller, other),
    ):
        assert await refused(attempt) == "frozen"
    assert "system.frozen" not in await house.events()
    await house.cases.freeze.write_late()
    assert (await house.grant(other)).end_reason is EndReason.FROZEN
    assert "system.frozen" in await house.events()


async def test_a_freeze_survives_a_restart(house: House) -> None:
    """And is one tenant's alone."""
    owner = await house.add("owner", Role.OWNER)
    await house.cases.freeze.freeze(owner.caller, "incident")
    async with house.restarted() as after:
        await after.cases.recovery.run()
        assert await refused(after.cases.access.request(owner.caller, after.wish())) == "frozen"
        after.world.live.must_be_open(OTHER)


async def test_a_freeze_between_decision_and_start(house: House) -> None:
    """What was let run a moment ago and has not begun is refused at the last door."""
    agent, owner = await house.add("deployer"), await house.add("owner", Role.OWNER)
    ticket = await house.started(agent, await house.granted(agent), READ)
    await house.cases.freeze.freeze(owner.caller, "incident")
    done = await house.run(ticket)
    assert (done.state, done.outcome and done.outcome.reason) == (ActionState.FAILED, "frozen")
    assert house.targets.plans == []


# ---- clocks (I-05)


async def test_a_clock_that_moves_back_stops_issuing(house: House) -> None:
    """More than 5 s: nothing is granted, started or issued until it has caught up; ending goes on."""
    agent, owner = await house.add("deployer"), await house.add("owner", Role.OWNER)
    grant, tickets = await two_running(house, agent)
    house.clock.wall -= MAX_STEP_BACK + timedelta(seconds=1)
    for attempt in (
        house.cases.access.request(agent.caller, house.wish()),
        house.propose(agent, grant, READ),
        house.cases.issue.token(agent.caller, grant),
    ):
        assert await refused(attempt) == "clock_moved_back"

    async def end() -> None:
        await house.cases.access.revoke(owner.caller, grant, "")

    assert await cut_within_a_second(house, tickets, end) == ["revoked", "revoked"]
    house.clock.wall += timedelta(seconds=7)
    assert await house.granted(agent)


async def test_a_clock_that_moves_back_lengthens_nothing(house: House) -> None:
    """Within 5 s, or standing still: the monotonic end holds for commands, tickets and certificates."""
    agent, approver = await house.add("deployer"), await house.add("approver", Role.MANAGER)
    grant = await house.granted(agent, ttl=timedelta(seconds=4))
    await house.started(agent, grant, READ)
    allowed = (await house.propose(agent, grant, WRITE)).action
    await house.decide(approver, allowed)
    house.clock.mono += 4
    assert house.clock.now() < (await house.grant(grant)).deadline()
    assert await refused(house.propose(agent, grant, READ)) == "grant_expired"
    assert await refused(house.cases.starting.start(agent.caller, allowed.id, door="grpc")) == "grant_expired"
    assert await refused(house.cases.issue.token(agent.caller, grant)) == "grant_expired"


async def test_a_small_step_back_is_taken_along(house: House) -> None:
    """NTP may nudge: up to 5 s nothing is refused, and no ticket lasts longer for it."""
    agent = await house.add("deployer")
    grant = await house.granted(agent, ttl=timedelta(seconds=60))
    first = await house.started(agent, grant, READ)
    house.clock.wall -= timedelta(seconds=4)
    second = await house.started(agent, grant, READ)
    assert first.seconds_left == second.seconds_left == 60.0
    house.clock.forward(10)
    assert (await house.started(agent, grant, READ)).seconds_left == 50.0
