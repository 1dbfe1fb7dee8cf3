"""A key follows another only when nobody is left behind, under an Owner's signature, and everybody is told (I-06)."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from broker.core.cert import EGRESS_LIFE, INGRESS_MAX_LIFE, SKEW, X509_LIFE, Ca
from broker.core.errors import Refusal
from broker.core.generation import Stage, Step
from broker.core.ids import TargetId, TenantId, render
from broker.core.kinds import SecretSettings
from broker.core.roles import Role
from broker.core.sshwire import parse_blob
from broker.core.statement import Rotation, Statement, subject_of
from broker.service.stepup import Change
from broker.signer.keys import load_keys, make_keys
from tests.broker.adapters.store.fixtures import OTHER, TENANT
from tests.broker.service.somebody import Somebody
from tests.broker.service.world import House, refused

ROTATE = "grantd.v1.AdminService/RotateCa"
BODY = b"the request without its signatures"


@pytest.fixture
async def owner(house: House, tmp_path: Path) -> Somebody:
    """An Owner; the house's signer has keys of its own, which may change."""
    make_keys(tmp_path / "keys", house.clock.now())
    house.signer._keys = load_keys(tmp_path / "keys", owner=os.geteuid())  # noqa: SLF001
    return await house.add("owner", Role.OWNER)


async def step(house: House, who: Somebody, ca: Ca, name: Step, *, force: bool = False) -> list[Stage]:
    """The stages after one step."""
    change = await stating(house, who, ca, name, force=force)
    told = await house.cases.cas.rotate(who.caller, ca, name, change, force=force)
    return [each.stage for each in told]


async def stating(
    house: House, who: Somebody, ca: Ca, name: Step, *, force: bool = False, number: int | None = None
) -> Change:
    """The change with its statement, for the key that the step is about unless another number is given."""
    numbers = [each.number for each in (await house.cases.cas.all())[ca]]
    key = {Step.START: numbers[-1] + 1, Step.SWITCH: numbers[-1], Step.FINISH: numbers[0]}[name]
    content = Rotation(ca=ca, step=name, number=number or key, forced=force)
    said = Statement(
        tenant=TENANT, subject=subject_of(ca), revision=1, previous=b"", content=content, at=house.clock.now()
    )  # fmt: skip
    return replace(house.change(ROTATE, BODY, who), trust=said.encoded())


@pytest.mark.parametrize(
    ("ca", "known", "over"),
    [
        (Ca.INGRESS, timedelta(0), INGRESS_MAX_LIFE),
        (Ca.EGRESS, timedelta(0), EGRESS_LIFE + SKEW),
        (Ca.HOST, INGRESS_MAX_LIFE, timedelta(0)),
        (Ca.X509, X509_LIFE, X509_LIFE),
    ],
)
async def test_a_step_waits_for_what_is_out(
    house: House, owner: Somebody, ca: Ca, known: timedelta, over: timedelta
) -> None:
    """Switching waits until clients know the next key, finishing until what the old one signed is over; no longer."""
    assert await step(house, owner, ca, Step.START) == [Stage.SIGNING, Stage.NEXT]
    for name, wait, after in ((Step.SWITCH, known, [Stage.OLD, Stage.SIGNING]), (Step.FINISH, over, [Stage.SIGNING])):
        if wait:
            house.clock.forward(wait.total_seconds() - 1)
            assert await refused(step(house, owner, ca, name)) == "ca_too_early"
            house.clock.forward(1)
        assert await step(house, owner, ca, name) == after
    assert [e for e in await house.events() if e == "ca.rotated"] == ["ca.rotated"] * 3


async def test_the_egress_key_waits_for_every_target(house: House, owner: Somebody) -> None:
    """One that does not let the next key in holds the switch up, by name; force is force, and both are written down."""
    await step(house, owner, Ca.EGRESS, Step.START)
    house.targets.unbelieving.add(house.web1.name)
    with pytest.raises(Refusal, match=house.web1.name) as held:
        await step(house, owner, Ca.EGRESS, Step.SWITCH)
    assert held.value.code == "ca_not_everywhere"
    assert await step(house, owner, Ca.EGRESS, Step.SWITCH, force=True) == [Stage.OLD, Stage.SIGNING]
    assert await refused(step(house, owner, Ca.EGRESS, Step.FINISH)) == "ca_too_early"
    assert await step(house, owner, Ca.EGRESS, Step.FINISH, force=True) == [Stage.SIGNING]


async def test_the_egress_key_waits_for_other_tenants_targets_too(house: House, owner: Somebody) -> None:
    """The key is everybody's: a target of another tenant holds the switch up, and is not named (I-40)."""
    await step(house, owner, Ca.EGRESS, Step.START)
    foreign = replace(
        house.web1, tenant=OTHER, id=TargetId(render("target", bytes(16))), name="foreign1", teams=frozenset()
    )
    await house.store.run(OTHER, lambda tx: tx.targets.put(foreign))
    house.targets.unbelieving.add("foreign1")
    with pytest.raises(Refusal, match="1 targets") as held:
        await step(house, owner, Ca.EGRESS, Step.SWITCH)
    assert held.value.code == "ca_not_everywhere"
    assert "foreign1" not in held.value.message
    house.targets.unbelieving.clear()
    assert await step(house, owner, Ca.EGRESS, Step.SWITCH) == [Stage.OLD, Stage.SIGNING]


async def test_the_egress_key_waits_for_hosts_alone(house: House, owner: Somebody) -> None:
    """A target that no SSH key lets in at is not asked: it would hold every rotation up for ever."""
    await step(house, owner, Ca.EGRESS, Step.START)
    secret = replace(house.web1, settings=SecretSettings(secret="app/key"), name="vaulted")
    await house.change_target(secret)
    house.targets.unbelieving.add("vaulted")
    assert await step(house, owner, Ca.EGRESS, Step.SWITCH) == [Stage.OLD, Stage.SIGNING]


async def test_steps_come_in_order_and_under_an_owners_signature(house: House, owner: Somebody) -> None:
    """Out of order, without a signature, or by an Admin: refused, and no key is made."""
    for name in (Step.SWITCH, Step.FINISH):
        assert await refused(step(house, owner, Ca.HOST, name, force=True)) == "ca_wrong_step"
    unsigned = house.change(ROTATE, BODY)
    assert await refused(house.cases.cas.rotate(owner.caller, Ca.HOST, Step.START, unsigned, force=False)) == (
        "step_up_needed"
    )
    elsewhere = replace(owner.caller, tenant=TenantId("t2"))
    assert await refused(house.cases.cas.rotate(elsewhere, Ca.HOST, Step.START, unsigned, force=False)) == (
        "not_operator"
    )
    assert len((await house.cases.cas.all())[Ca.HOST]) == 1


async def test_the_signer_is_told_what_the_change_says_and_nothing_else(house: House, owner: Somebody) -> None:
    """Without a statement, or with one of another step, key or haste: refused before the signer hears of it (I-06)."""
    bare = house.change(ROTATE, BODY, owner)
    for change in (
        bare,
        await stating(house, owner, Ca.HOST, Step.SWITCH),
        await stating(house, owner, Ca.X509, Step.START),
        await stating(house, owner, Ca.HOST, Step.START, number=7),
        await stating(house, owner, Ca.HOST, Step.START, force=True),
    ):
        again = replace(change, step_ups=house.change(ROTATE, BODY, owner).step_ups)
        assert await refused(house.cases.cas.rotate(owner.caller, Ca.HOST, Step.START, again, force=False)) == (
            "bad_statement"
        )
    assert len((await house.cases.cas.all())[Ca.HOST]) == 1


async def test_everybody_is_told_before_a_step_is_answered(house: House, owner: Somebody) -> None:
    """Doors hear of it while the caller waits; what clients are given holds both keys in between."""
    heard: list[Ca] = []

    async def hear(ca: Ca) -> None:
        heard.append(ca)

    house.cases.cas.told.append(hear)
    for ca in (Ca.HOST, Ca.X509):
        await step(house, owner, ca, Step.START)
    assert heard == [Ca.HOST, Ca.X509]
    known = (await house.cases.issue._known_hosts()).split("\n")  # noqa: SLF001
    told = (await house.cases.cas.all())[Ca.HOST]
    assert [line.split(" ", 2)[2] for line in known] == [parse_blob(each.public).line() for each in told]
    assert len(await house.cases.enrol.authorities()) == 2


async def test_a_signer_that_fails_leaves_everything_as_it_was(house: House, owner: Somebody) -> None:
    """The try stands in the log, nothing else happened."""
    house.signer.fails = True
    with pytest.raises(Exception, match="does not answer"):
        await step(house, owner, Ca.HOST, Step.START)
    house.signer.fails = False
    assert (await house.events())[-1] == "ca.rotation_asked"
    assert len((await house.cases.cas.all())[Ca.HOST]) == 1
