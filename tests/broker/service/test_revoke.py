"""Revoking by anything: what is in the scope ends, in memory first; what is not goes on (I-02, P22)."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.core.action import ActionState
from broker.core.cert import CertSpec
from broker.core.errors import StoreFault
from broker.core.grant import EndReason, GrantState
from broker.core.ids import GrantId
from broker.core.request import RequestState
from broker.core.roles import Role
from broker.core.sshwire import ed25519_blob
from broker.service.ports import Proof
from broker.service.revoke import Revoked, Whose
from broker.service.slices import SLICE
from tests.broker.service.somebody import Somebody
from tests.broker.service.test_ending import cut_within_a_second, two_running
from tests.broker.service.world import HANG, READ, WRITE, House, refused


async def revoke(house: House, who: Somebody, whose: Whose, name: str) -> Revoked:
    """With a reason."""
    return await house.cases.revoke.revoke(who.caller, whose, name, "an incident")


async def states(house: House, *grants: GrantId) -> list[GrantState]:
    """Of each."""
    return [(await house.grant(grant)).state for grant in grants]


@pytest.mark.parametrize(
    ("whose", "name"),
    [
        (Whose.AGENT, "deployer"), (Whose.TARGET, "web1"), (Whose.TEAM, "ops"), (Whose.TICKET, "OPS-1"),
        (Whose.TENANT, "acme"),
    ],
)  # fmt: skip
async def test_everything_of_the_scope_ends_within_a_second(house: House, whose: Whose, name: str) -> None:
    """Busy and idle sessions, grants in use and unused, what waits for a decision, credentials; again is harmless."""
    agent, owner = await house.add("deployer"), await house.add("owner", Role.OWNER)
    name = owner.caller.tenant if whose is Whose.TENANT else name
    asker = await house.add("asker", Role.VIEWER)
    running = await house.granted(agent, ticket="OPS-1")
    tickets = [await house.started(agent, running, HANG), await house.started(agent, running, HANG)]
    unused = await house.granted(agent, ticket="OPS-1")
    waiting = (await house.propose(agent, running, WRITE)).action
    asked = await house.cases.access.request(asker.caller, house.wish(ticket="OPS-1"))
    told = list[Revoked]()

    async def end() -> None:
        told.append(await revoke(house, owner, whose, name))

    assert await cut_within_a_second(house, tickets, end) == ["revoked", "revoked"]
    assert (set(told[0].grants), told[0].sessions, told[0].late) == ({running, unused}, 2, 0)
    await house.cases.ending.retry_due(owner.caller.tenant)
    assert await states(house, running, unused) == [GrantState.REVOKED, GrantState.REVOKED]
    assert (await house.grant(unused)).end_reason is EndReason.REVOKED
    assert (await house.grant(unused)).ended_by == owner.id
    assert (await house.action(waiting)).state is ActionState.CANCELLED
    withdrawn = (await house.request(asked)).state is RequestState.CANCELLED
    assert withdrawn == (whose is not Whose.AGENT)
    assert told[0].requests == int(withdrawn)
    for attempt in (house.propose(agent, running, READ), house.cases.issue.token(agent.caller, unused)):
        assert await refused(attempt) in ("grant_over", "not_found")
    assert (await house.events()).count("grant.revoked") == 2
    again = await revoke(house, owner, whose, name)
    assert (list(again.grants), again.sessions) == ([], 0)
    assert await house.granted(agent), "a revocation is no ban"


async def test_nothing_outside_of_the_scope_ends(house: House) -> None:
    """Another agent's, another ticket's, a person's own: each goes on."""
    agent, other, owner = await house.add("deployer"), await house.add("other"), await house.add("owner", Role.OWNER)
    first, second = await house.granted(agent, ticket="A-1"), await house.granted(agent, ticket="A-2")
    third = await house.granted(other, ticket="A-2")
    assert list((await revoke(house, owner, Whose.TICKET, "A-1")).grants) == [first]
    assert list((await revoke(house, owner, Whose.TICKET, "A")).grants) == []
    assert list((await revoke(house, owner, Whose.AGENT, "other")).grants) == [third]
    assert list((await revoke(house, owner, Whose.PERSON, "owner")).grants) == []
    assert await states(house, second) == [GrantState.APPROVED]


async def test_a_manager_reaches_the_targets_of_their_teams(house: House) -> None:
    """What is not theirs to see does not exist; of the tenant, their own part alone (I-46, P14)."""
    agent = await house.add("deployer")
    await house.put_team("elsewhere")
    far = await house.add("far", Role.MANAGER, teams=("elsewhere",))
    near = await house.add("near", Role.MANAGER)
    grant = await house.granted(agent, ticket="A-1")
    assert await refused(revoke(house, far, Whose.TARGET, "web1")) == "not_found"
    assert await refused(revoke(house, far, Whose.TEAM, "ops")) == "not_found"
    for whose, name in ((Whose.AGENT, "deployer"), (Whose.TICKET, "A-1"), (Whose.TENANT, far.caller.tenant)):
        assert list((await revoke(house, far, whose, name)).grants) == []
    assert await states(house, grant) == [GrantState.APPROVED]
    assert list((await revoke(house, near, Whose.TENANT, near.caller.tenant)).grants) == [grant]


@pytest.mark.parametrize(
    ("whose", "name", "code"),
    [
        (Whose.AGENT, "nobody", "not_found"), (Whose.PERSON, "deployer", "not_found"),
        (Whose.TARGET, "web9", "not_found"), (Whose.TEAM, "none", "not_found"), (Whose.TENANT, "t2", "not_found"),
        (Whose.TICKET, "", "bad_scope"), (Whose.TICKET, "x" * 129, "text_too_long"),
    ],
)  # fmt: skip
async def test_a_scope_that_is_none_ends_nothing(house: House, whose: Whose, name: str, code: str) -> None:
    """A wrong name is told, never taken for everything; a name of another tenant least of all."""
    agent, owner = await house.add("deployer"), await house.add("owner", Role.OWNER)
    grant = await house.granted(agent)
    assert await refused(revoke(house, owner, whose, name)) == code
    assert await states(house, grant) == [GrantState.APPROVED]


async def test_a_store_that_fails_half_way_leaves_nothing_open(house: House) -> None:
    """Found, then the store goes: cut and ended in memory at once, written when it is back."""
    agent, owner = await house.add("deployer"), await house.add("owner", Role.OWNER)
    grant, tickets = await two_running(house, agent)

    async def end() -> None:
        house.audit_fails = True
        with pytest.raises(StoreFault):
            await revoke(house, owner, Whose.AGENT, "deployer")
        assert house.cases.ending.is_ended(grant)
        house.audit_fails = False

    assert await cut_within_a_second(house, tickets, end) == ["revoked", "revoked"]
    assert await refused(house.propose(agent, grant, READ)) in ("grant_over", "not_found")
    await house.cases.ending.write_late()
    assert (await house.grant(grant)).end_reason is EndReason.REVOKED


async def test_very_many_are_marked_before_the_first_is_written(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one transaction ends: while they are written, none of them starts anything."""
    agent, owner = await house.add("deployer"), await house.add("owner", Role.OWNER)
    grants = [await house.granted(agent) for _ in range(SLICE + 3)]
    held, let_go = list[int](), house.cases.ending.let_go

    def watched(ids: Iterable[GrantId]) -> None:
        held.append(sum(map(house.cases.ending.is_ended, grants)))
        let_go(ids)

    monkeypatch.setattr(house.cases.ending, "let_go", watched)
    await revoke(house, owner, Whose.AGENT, "deployer")
    assert held == [len(grants), 3]
    assert set(await states(house, *grants)) == {GrantState.REVOKED}


@pytest.mark.parametrize("how", ["frozen", "not_found"])
async def test_a_certificate_that_is_being_signed_when_it_ends_is_not_handed_out(
    house: House, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Issued a moment before would be issued all the same: frozen, or revoked, while the signer works (I-61, I-02)."""
    agent, owner = await house.add("deployer"), await house.add("owner", Role.OWNER)
    grant, sign = await house.granted(agent), house.world.signer.sign_ssh

    async def slowly(spec: CertSpec, public_key: bytes, proof: Proof) -> bytes:
        signed = await sign(spec, public_key, proof)
        if how == "frozen":
            await house.cases.freeze.freeze(owner.caller, "incident")
        else:
            await revoke(house, owner, Whose.AGENT, "deployer")
        return signed

    monkeypatch.setattr(house.world.signer, "sign_ssh", slowly)
    blob = ed25519_blob(Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    assert await refused(house.cases.issue.ssh(agent.caller, grant, blob)) == how
