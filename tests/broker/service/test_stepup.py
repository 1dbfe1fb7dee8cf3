"""Changes of power need a fresh signature, and a second person exactly where there is one (I-17, I-43)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.core.identity import IdentityKind, IdentityStatus, Login
from broker.core.ids import IdentityId
from broker.core.kinds import SshSettings
from broker.core.roles import Role
from broker.core.sshwire import ed25519_blob, parse_blob
from broker.service.people import Invitation, Newcomer
from broker.service.stepup import Change, StepUp
from broker.service.target_input import TargetInput
from policy.classes import Tier
from policy.engine import shipped_policy
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.somebody import Somebody
from tests.broker.service.test_deciding import TWO_PEOPLE
from tests.broker.service.world import House, refused
from tests.contract.store.races import race

PUT, ADD = "grantd.v1.AdminService/PutTarget", "grantd.v1.AdminService/AddPerson"
NOBODY = IdentityId("pe_x")
BODY = b"the request without its signatures"


def given(house: House, **changed: object) -> TargetInput:
    """A target db1."""
    made = TargetInput(
        name="db1", host="192.0.2.9", port=22, host_key=house.web1.host_key, tier=Tier.APPROVAL,
        teams=frozenset({"ops"}), labels={"env": "prod"}, logins=(Login(name="deploy", read_login=""),),
        seal_reads=False, source_address="", settings=SshSettings(krl_login=""),
    )  # fmt: skip
    return replace(made, **changed)  # type: ignore[arg-type]


async def put(house: House, who: Somebody, change: Change, **changed: object) -> str:
    """The tier of the target that was put."""
    made, lines = await house.cases.inventory.put(
        who.caller, given(house, **changed), change, idempotency_key=house.key()
    )
    assert made.name in lines
    return made.tier


async def test_one_fresh_signature_is_enough_for_an_ordinary_change(house: House) -> None:
    """By the caller's own approval key, over this method and these bytes."""
    admin, _ = await house.add("admin", Role.ADMIN), await house.add("owner", Role.OWNER)
    assert await put(house, admin, house.change(PUT, BODY, admin)) == Tier.APPROVAL
    assert (await house.events())[-1] == "target.added"
    assert await put(house, admin, house.change(PUT, BODY, admin), port=2222) == Tier.APPROVAL
    assert (await house.events())[-1] == "target.changed"


Make = Callable[[House, Somebody, Somebody], Change]


def _one(step_up: StepUp) -> Change:
    return Change(method=PUT, payload=BODY, step_ups=[step_up])


BAD: dict[str, tuple[str, Make]] = {
    "none": ("step_up_needed", lambda *_: Change(method=PUT, payload=BODY, step_ups=[])),
    "stale": ("step_up_needed", lambda h, a, _: h.change(PUT, BODY, a, age_s=301)),
    "from the future": ("step_up_needed", lambda h, a, _: h.change(PUT, BODY, a, age_s=-61)),
    "another method": ("bad_signature", lambda h, a, _: replace(h.change(ADD, BODY, a), method=PUT)),
    "another content": ("bad_signature", lambda h, a, _: replace(h.change(PUT, b"x", a), payload=BODY)),
    "another's key": ("bad_signature", lambda h, a, o: _one(replace(h.step_up(o, PUT, BODY), person=a.id))),
    "only a colleague": ("step_up_needed", lambda h, _, o: h.change(PUT, BODY, o)),
    "a short nonce": ("step_up_needed", lambda h, a, _: _one(replace(h.step_up(a, PUT, BODY), nonce=b"x"))),
    "nobody": ("step_up_needed", lambda h, a, _: _one(replace(h.step_up(a, PUT, BODY), person=NOBODY))),
}


@pytest.mark.parametrize("how", BAD)
async def test_a_signature_that_does_not_count(house: House, how: str) -> None:
    """I-17: nothing is changed and nothing told; a good one right after it works."""
    admin, owner = await house.add("admin", Role.ADMIN), await house.add("owner", Role.OWNER)
    code, make = BAD[how]
    assert await refused(put(house, admin, make(house, admin, owner))) == code
    assert await house.events() == []
    await put(house, admin, house.change(PUT, BODY, admin))


async def test_a_signature_works_once(house: House) -> None:
    """Replayed, by 20 at once or later: one change; a change that failed has not used it up."""
    admin = await house.add("admin", Role.ADMIN)
    change = house.change(PUT, BODY, admin)
    assert await refused(put(house, admin, change, teams=frozenset({"nobody"}))) == "not_found"
    got = await race([put(house, admin, change, name=f"db{n}") for n in range(20)])
    assert sum(isinstance(one, str) for one in got) == 1
    assert await refused(put(house, admin, change)) == "step_up_needed"


async def test_agents_and_suspended_people_sign_nothing(house: House) -> None:
    """I-17: an agent credential never changes what an agent may do."""
    agent, admin = await house.add("deployer"), await house.add("admin", Role.ADMIN)
    assert await refused(put(house, agent, house.change(PUT, BODY, agent))) == "step_up_needed"
    await house.put(replace(admin.row, status=IdentityStatus.SUSPENDED))
    assert await refused(put(house, admin, house.change(PUT, BODY, admin))) == "step_up_needed"


async def test_raising_autonomy_takes_two_where_there_are_two(house: House) -> None:
    """I-17: alone it works alone; with a second admin it does not, nor with a manager, nor by signing twice."""
    admin, manager = await house.add("admin", Role.ADMIN), await house.add("manager", Role.MANAGER)
    assert await put(house, admin, house.change(PUT, BODY, admin), tier=Tier.TRUSTED) == Tier.TRUSTED
    owner = await house.add("owner", Role.OWNER)
    loose = Tier.CLOSED_LOOP
    for signers in ([admin], [admin, admin], [admin, manager]):
        code = await refused(put(house, admin, house.change(PUT, BODY, *signers), tier=loose))
        assert code == "second_person_needed"
    assert await put(house, admin, house.change(PUT, BODY, admin, owner), tier=loose) == loose
    assert await put(house, admin, house.change(PUT, BODY, admin), tier=Tier.APPROVAL) == Tier.APPROVAL
    second = Change(
        method=PUT, payload=BODY,
        step_ups=[house.step_up(admin, PUT, BODY), house.step_up(owner, PUT, BODY, age_s=599)],
    )  # fmt: skip
    assert await put(house, admin, second, tier=loose) == loose
    await put(house, admin, house.change(PUT, BODY, admin), tier=Tier.APPROVAL)
    await house.put(replace(owner.row, status=IdentityStatus.SUSPENDED))
    assert await put(house, admin, house.change(PUT, BODY, admin), tier=loose) == loose


async def test_a_policy_takes_two_owners_where_there_are_two(house: House) -> None:
    """I-17, I-43: and replaces exactly the one that was looked at."""
    owner, admin = await house.add("owner", Role.OWNER), await house.add("admin", Role.ADMIN)
    rules = house.cases.rules
    before = await rules.get(owner.caller)
    assert (before.put_by, dict(before.sources)) == ("", dict(shipped_policy()))

    async def put_rules(sources: dict[str, str], replaces: str, *signers: Somebody) -> str:
        change = house.change("PutPolicy", BODY, *signers)
        made = await rules.put(owner.caller, sources, change, replaces=replaces, idempotency_key=house.key())
        return made.version

    broken = {"tiers.cedar": "permit (principal"}
    assert await refused(put_rules(broken, before.version, owner)) == "bad_policy"
    assert await refused(put_rules({"a": "x" * 300_000}, before.version, owner)) == "policy_too_long"
    assert await refused(put_rules(TWO_PEOPLE, "0" * 64, owner)) == "policy_changed"
    now = await put_rules(TWO_PEOPLE, before.version, owner)
    assert (await rules.get(admin.caller)).put_by == owner.id
    assert await put_rules(TWO_PEOPLE, "whatever", owner) == now
    second = await house.add("second", Role.OWNER)
    back = dict(shipped_policy())
    assert await refused(put_rules(back, now, owner, admin)) == "second_person_needed"
    assert await put_rules(back, now, owner, second) == before.version
    assert (await house.events()).count("policy.changed") == 2


async def test_lifting_a_freeze_takes_two_where_there_are_two(house: House) -> None:
    """I-61: pulling the switch takes one, and no signature."""
    admin, owner = await house.add("admin", Role.ADMIN), await house.add("owner", Role.OWNER)
    freeze = house.cases.freeze
    await freeze.freeze(admin.caller, "incident")
    alone, both = house.change("Unfreeze", BODY, admin), house.change("Unfreeze", BODY, admin, owner)
    assert await refused(freeze.unfreeze(admin.caller, "", alone)) == "second_person_needed"
    await freeze.unfreeze(admin.caller, "", both)
    house.world.live.must_be_open(TENANT)


# ---- people


def newcomer(house: House, **changed: object) -> Newcomer:
    """An agent of team ops."""
    made = Newcomer(
        idempotency_key=house.key(), kind=IdentityKind.AGENT, name="newcomer", role=Role.AGENT,
        teams=frozenset({"ops"}), owner="", approval_keys=(), join_for=None,
    )  # fmt: skip
    return replace(made, **changed)  # type: ignore[arg-type]


async def add_person(house: House, by: Somebody, role: Role, **changed: object) -> Invitation:
    """A person with an approval key that nobody else has."""
    key = parse_blob(ed25519_blob(Ed25519PrivateKey.generate().public_key().public_bytes_raw())).line()
    wanted = newcomer(house, kind=IdentityKind.PERSON, role=role, approval_keys=(key,), **changed)
    return await house.cases.people.add_person(by.caller, wanted, house.change(ADD, BODY, by))


@pytest.mark.parametrize("role", [Role.OWNER, Role.ADMIN, Role.MANAGER, Role.VIEWER])
async def test_nobody_grants_a_role_above_their_own(house: House, role: Role) -> None:
    """I-43: whatever the door lets through; an agent's role is no person's."""
    by = await house.add("by", role)
    for wanted in Role:
        ranks = {Role.VIEWER: 1, Role.MANAGER: 2, Role.ADMIN: 3, Role.OWNER: 4}
        if wanted in ranks and ranks[wanted] <= ranks[role]:
            assert (await add_person(house, by, wanted, name=f"new-{wanted}")).identity.role is wanted
        else:
            assert await refused(add_person(house, by, wanted, name=f"new-{wanted}")) == "role_above_own"


async def test_adding_agents(house: House) -> None:
    """To one's own teams, with a name that is free, with an owner that exists; never without a team."""
    await house.put_team("web")
    manager, admin = await house.add("manager", Role.MANAGER), await house.add("admin", Role.ADMIN)
    add = house.cases.people.add_agent
    web, both = frozenset({"web"}), frozenset({"web", "ops"})
    for changed, code in (
        ({"teams": web}, "not_your_team"),
        ({"teams": both}, "not_your_team"),
        ({"teams": frozenset()}, "team_needed"),
        ({"teams": frozenset({"nobody"})}, "not_found"),
        ({"name": "-x"}, "bad_name"),
        ({"owner": "nobody"}, "not_found"),
        ({"join_for": timedelta(seconds=59)}, "bad_join_time"),
        ({"join_for": timedelta(days=2)}, "bad_join_time"),
    ):
        assert await refused(add(manager.caller, newcomer(house, **changed))) == code
    assert (await add(admin.caller, newcomer(house, teams=both))).identity.owner is None
    assert await refused(add(manager.caller, newcomer(house))) == "name_taken"
    owned = await add(manager.caller, newcomer(house, name="mine", owner="manager"))
    assert (owned.identity.owner, owned.identity.status, owned.identity.key) == (manager.id, "invited", b"")
    names = [(row.name, teams) for row, teams in await house.cases.people.identities(admin.caller, IdentityKind.AGENT)]
    assert names == [("mine", ("ops",)), ("newcomer", ("ops", "web"))]
    assert len(await house.cases.people.identities(admin.caller, None)) == 4


async def test_asking_again_makes_a_new_token_for_the_same_newcomer(house: House) -> None:
    """Idempotent in who, not in the secret, which is shown once; other content with the key is refused."""
    manager = await house.add("manager", Role.MANAGER)
    wanted = newcomer(house)
    one, two = [await house.cases.people.add_agent(manager.caller, wanted) for _ in range(2)]
    assert (one.identity.id, one.secret == two.secret) == (two.identity.id, False)
    changed = replace(wanted, name="another")
    assert await refused(house.cases.people.add_agent(manager.caller, changed)) == "idempotency_key_reused"


async def test_people_need_an_approval_key(house: House) -> None:
    """One to eight, each a key that counts."""
    owner = await house.add("owner", Role.OWNER)
    add = house.cases.people.add_person
    for keys in ((), (house.web1.host_key,) * 9):
        wanted = newcomer(house, kind=IdentityKind.PERSON, role=Role.VIEWER, approval_keys=keys)
        assert await refused(add(owner.caller, wanted, house.change(ADD, BODY, owner))) == "approval_key_needed"


async def test_teams(house: House) -> None:
    """A name once; the same key again answers the same team."""
    admin = await house.add("admin", Role.ADMIN)
    people = house.cases.people
    made = [await people.add_team(admin.caller, "web", idempotency_key="k") for _ in range(2)]
    assert made[0] == made[1]
    assert await refused(people.add_team(admin.caller, "web", idempotency_key="k2")) == "name_taken"
    assert await refused(people.add_team(admin.caller, "db", idempotency_key="k")) == "idempotency_key_reused"
    assert await refused(people.add_team(admin.caller, "W", idempotency_key="k3")) == "bad_name"
    assert [team.name for team in await people.teams(admin.caller)] == ["ops", "web"]
    assert (await house.events()).count("team.added") == 1


# ---- targets


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"name": "db+1"}, "bad_name"),
        ({"host": "a b"}, "bad_host"),
        ({"port": 0}, "bad_port"),
        ({"host_key": "ssh-rsa AAAA"}, "bad_public_key"),
        ({"logins": ()}, "bad_login"),
        ({"logins": (Login(name="a", read_login=""), Login(name="a", read_login=""))}, "bad_login"),
        ({"logins": (Login(name="-o", read_login=""),)}, "bad_login"),
        ({"logins": (Login(name="a", read_login="0"),)}, "bad_login"),
        ({"labels": {"a b": "c"}}, "bad_label"),
        ({"labels": {f"l{n}": "x" for n in range(33)}}, "bad_label"),
        ({"source_address": "web1"}, "bad_source_address"),
        ({"teams": frozenset({"nobody"})}, "not_found"),
    ],
)
async def test_a_target_that_cannot_be(house: House, changed: dict[str, object], code: str) -> None:
    """Each with a code of its own, before anything is signed off or written."""
    admin = await house.add("admin", Role.ADMIN)
    got = await refused(put(house, admin, house.change(PUT, BODY, admin), **changed))
    assert got == code
    assert await house.events() == []


async def test_looking_at_targets(house: House) -> None:
    """Lists with team names; a check is audited like the connection it opens; a scan is only shown."""
    admin = await house.add("admin", Role.ADMIN)
    ((row, teams),) = await house.cases.inventory.all(admin.caller)
    assert (row.name, teams) == ("web1", ("ops",))
    assert (await house.cases.inventory.scan("192.0.2.1", 22)).startswith("ssh-ed25519 ")
    assert await refused(house.cases.inventory.scan("no host", 22)) == "bad_host"
    (finding,) = await house.cases.inventory.check(admin.caller, "web1", "")
    assert finding.what == "deploy can log in"
    assert await house.events() == ["credential.issued"]
    assert await refused(house.cases.inventory.check(admin.caller, "web1", "root")) == "not_found"
    assert await refused(house.cases.inventory.check(admin.caller, "web9", "")) == "not_found"


async def test_a_frozen_broker_tries_no_target(house: House) -> None:
    """I-64: a check has a certificate signed; while frozen nothing is, and nothing is announced."""
    admin = await house.add("admin", Role.ADMIN)
    house.world.live.close(TENANT, "an incident")
    before = list(house.signer.asked)
    assert await refused(house.cases.inventory.check(admin.caller, "web1", "")) == "frozen"
    assert (house.signer.asked, await house.events()) == (before, [])


async def test_putting_a_target_twice_with_one_key(house: House) -> None:
    """The second answers the first's, and needs no second signature to be spent."""
    admin = await house.add("admin", Role.ADMIN)
    change = house.change(PUT, BODY, admin)
    made = [await house.cases.inventory.put(admin.caller, given(house), change, idempotency_key="k") for _ in range(2)]
    assert made[0] == made[1]
    assert (await house.events()).count("target.added") == 1
