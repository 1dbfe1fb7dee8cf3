"""What is made on a target is planned before, written after, and taken away with its grant (I-02, I-31, I-63)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.core.credential import CredentialState
from broker.core.errors import StoreFault, TargetFault
from broker.core.grant import EndReason, GrantState
from broker.core.ids import CredentialId, GrantId
from broker.core.kinds import TargetKind
from broker.core.roles import Role
from broker.service import recovery
from broker.service.finishing import TRIES
from broker.service.issue_outside import OutsideCredential
from broker.service.ports import Credential, DatabaseAccess, DatabaseWish
from policy.classes import CommandClass
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.fake_issuers import FakeIssuer
from tests.broker.service.somebody import Somebody
from tests.broker.service.test_fake_issuers import SETTINGS
from tests.broker.service.world import House, refused

WISH = DatabaseWish(verifier="SCRAM-SHA-256$4096:c2FsdA==$a:b")


def fake(house: House) -> FakeIssuer:
    """What stands for the other side."""
    issuer = house.world.issuers[TargetKind.POSTGRES]
    assert isinstance(issuer, FakeIssuer)
    return issuer


async def granted(house: House, agent: Somebody) -> GrantId:
    """An hour of the profile `report` on db1."""
    await add_database(house)
    return await house.granted(agent, target="db1", login="report", ceiling=CommandClass.READ)


async def add_database(house: House) -> None:
    """The target db1."""
    made = await house.put_target("db1")
    logins = tuple(replace(made.logins[0], name=profile.name, read_login="") for profile in SETTINGS.profiles)
    await house.change_target(replace(made, host_key="", logins=logins, settings=SETTINGS))


async def issue(house: House, agent: Somebody, grant: GrantId) -> OutsideCredential:
    """A role on db1."""
    return await house.cases.issue_outside.issue(agent.caller, grant, TargetKind.POSTGRES, WISH)


async def row(house: House, credential: CredentialId) -> Credential:
    """As it stands."""
    found = await house.store.inner.read(TENANT, lambda tx: tx.credentials.get(credential))
    assert found is not None
    return found


async def only_row(house: House) -> Credential:
    """The one that something may be of on the target."""
    (found,) = await house.store.inner.read(TENANT, lambda tx: tx.credentials.outside(None))
    return found


async def test_it_is_planned_before_and_written_after(house: House) -> None:
    """The row and its audit are there before the target is asked; the grant's end is the credential's."""
    agent = await house.add("deployer")
    grant, issuer = await granted(house, agent), fake(house)
    issuer.stalls = asyncio.Event()
    making = asyncio.ensure_future(issue(house, agent, grant))  # noqa: TID251  awaited below
    await asyncio.wait_for(issuer.begun.wait(), 5)
    assert (await only_row(house)).state is CredentialState.PLANNED
    assert (await house.events())[-2:] == ["grant.activated", "credential.planned"]
    issuer.stalls.set()
    made = await making
    found = await row(house, made.credential)
    assert (found.state, found.kind, found.serial) == (CredentialState.ISSUED, "postgres", f"role-{found.id}")
    assert isinstance(made.access, DatabaseAccess)
    assert made.not_after == (await house.grant(grant)).not_after == found.not_after
    assert (await house.events())[-1] == "credential.issued"


@pytest.mark.parametrize("reason", [EndReason.EXPIRED, EndReason.REVOKED])
async def test_it_goes_with_its_grant(house: House, reason: EndReason) -> None:
    """I-02: by time and on a word: gone from the target, then ENDED, then the grant is over."""
    agent = await house.add("deployer")
    grant = await granted(house, agent)
    made = [await issue(house, agent, grant) for _ in range(3)]
    if reason is EndReason.EXPIRED:
        house.clock.forward(3600)
        await house.cases.ending.sweep(TENANT)
    else:
        await house.cases.ending.end(TENANT, grant, reason, by=agent.row.id)
    assert fake(house).there == {}
    states = [(await row(house, one.credential)).state for one in made]
    assert states == [CredentialState.ENDED] * 3
    assert (await house.grant(grant)).state in (GrantState.EXPIRED, GrantState.REVOKED)
    assert (await house.events())[-4:-1] == ["credential.ended"] * 3


@pytest.mark.parametrize("dropped", [False, True])
async def test_the_log_says_whether_anything_was_there(house: House, dropped: bool) -> None:  # noqa: FBT001
    """I-31: what somebody else had taken away is ended, and is not told as taken away by us."""
    agent = await house.add("deployer")
    made = await issue(house, agent, grant := await granted(house, agent))
    if dropped:
        fake(house).there.pop(made.credential)
    await house.cases.ending.end(TENANT, grant, EndReason.REVOKED, by=agent.id)
    assert (await row(house, made.credential)).state is CredentialState.ENDED
    (entry,) = await house.entries("credential.ended")
    assert entry["found"] == ("nothing" if dropped else "something")


async def test_what_cannot_be_taken_away_is_stuck_and_tried_again(house: House) -> None:
    """The target does not answer: STUCK, the row stays; it answers again: ended, once."""
    agent = await house.add("deployer")
    grant = await granted(house, agent)
    made = await issue(house, agent, grant)
    fake(house).fails.add("end")
    await house.cases.ending.end(TENANT, grant, EndReason.REVOKED, by=agent.row.id)
    for _ in range(TRIES - 1):
        await house.cases.ending.finish(TENANT, grant)
    assert (await house.grant(grant)).state is GrantState.STUCK
    assert (await row(house, made.credential)).state is CredentialState.ISSUED
    fake(house).fails.clear()
    await house.cases.ending.finish(TENANT, grant)
    assert (await house.grant(grant)).state is GrantState.REVOKED
    assert (await row(house, made.credential)).state is CredentialState.ENDED
    assert (await house.events()).count("credential.ended") == 1


@pytest.mark.parametrize("step", ["create", "create after"])
async def test_a_target_that_fails_leaves_nothing(house: House, step: str) -> None:
    """Before it was made or just after: taken back, and nobody is given anything."""
    agent = await house.add("deployer")
    grant = await granted(house, agent)
    fake(house).fails.add(step)
    with pytest.raises(TargetFault):
        await issue(house, agent, grant)
    assert fake(house).there == {}
    assert await house.store.inner.read(TENANT, lambda tx: tx.credentials.outside(None)) == []
    assert (await house.events())[-2:] == ["credential.planned", "credential.ended"]


async def test_what_cannot_be_written_is_not_given(house: House) -> None:
    """I-31: made, but the store does not take ISSUED: nobody gets it; once it is back, it is ended with the rest."""
    agent = await house.add("deployer")
    grant, issuer = await granted(house, agent), fake(house)
    issuer.stalls = asyncio.Event()
    making = asyncio.ensure_future(issue(house, agent, grant))  # noqa: TID251  awaited below
    await asyncio.wait_for(issuer.begun.wait(), 5)
    house.store.down(down=True)
    issuer.stalls.set()
    with pytest.raises(StoreFault):
        await making
    house.store.down(down=False)
    assert fake(house).there == {}
    planned = await only_row(house)
    assert planned.state is CredentialState.PLANNED
    house.clock.forward(180)
    assert await house.cases.leftovers.sweep(TENANT, planned_before=house.clock.now() - timedelta(minutes=2)) == 1
    assert (await row(house, planned.id)).state is CredentialState.ENDED


async def test_an_end_in_the_middle_wins(house: House) -> None:
    """F06: revoked while the target makes it: nobody is given anything, and nothing is left there."""
    agent = await house.add("deployer")
    grant, issuer = await granted(house, agent), fake(house)
    issuer.stalls = asyncio.Event()
    making = asyncio.ensure_future(issue(house, agent, grant))  # noqa: TID251  awaited below
    await asyncio.wait_for(issuer.begun.wait(), 5)
    await house.cases.ending.end(TENANT, grant, EndReason.REVOKED, by=agent.row.id)
    issuer.stalls.set()
    assert await refused(making) == "grant_over"
    assert issuer.there == {}
    assert await house.store.inner.read(TENANT, lambda tx: tx.credentials.outside(None)) == []


async def test_nothing_is_given_while_access_is_frozen(house: House) -> None:
    """I-61: the kill switch is pulled while the target makes it, and nothing can be written: it is taken back."""
    agent, owner = await house.add("deployer"), await house.add("owner", Role.OWNER)
    grant, issuer = await granted(house, agent), fake(house)
    issuer.stalls = asyncio.Event()
    making = asyncio.ensure_future(issue(house, agent, grant))  # noqa: TID251  awaited below
    await asyncio.wait_for(issuer.begun.wait(), 5)
    house.world.live.close(TENANT, f"by {owner.row.id}")
    issuer.stalls.set()
    assert await refused(making) == "frozen"
    assert issuer.there == {}


async def test_a_target_that_hangs_stops_no_start(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-60: what one tenant's targets do not say is asked again later; everybody is served meanwhile."""
    await add_database(house)
    monkeypatch.setattr(recovery, "FINISH_WITHIN", 0.2)
    async with house.restarted() as after:
        fake(after).hangs = True
        await asyncio.wait_for(after.cases.recovery.run(), 20)


async def test_a_caller_that_goes_away_leaves_nothing_half_made(house: House) -> None:
    """Cancelled in the middle: it is made and written, and ends with its grant."""
    agent = await house.add("deployer")
    grant, issuer = await granted(house, agent), fake(house)
    issuer.stalls = asyncio.Event()
    making = asyncio.ensure_future(issue(house, agent, grant))  # noqa: TID251  awaited below
    await asyncio.wait_for(issuer.begun.wait(), 5)
    making.cancel()
    issuer.stalls.set()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert (await only_row(house)).state is CredentialState.ISSUED
    await house.cases.ending.end(TENANT, grant, EndReason.REVOKED, by=agent.row.id)
    assert issuer.there == {}


async def test_a_start_ends_what_nobody_was_given(house: House) -> None:
    """A broker that died between making and writing: PLANNED at start is ended; what was given goes on."""
    agent = await house.add("deployer")
    grant = await granted(house, agent)
    given = await issue(house, agent, grant)
    lost = replace(await row(house, given.credential), id=CredentialId("cr_" + "b" * 26), serial="role-lost",
                   state=CredentialState.PLANNED)  # fmt: skip
    await house.store.inner.run(TENANT, lambda tx: tx.credentials.add(lost))
    async with house.restarted() as after:
        fake(after).there = {given.credential: (TENANT, "x"), lost.id: (TENANT, "x")}
        await after.cases.recovery.run()
        assert list(fake(after).there) == [given.credential]
        assert (await row(after, lost.id)).state is CredentialState.ENDED
        assert (await row(after, given.credential)).state is CredentialState.ISSUED


async def test_what_no_row_knows_is_ended_and_told(house: House) -> None:
    """A database restored from a backup: what it never heard of is found on the target; another's is left alone."""
    agent = await house.add("deployer")
    given = await issue(house, agent, await granted(house, agent))
    issuer = fake(house)
    where = issuer.there[given.credential]
    issuer.there |= {CredentialId("cr_" + "c" * 26): where, CredentialId("cr_" + "d" * 26): ("elsewhere", where[1])}
    assert await house.cases.leftovers.sweep(TENANT, planned_before=house.clock.now()) == 1
    assert set(issuer.there) == {given.credential, "cr_" + "d" * 26}
    assert (await house.events())[-1] == "credential.leftover_ended"


async def test_a_target_that_does_not_answer_stops_no_start(house: House) -> None:
    """It is asked again a minute later."""
    agent = await house.add("deployer")
    await issue(house, agent, await granted(house, agent))
    async with house.restarted() as after:
        fake(after).fails |= {"leftovers", "end"}
        await after.cases.recovery.run()


async def test_a_kind_has_its_own_ways(house: House) -> None:
    """A grant on a database runs no commands and gets no certificate; one on a host gets no role."""
    agent = await house.add("deployer")
    grant, on_host = await granted(house, agent), await house.granted(agent)
    assert await refused(house.cases.issue.token(agent.caller, grant)) == "wrong_kind"
    assert await refused(house.propose(agent, grant)) == "wrong_kind"
    assert await refused(issue(house, agent, on_host)) == "wrong_kind"
    assert fake(house).journal == []


async def test_another_database_than_approved_is_refused(house: House) -> None:
    """I-14: a profile that changed after the yes gives nothing."""
    agent = await house.add("deployer")
    grant = await granted(house, agent)
    wider = replace(SETTINGS.profiles[0], sessions=9)
    now = await house.store.inner.read(TENANT, lambda tx: tx.targets.by_name("db1"))
    assert now is not None
    await house.change_target(replace(now, settings=replace(SETTINGS, profiles=(wider,))))
    assert await refused(issue(house, agent, grant)) == "target_changed"
