"""Who sees what: one table of roles and teams, held for every kind of thing there is to see (I-42, I-46, P14)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from broker.core.roles import Role
from broker.service.lookup import sees_target
from tests.broker.service.somebody import Somebody
from tests.broker.service.world import READ, WRITE, House, refused

SEES: list[tuple[str, Role, tuple[str, ...], bool]] = [
    ("owner without a team", Role.OWNER, (), True),
    ("admin of another team", Role.ADMIN, ("web",), True),
    ("viewer without a team", Role.VIEWER, (), True),
    ("manager of its team", Role.MANAGER, ("ops",), True),
    ("manager of both", Role.MANAGER, ("ops", "web"), True),
    ("manager of another team", Role.MANAGER, ("web",), False),
    ("manager without a team", Role.MANAGER, (), False),
    ("agent of its team", Role.AGENT, ("ops",), False),
]


@pytest.mark.parametrize(("who", "role", "teams", "sees"), SEES, ids=[row[0] for row in SEES])
async def test_the_table(house: House, who: str, role: Role, teams: tuple[str, ...], *, sees: bool) -> None:
    """A request, a grant, a session and what waits: seen by the same people; for the rest none of it exists."""
    await house.put_team("web")
    looker = await house.add(who.replace(" ", "-"), role, teams=teams)
    agent = await house.add("deployer")
    request = await house.cases.access.request(agent.caller, house.wish())
    assert request.grant_id is not None
    ticket = await house.started(agent, request.grant_id, READ)
    await house.run(ticket)
    waiting = (await house.propose(agent, request.grant_id, WRITE)).action
    cases, caller = house.cases, looker.caller
    looks: list[Callable[[], Awaitable[object]]] = [
        lambda: cases.access.get(caller, request.id),
        lambda: cases.access.get_grant(caller, ticket.grant.id),
        lambda: cases.session.get(caller, ticket.session.id),
        lambda: cases.session.fetch(caller, ticket.session.id, "a test"),
        lambda: cases.approval.get(caller, waiting.id),
    ]
    assert sees_target(caller, house.web1) == sees
    for look in looks:
        if sees:
            assert await look()
        else:
            assert await refused(look()) == "not_found"
    assert bool(await house.pending_of(looker)) == sees
    assert bool((await cases.access.list_grants(caller, after=None, limit=0)).rows) == sees
    assert bool((await cases.session.page(caller, after=None, limit=0)).rows) == sees


async def test_a_target_that_is_gone(house: House) -> None:
    """Its history is for those who see everything."""
    roles = {role: await house.add(role.value, role) for role in Role}
    seen = {role for role, who in roles.items() if sees_target(who.caller, None)}
    assert seen == {Role.OWNER, Role.ADMIN, Role.VIEWER}


async def test_actions_are_their_agents_alone(house: House) -> None:
    """To wait for, start, take back: another agent of the same owner and team has none of it."""
    owner = await house.add("owner", Role.OWNER)
    agent, other = await house.add("one", owner=owner), await house.add("two", owner=owner)
    action = (await house.propose(agent, await house.granted(agent), WRITE)).action

    async def first(who: Somebody) -> object:
        return await anext(aiter(house.cases.starting.until_decided(who.caller, action.id)))

    for who in (other, owner):
        assert await refused(house.cases.waiting.get(who.caller, action.id)) == "not_found"
        assert await refused(house.cases.starting.start(who.caller, action.id, door="grpc")) == "not_found"
        assert await refused(first(who)) == "not_found"
