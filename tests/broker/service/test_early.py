"""What the signer would refuse later is said at once, with a way out; nothing more is decided by it (I-06, I-12)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.core.approval import Verdict
from broker.core.errors import Refusal
from broker.core.identity import IdentityStatus, Login
from broker.core.ids import TenantId
from broker.core.roles import Role
from tests.broker.service.test_deciding import awaiting
from tests.broker.service.world import House, refused
from tests.broker.signer.world import OWNER, believing


async def test_a_target_that_the_signer_does_not_know_is_refused_when_it_is_asked_for(house: House) -> None:
    """No statement, or one of another host key or other logins: the way out is named, and no grant comes of it."""
    agent = await house.add("deployer")
    others = (
        b"",
        believing(replace(house.web1, host_key=OWNER.line)),
        believing(replace(house.web1, logins=(Login(name="app", read_login=""),))),
        believing(agent.row) or believing((await house.add("mona", Role.MANAGER)).row),
    )
    for held in others:
        house.signer.held[house.web1.id] = held
        with pytest.raises(Refusal, match="signer knows no such target") as caught:
            await house.granted(agent)
        assert caught.value.code == "target_not_signed"
        assert caught.value.way_out == f"an admin or owner runs: grantctl trust adopt {house.web1.name}"
    assert "access.requested" not in await house.events()
    del house.signer.held[house.web1.id]
    assert await house.granted(agent)


async def test_whoever_has_nothing_to_do_with_a_target_does_not_learn_of_it(house: House) -> None:
    """I-46: a stranger is told what anybody is told of a target that there is not."""
    house.signer.held[house.web1.id] = b""
    stranger = await house.add("stranger", teams=())
    assert await refused(house.granted(stranger)) == await refused(house.granted(stranger, target="nowhere"))


async def test_a_signer_that_does_not_answer_says_nothing_early(house: House) -> None:
    """It decides when a certificate is asked for; until then asking and approving go on."""
    house.signer.fails = True
    action = await awaiting(house, await house.add("deployer"))
    assert (await house.decide(await house.add("mona", Role.MANAGER), action)).state == "allowed"


async def test_a_yes_that_the_signer_would_not_count_is_refused_when_it_is_given(house: House) -> None:
    """Nobody known, another key, suspended there, a role that does not decide: the action waits on, and a no counts."""
    mona = await house.add("mona", Role.MANAGER)
    action = await awaiting(house, await house.add("deployer"))
    row = mona.row
    for held in (
        b"",
        believing(replace(row, approval_keys=(OWNER.line,))),
        believing(replace(row, status=IdentityStatus.SUSPENDED)),
        believing(replace(row, role=Role.VIEWER)),
        believing(house.web1),
    ):
        house.signer.held[mona.id] = held
        with pytest.raises(Refusal, match="your yes would not count") as caught:
            await house.decide(mona, action)
        assert caught.value.code == "approver_not_signed"
        assert caught.value.way_out == "an owner runs: grantctl trust adopt mona"
    assert (await house.action(action)).state == "awaiting"
    assert "approval.recorded" not in await house.events()
    assert (await house.decide(mona, action, Verdict.DENY)).state == "denied"


async def test_other_tenants_statements_are_not_asked_for(house: House) -> None:
    """I-40: the question names the caller's own tenant."""
    asked: list[tuple[str, str]] = []
    believed = house.signer.believed

    async def listen(tenant: str, subject: str) -> bytes:
        asked.append((tenant, subject))
        return await believed(tenant, subject)

    house.signer.believed = listen  # type: ignore[method-assign]
    agent = await house.add("deployer")
    await house.granted(agent)
    assert asked == [(agent.caller.tenant, house.web1.id)]
    assert agent.caller.tenant != TenantId("")
