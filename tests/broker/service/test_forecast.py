"""A dry run under a grant: who could say yes, and what would lead to a milder decision."""

from __future__ import annotations

from dataclasses import replace

from broker.core.action import StdinMode
from broker.core.identity import IdentityStatus
from broker.core.ids import GrantId
from broker.core.roles import Role
from broker.service.forecast import Forecast
from broker.service.propose import CommandInput
from policy.classes import CommandClass
from policy.engine import Deny, NeedsApproval, Permit
from tests.broker.service.somebody import Somebody
from tests.broker.service.world import WRITE, House


async def _forecast(house: House, who: Somebody, grant: GrantId, line: bytes) -> Forecast:
    command = CommandInput(line=line, cwd="", env={}, stdin_mode=StdinMode.NONE, stdin=b"", pty=False)
    return await house.cases.propose.preview(who.caller, grant, command)


async def test_advice_that_needs_nobody_is_an_alternative(house: House) -> None:
    """What would run at once is said, with the decision that policy gave to it."""
    agent = await house.add("deployer")
    forecast = await _forecast(house, agent, await house.granted(agent), b"ls > /tmp/x")
    assert isinstance(forecast.decision, NeedsApproval)
    ((what, decision),) = [(other.what, other.decision) for other in forecast.alternatives]
    assert what == "drop `> /tmp/x`"
    assert isinstance(decision, Permit)


async def test_a_denial_by_the_ceiling_names_the_grant_that_would_do(house: House) -> None:
    """What exceeds the ceiling could be asked for under another grant."""
    agent = await house.add("deployer")
    grant = await house.granted(agent, ceiling=CommandClass.READ)
    forecast = await _forecast(house, agent, grant, WRITE)
    assert forecast.decision == Deny(reasons=("grant.ceiling",))
    assert [(other.what, type(other.decision)) for other in forecast.alternatives] == [
        ("a grant whose ceiling is write", NeedsApproval)
    ]
    opaque = await _forecast(house, agent, grant, b"frobnicate")
    assert [other.what for other in opaque.alternatives] == ["a grant whose ceiling is execute"]


async def test_agents_are_not_told_who_could_approve(house: House) -> None:
    """I-41: names of people are for those who may read the directory."""
    agent = await house.add("deployer")
    await house.add("approver", Role.MANAGER)
    forecast = await _forecast(house, agent, await house.granted(agent), WRITE)
    assert isinstance(forecast.decision, NeedsApproval)
    assert forecast.approvers == ()


async def test_a_person_is_told_who_could_approve(house: House) -> None:
    """I-12: not oneself, nobody suspended, nobody of another team or without a key to sign with."""
    person, approver = await house.add("asker", Role.ADMIN), await house.add("approver", Role.MANAGER)
    gone, keyless = await house.add("gone", Role.ADMIN), await house.add("keyless", Role.ADMIN)
    await house.put(replace(gone.row, status=IdentityStatus.SUSPENDED))
    await house.put(replace(keyless.row, approval_keys=()))
    await house.put_team("other")
    await house.add("elsewhere", Role.MANAGER, teams=("other",))
    await house.add("looker", Role.VIEWER)
    request = await house.cases.access.request(person.caller, house.wish())
    await house.decide(approver, request)
    grant = (await house.cases.access.get(person.caller, request.id)).grant_id
    assert grant is not None
    forecast = await _forecast(house, person, grant, WRITE)
    assert forecast.approvers == ("approver",)
    assert (await _forecast(house, person, grant, b"ls")).approvers == ()
