"""Moving people and agents among teams: who may, under whose signature, and what it changes at once (I-41, I-43)."""

from __future__ import annotations

from broker.core.ids import IdentityId
from broker.core.roles import Role
from broker.service.people import Rotation
from broker.service.stepup import Change
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.somebody import Somebody
from tests.broker.service.world import WRITE, House, refused, team_id


def _to(who: Somebody, *teams: str) -> Rotation:
    return Rotation(identity=who.id, teams=frozenset(teams), reason="on call")


def _unsigned() -> Change:
    return Change(method="SetTeams", payload=b"x", step_ups=[])


async def test_who_is_on_call_changes(house: House) -> None:
    """A manager decides for the new team from now on, and no longer for the old one; the log says why."""
    await house.put_team("web")
    owner, manager = await house.add("owner", Role.OWNER), await house.add("manager", Role.MANAGER, teams=["web"])
    agent = await house.add("deployer")
    waiting = (await house.propose(agent, await house.granted(agent), WRITE)).action
    assert await refused(house.cases.approval.get(manager.caller, waiting.id)) == "not_found"
    signed = house.change("SetTeams", b"x", owner)
    row, names = await house.cases.people.set_teams(owner.caller, _to(manager, "ops"), signed)
    assert (row.teams, names) == (frozenset({team_id("ops")}), ("ops",))
    now = await house.cases.identify.identify(TENANT, manager.id, manager.row.key)
    assert now.teams == {team_id("ops")}
    assert (await house.cases.approval.get(now, waiting.id)) is not None
    assert (await house.events()).count("person.changed") == 1
    again = house.change("SetTeams", b"y", owner)
    await house.cases.people.set_teams(owner.caller, _to(manager, "ops"), again)
    assert (await house.events()).count("person.changed") == 1


async def test_who_may_move_whom(house: House) -> None:
    """I-43: not oneself; people by an owner's signature, an owner or admin by two; agents by managers of both teams."""
    await house.put_team("web")
    agent, far = await house.add("deployer"), await house.add("far", teams=["web"])
    owner, admin = await house.add("owner", Role.OWNER), await house.add("admin", Role.ADMIN)
    manager, viewer = await house.add("manager", Role.MANAGER), await house.add("viewer", Role.VIEWER)
    move = house.cases.people.set_teams
    assert await refused(move(owner.caller, _to(owner, "web"), house.change("SetTeams", b"x", owner))) == "own_identity"
    assert await refused(move(admin.caller, _to(viewer, "web"), _unsigned())) == "not_permitted"
    assert await refused(move(owner.caller, _to(viewer, "web"), _unsigned())) == "step_up_needed"
    assert await refused(move(owner.caller, _to(viewer, "none"), _unsigned())) == "not_found"
    gone = Rotation(identity=IdentityId("pe_x"), teams=frozenset(), reason="")
    assert await refused(move(owner.caller, gone, _unsigned())) == "not_found"
    assert await refused(move(manager.caller, _to(agent), _unsigned())) == "team_needed"
    assert await refused(move(manager.caller, _to(agent, "web"), _unsigned())) == "not_your_team"
    assert await refused(move(manager.caller, _to(far, "ops"), _unsigned())) == "not_found"
    await move(admin.caller, _to(agent, "ops", "web"), _unsigned())
    await move(owner.caller, _to(viewer), house.change("SetTeams", b"x", owner))
    other = await house.add("other", Role.OWNER)
    third = await house.add("third", Role.OWNER)
    alone = house.change("SetTeams", b"x", owner)
    assert await refused(move(owner.caller, _to(other, "web"), alone)) == "second_person_needed"
    await move(owner.caller, _to(other, "web"), house.change("SetTeams", b"x", owner, third))
    names = await house.events()
    assert (names.count("agent.changed"), names.count("person.changed")) == (1, 2)
