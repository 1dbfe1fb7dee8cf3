"""What a policy may demand of an approval, and that either layer alone refuses one's own (I-12, I-13)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.core.records import APPROVAL_NAMESPACE
from broker.core.roles import Role
from policy.engine import shipped_policy
from tests.broker.service.test_deciding import EVERYBODY_APPROVES, awaiting, put_policy, start
from tests.broker.service.world import House, refused
from tests.broker.ssh_keys import SoftwareToken

TOUCHED, VERIFIED = 0x01, 0x05
DEMANDS = """@id("approve.key") forbid (principal, action == Action::"approve", resource)
when { context.level >= 2 } unless { context.%s };"""
HOURS = """@id("late") @approvers("2") permit (principal, action == Action::"run", resource)
when { principal.teams.containsAny(resource.teams) && context.now >= datetime("%s") };"""


@pytest.mark.parametrize(
    ("demand", "flags", "enough"),
    [("security_key", TOUCHED, True), ("user_verified", TOUCHED, False), ("user_verified", VERIFIED, True)],
)
async def test_a_policy_may_demand_a_security_key(house: House, demand: str, flags: int, *, enough: bool) -> None:
    """I-13: a key in a file is refused where a FIDO2 key is demanded; of the FIDO2 key, its own word counts."""
    await put_policy(house, {**shipped_policy(), "keys.cedar": DEMANDS % demand})
    agent, person = await house.add("deployer"), await house.add("approver", Role.MANAGER)
    token = SoftwareToken(key=Ed25519PrivateKey.generate())
    await house.put(replace(person.row, approval_keys=(*person.row.approval_keys, token.line())))
    action = await awaiting(house, agent)
    assert await refused(house.decide(person, action)) == "may_not_decide"
    signature = token.sign(action.record().encoded(), flags=flags, namespace=APPROVAL_NAMESPACE)
    vote = replace(house.vote(person, action), signature=signature)
    if enough:
        assert (await house.cases.approval.decide(person.caller, vote)).state == "allowed"
    else:
        assert await refused(house.cases.approval.decide(person.caller, vote)) == "may_not_decide"


@pytest.mark.parametrize("policy", [shipped_policy(), EVERYBODY_APPROVES], ids=["cedar", "no-layer"])
async def test_cedar_alone_refuses_ones_own(
    house: House, monkeypatch: pytest.MonkeyPatch, policy: dict[str, str]
) -> None:
    """I-12: with both checks in Python gone, the shipped policy still refuses; without it, nothing would."""
    monkeypatch.setattr("broker.service.approval.must_be_another", lambda *_, **__: None)
    monkeypatch.setattr("policy.engine._is_their_own", lambda *_: False)
    await put_policy(house, dict(policy))
    owner = await house.add("owner", Role.OWNER)
    action = await awaiting(house, await house.add("deployer", owner=owner))
    if policy is EVERYBODY_APPROVES:
        assert (await house.decide(owner, action)).state == "allowed"
    else:
        assert await refused(house.decide(owner, action)) == "may_not_decide"


@pytest.mark.parametrize("gone", ["broker.service.approval.must_be_another", "policy.engine._is_their_own"])
async def test_each_check_in_python_alone_refuses_ones_own(
    house: House, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    """I-12: under a policy that lets everybody approve, either check in Python is enough."""
    monkeypatch.setattr(gone, (lambda *_: False) if gone.startswith("policy") else (lambda *_, **__: None))
    await put_policy(house, EVERYBODY_APPROVES)
    owner = await house.add("owner", Role.OWNER)
    action = await awaiting(house, await house.add("deployer", owner=owner))
    assert await refused(house.decide(owner, action)) in {"own_request", "may_not_decide"}


async def test_more_people_where_the_hour_asks_for_more(house: House) -> None:
    """I-14: a yes from before closing time is not enough after it; the second person's makes it so, in time."""
    late = (house.clock.now() + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    await put_policy(house, {**shipped_policy(), "hours.cedar": HOURS % late})
    agent, one = await house.add("deployer"), await house.add("one", Role.MANAGER)
    action = await awaiting(house, agent)
    assert action.quorum == 1
    assert (await house.decide(one, action)).state == "allowed"
    house.clock.forward(301)
    assert await refused(start(house, agent, action)) == "approval_void"


async def test_a_claimed_ticket_reaches_the_policy_of_access_and_of_issuing(house: House) -> None:
    """A request without the ticket that policy wants is denied, blanks count as none; with one it is granted."""
    wanted = (
        '@id("ticket") forbid (principal, action == Action::"request", resource) when { context.claimed.ticket == "" };'
    )
    await put_policy(house, {**shipped_policy(), "ticket.cedar": wanted})
    agent = await house.add("deployer")
    for nothing in ("", "  "):
        assert await refused(house.granted(agent, ticket=nothing)) == "policy_denied"
    grant = await house.granted(agent, ticket="CHG-7")
    await house.cases.issue.token(agent.caller, grant)
    stricter = wanted.replace('== ""', '!= "CHG-8"')
    await put_policy(house, {**shipped_policy(), "ticket.cedar": stricter})
    assert await refused(house.cases.issue.token(agent.caller, grant)) == "policy_denied"
