"""A tenant's rules decide its commands: programs of its own, shipped ones raised, none lowered by one person (I-17)."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from broker.adapters.store.schema import audit_pending
from broker.core.action import ActionState
from broker.core.errors import Fault, Refusal
from broker.core.roles import Role
from broker.service.policies import Policies
from broker.service.ports import PolicyVersion
from broker.service.sight import classify
from policy import catalog
from policy.classes import CommandClass
from policy.engine import shipped_policy
from policy.ruleset import RulesetError, must_hold
from policy.shell import Classified
from tests.broker.adapters.store.fixtures import OTHER, TENANT
from tests.broker.service.somebody import Somebody
from tests.broker.service.world import House, refused

BODY = b"the request without its signatures"
MYTOOL = {"tools.toml": '[mytool]\nclass = "read"\nsubs.read = "show"\nsubs.execute = "add"\n[uname]\nclass = "write"'}
LOWERS = {
    "tools.toml": '[docker]\nreplaces = true\nclass = "read"\nsubs.read = "run"',
    "apt.toml": '[apt-get]\nreplaces = true\nsubs.read = "x"',
}


async def put(house: House, sources: dict[str, str], owner: Somebody, *signers: Somebody) -> str:
    """The version that is in force then."""
    before = await house.cases.rules.get(owner.caller)
    change = house.change("PutPolicy", BODY, owner, *signers)
    made = await house.cases.rules.put(
        owner.caller, sources, change, replaces=before.version, idempotency_key=house.key()
    )
    return made.version


async def test_a_tenants_own_programs_decide(house: House) -> None:
    """What the file says holds for the next command, in every answer; the other tenant's commands stay as they were."""
    owner, agent = await house.add("owner", Role.OWNER), await house.add("deployer")
    grant = await house.granted(agent)
    first = await house.propose(agent, grant, b"mytool show")
    assert (first.action.state, first.action.opaque) == (ActionState.AWAITING, True)

    await put(house, MYTOOL, owner)
    told = (await house.cases.propose.explain(agent.caller, b"mytool show")).verdict
    assert isinstance(told, Classified)
    assert (told.command_class, told.opaque) == (CommandClass.READ, False)
    assert classify(house.world.policies.last_seen(TENANT), b"mytool show") == told
    read = await house.propose(agent, grant, b"mytool show")
    assert (read.action.state, read.action.command_class) == (ActionState.RUNNING, CommandClass.READ)
    raised = await house.propose(agent, grant, b"uname -a")
    assert (raised.action.state, raised.action.command_class) == (ActionState.AWAITING, CommandClass.EXECUTE)
    assert house.world.policies.last_seen(OTHER) is not house.world.policies.last_seen(TENANT)
    elsewhere = house.world.policies.last_seen(OTHER).classify(b"mytool show")
    assert isinstance(elsewhere, Classified)
    assert elsewhere.opaque


async def test_a_change_of_programs_voids_what_waits(house: House) -> None:
    """I-14: the version covers the programs, so what was decided under others is decided anew."""
    owner, agent = await house.add("owner", Role.OWNER), await house.add("deployer")
    grant = await house.granted(agent)
    waiting = (await house.propose(agent, grant, b"mytool add x")).action
    version = await put(house, MYTOOL, owner)
    again = (await house.propose(agent, grant, b"mytool add x")).action
    assert (again.policy_version, again.command_class) == (version, CommandClass.EXECUTE)
    assert not again.opaque
    assert again.id != waiting.id
    assert (await house.action(waiting)).state is ActionState.CANCELLED


async def test_lowering_a_shipped_program_takes_two_people_always(house: House) -> None:
    """I-17: one person alone never does it, though they are the only owner; the log names what was lowered."""
    owner, admin = await house.add("owner", Role.OWNER), await house.add("admin", Role.ADMIN)
    assert await refused(put(house, LOWERS, owner)) == "second_person_needed"
    assert await refused(put(house, LOWERS, owner, admin)) == "second_person_needed"
    second = await house.add("second", Role.OWNER)
    assert await refused(put(house, LOWERS, owner)) == "second_person_needed"
    await put(house, LOWERS, owner, second)
    query = select(audit_pending.c.entry).where(audit_pending.c.tenant == TENANT).order_by(audit_pending.c.id)
    entries = await house.store.inner.read_sql(TENANT, lambda conn: list(conn.execute(query).scalars()))
    assert b'"lowered":2,"lowers":"apt-get,docker"' in bytes(entries[-1])


def test_a_broker_whose_classifier_errs_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """I-16: an example that no longer holds (another parser, a file edited in place) is found before a door opens."""
    Policies.tried()
    wrong = catalog.parse('[ls]\nmatch = ["read: rm x"]', "looking.toml")
    monkeypatch.setattr(catalog, "shipped", lambda: wrong)
    must_hold.cache_clear()
    with pytest.raises(Fault, match="it is write"):
        Policies.tried()
    must_hold.cache_clear()


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        ({"tools.toml": "[mytool]\nclas = 'read'"}, "tools.toml:1: [mytool]: unknown key 'clas'"),
        ({"tools.toml": "[mytool]\nmatch = ['read: mytool x -y']"}, "it is execute"),
        ({"readme": "x"}, "ends in .cedar"),
        ({**shipped_policy(), "tools.toml": "["}, "tools.toml"),
    ],
)
async def test_a_set_that_does_not_load_changes_nothing(house: House, sources: dict[str, str], says: str) -> None:
    """The refusal says where; what was in force stays."""
    owner = await house.add("owner", Role.OWNER)
    before = (await house.cases.rules.get(owner.caller)).version
    with pytest.raises(Refusal, match="the policy does not load") as caught:
        await put(house, sources, owner)
    assert (caught.value.code, says in caught.value.message) == ("bad_policy", True)
    assert (await house.cases.rules.get(owner.caller)).version == before


async def test_a_set_that_loads_no_more_denies_and_can_be_replaced(house: House) -> None:
    """I-17: after an upgrade that refuses the stored set nothing is permitted, and its owner is not locked out."""
    owner, agent = await house.add("owner", Role.OWNER), await house.add("deployer")
    grant = await house.granted(agent)
    stale = PolicyVersion(tenant=TENANT, version="0" * 64, sources={"a.cedar": "permit ("}, put_by="",
                          put_at=house.clock.now())  # fmt: skip
    await house.store.run(TENANT, lambda tx: tx.policies.put(stale))
    with pytest.raises(RulesetError):
        await house.propose(agent, grant, b"ls")
    assert await refused(put(house, LOWERS, owner)) == "second_person_needed"
    await put(house, MYTOOL, owner)
    assert (await house.propose(agent, grant, b"ls")).action.state is ActionState.RUNNING
