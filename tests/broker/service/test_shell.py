"""A gated shell as a session: who may open one, what ends it, and that it is always written down (I-01, I-22, I-30)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.core.action import Outcome
from broker.core.grant import EndReason
from broker.core.identity import IdentityStatus
from broker.core.ids import GrantId
from broker.core.roles import Role
from broker.service.ports import Session, SessionState
from broker.service.shell import ShellTicket
from policy.classes import CommandClass, Tier
from recorder.grec import Kind
from recorder.sink import RecordingSink
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.somebody import Somebody
from tests.broker.service.world import House, refused, until

SHELL = frozenset({"shell"})
LEFT = Outcome(exit_status=0, signal="", reason="")


async def granted(house: House, agent: Somebody, **wish: object) -> GrantId:
    """A grant with a shell, which a person allows."""
    request = await house.cases.access.request(agent.caller, house.wish(flags=SHELL, **wish))
    await house.decide(await house.add("manager", Role.MANAGER), request)
    made = (await house.cases.access.get(agent.caller, request.id)).grant_id
    assert made is not None
    return made


async def opened_shell(house: House, **wish: object) -> ShellTicket:
    """The deployer's, under a grant that has one."""
    agent = await house.add("deployer")
    grant = await granted(house, agent, **wish)
    return await house.cases.shell.open(agent.caller, grant, door="ssh")


async def for_ever(_: RecordingSink) -> Outcome:
    """A body that does not end by itself."""
    await asyncio.Event().wait()
    return LEFT


async def row(house: House, ticket: ShellTicket) -> Session:
    """Its row as it stands."""
    found = await house.store.inner.read(TENANT, lambda tx: tx.sessions.get(ticket.session.id))
    assert found is not None
    return found


async def test_a_shell_is_a_session_without_an_action(house: House) -> None:
    """Its opening is in the log before anything is shown, its end with the recording's root; nothing on the target."""
    ticket = await opened_shell(house)
    assert (await row(house, ticket)).state is SessionState.OPEN
    terminal = house.terminal()

    async def body(sink: RecordingSink) -> Outcome:
        await sink.event(Kind.OUT, 0, b"shown")
        await sink.marker("read: unattended", "SE2002I", "ac_1")
        return Outcome(exit_status=3, signal="", reason="")

    assert (await house.cases.sessions.shells.hold(ticket, terminal, body)).exit_status == 3
    session = await row(house, ticket)
    assert (session.kind, session.action_id, session.state, session.recording_state) == (
        "shell", None, SessionState.CLOSED, "final"
    )  # fmt: skip
    assert house.targets.plans == []
    names = [name for name in await house.events() if name.startswith(("session", "recording"))]
    assert names == ["session.opened", "recording.opened", "recording.closed", "session.closed"]


async def test_only_a_grant_that_says_so_opens_one(house: House) -> None:
    """I-20, I-46: without the flag, another's, one that is over, a frozen tenant, a suspended agent."""
    agent, other = await house.add("deployer"), await house.add("other")
    plain, grant = await house.granted(agent), await granted(house, agent)
    open_shell = house.cases.shell.open
    assert await refused(open_shell(agent.caller, plain, door="ssh")) == "no_shell"
    assert await refused(open_shell(other.caller, grant, door="ssh")) == "not_found"
    await house.put(replace(agent.row, status=IdentityStatus.SUSPENDED))
    assert await refused(open_shell(agent.caller, grant, door="ssh")) == "identity_suspended"
    await house.put(agent.row)
    house.world.live.close(TENANT, "for a drill")
    assert await refused(open_shell(agent.caller, grant, door="ssh")) == "frozen"
    house.world.live.reopen(TENANT)
    await house.cases.ending.end(TENANT, grant, EndReason.REVOKED, by="")
    assert await refused(open_shell(agent.caller, grant, door="ssh")) == "grant_over"


async def test_a_cut_ends_it_and_says_why(house: House) -> None:
    """I-02: within a second, whatever its body does; the reason is the last thing in its recording."""
    ticket = await opened_shell(house)
    terminal = house.terminal()
    held = asyncio.ensure_future(house.cases.sessions.shells.hold(ticket, terminal, for_ever))  # noqa: TID251  awaited below
    await until(lambda: house.world.live.count() == 1)
    await house.cases.ending.end(TENANT, ticket.grant.id, EndReason.REVOKED, by="")
    assert (await held).reason == "revoked"
    assert terminal.told == ["ended: revoked"]
    session = await row(house, ticket)
    assert (session.state, session.end_reason, session.recording_state) == (SessionState.CUT, "revoked", "final")
    assert house.world.live.count() == 0


async def test_its_time_ends_it(house: House) -> None:
    """I-01: by its own deadline, with the warning before."""
    ticket = replace(await opened_shell(house, ttl=timedelta(seconds=600)), seconds_left=10.2)
    terminal = house.terminal()

    async with asyncio.timeout(5):
        held = asyncio.ensure_future(house.cases.sessions.shells.hold(ticket, terminal, for_ever))  # noqa: TID251  awaited below
        await until(lambda: terminal.warned == [10.0])
        held.cancel()
        with pytest.raises(asyncio.CancelledError):
            await held
    short = replace(await opened_shell(house), seconds_left=0.1)
    assert (await house.cases.sessions.shells.hold(short, terminal, for_ever)).reason == "expired"


async def test_a_client_that_leaves_is_written_down(house: House) -> None:
    """Cancelled, it still seals and writes."""
    ticket, begun = await opened_shell(house), asyncio.Event()

    async def body(sink: RecordingSink) -> Outcome:
        begun.set()
        return await for_ever(sink)

    held = asyncio.ensure_future(house.cases.sessions.shells.hold(ticket, house.terminal(), body))  # noqa: TID251  awaited below
    await begun.wait()
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    session = await row(house, ticket)
    assert (session.state, session.end_reason, session.recording_state) == (SessionState.CUT, "caller_gone", "final")


async def test_what_runs_unasked_is_what_the_policy_says(house: House) -> None:
    """For `help`: under the tier and the ceiling of now."""
    agent = await house.add("deployer")
    grant = await granted(house, agent)
    assert await house.cases.shell.unattended(agent.caller, grant) == (CommandClass.READ,)
    await house.change_target(replace(house.web1, tier=Tier.TRUSTED))
    again = await granted(house, agent)
    assert await house.cases.shell.unattended(agent.caller, again) == (CommandClass.READ, CommandClass.WRITE)
