"""Who gets a role in a database: what happens inside is not seen, so the tier decides the request (I-04, I-17)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from broker.core.database import PostgresSettings, Privilege, Profile, Thing, checked, password_name
from broker.core.errors import Refusal
from broker.core.identity import Target
from broker.core.kinds import SecretSettings, SshSettings
from broker.core.request import RequestState
from broker.core.roles import Role
from broker.core.secret import Secret
from broker.service.target_input import TargetInput
from policy.classes import CommandClass, Tier
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.somebody import Somebody
from tests.broker.service.test_fake_issuers import READ
from tests.broker.service.test_issue_outside import issue
from tests.broker.service.world import House, refused

CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
CLERK = replace(
    READ, name="clerk", level=CommandClass.WRITE,
    privileges=(Privilege(on=Thing.TABLE, schema="app", name="orders", privileges=frozenset({"INSERT"})),),
)  # fmt: skip
BUILDER = replace(
    READ, name="builder", level=CommandClass.EXECUTE,
    privileges=(Privilege(on=Thing.SCHEMA, schema="app", name="", privileges=frozenset({"CREATE"})),),
)  # fmt: skip
SETTINGS = PostgresSettings(database="app", admin="broker", ca=CA, profiles=(READ, CLERK, BUILDER))
METHOD = "grantd.v1.AdminService/PutTarget"


async def db1(house: House, tier: Tier) -> Target:
    """A database with a profile of each class."""
    made = await house.put_target("db1", tier=tier)
    logins = tuple(replace(made.logins[0], name=one.name, read_login="") for one in SETTINGS.profiles)
    target = replace(made, host_key="", logins=logins, settings=SETTINGS)
    await house.change_target(target)
    return target


@pytest.mark.parametrize(
    ("tier", "unattended"),
    [
        (Tier.APPROVAL, {"report"}),
        (Tier.TRUSTED, {"report", "clerk"}),
        (Tier.CLOSED_LOOP, {"report"}),  # nothing verifies what a session did: what would have to be, asks
    ],
)
async def test_the_tier_decides_the_request(house: House, tier: Tier, unattended: set[str]) -> None:
    """What a command of the profile's class would need, the request needs; a person's yes is a grant."""
    agent, owner = await house.add("deployer"), await house.add("boss", Role.OWNER)
    await db1(house, tier)
    for login in ("report", "clerk", "builder"):
        asked = await house.cases.access.request(agent.caller, house.wish(target="db1", login=login))
        assert (asked.state is RequestState.APPROVED) is (login in unattended)
        if login not in unattended:
            decided = await house.decide(owner, asked)
            assert decided.state == RequestState.APPROVED
            await house.cases.access.get(agent.caller, asked.id)
        await house.cases.ending.sweep(TENANT)


async def test_a_ceiling_below_the_profile_is_refused(house: House) -> None:
    """The class that was asked for caps the profile; a stranger does not learn that there is one (I-46)."""
    agent, stranger = await house.add("deployer"), await house.add("other", teams=())
    await db1(house, Tier.TRUSTED)
    low = house.wish(target="db1", login="clerk", ceiling=CommandClass.READ)
    assert await refused(house.cases.access.request(agent.caller, low)) == "profile_above_ceiling"
    assert await refused(house.cases.access.request(stranger.caller, replace(low, idempotency_key="k2"))) == "not_found"


async def test_flags_of_hosts_are_refused(house: House) -> None:
    """A shell or a forward means nothing there, and must not stand in what a person signs."""
    agent = await house.add("deployer")
    await db1(house, Tier.TRUSTED)
    wish = house.wish(target="db1", login="report", flags=frozenset({"shell"}))
    assert await refused(house.cases.access.request(agent.caller, wish)) == "wrong_kind"


def given(target: Target, **changed: object) -> TargetInput:
    """A target as an administrator gives it."""
    made = TargetInput(
        name=target.name, host=target.host, port=target.port, host_key="", tier=target.tier, teams=frozenset({"ops"}),
        labels={}, logins=(), seal_reads=False, source_address="", settings=target.settings,
    )  # fmt: skip
    return replace(made, **changed)  # type: ignore[arg-type]


async def put(house: House, who: Somebody, target: TargetInput) -> Target:
    """Signed by `who`."""
    change = house.change(METHOD, house.key().encode(), who)
    return (await house.cases.inventory.put(who.caller, target, change, idempotency_key=house.key()))[0]


async def test_where_it_is_does_not_change_while_something_is_there(house: House) -> None:
    """Else the role would be ended on another server, and live on here."""
    agent, owner = await house.add("deployer"), await house.add("boss", Role.OWNER)
    target = await db1(house, Tier.APPROVAL)
    grant = await house.granted(agent, target="db1", login="report", ceiling=CommandClass.READ)
    await issue(house, agent, grant)
    elsewhere = replace(SETTINGS, database="other")
    for changed in ({"host": "192.0.2.77"}, {"port": 6432}, {"settings": elsewhere}):
        assert await refused(put(house, owner, given(target, **changed))) == "target_in_use"
    assert (
        await refused(put(house, owner, given(target, host="", port=0, settings=SecretSettings(secret="x"))))
        == "wrong_kind"
    )
    assert await refused(put(house, owner, given(target, settings=SshSettings(krl_login="")))) in (
        "wrong_kind",
        "bad_public_key",
    )
    fewer = await put(house, owner, given(target, settings=replace(SETTINGS, profiles=(READ,))))
    assert [login.name for login in fewer.logins] == ["report"]
    await house.cases.access.revoke(agent.caller, grant, "done")
    assert (await put(house, owner, given(target, host="192.0.2.77"))).host == "192.0.2.77"


async def test_the_brokers_password_goes_into_the_vault(house: House) -> None:
    """Signed like any change of a target; sealed; of databases only; a clear one is nowhere in the files (I-53)."""
    owner, target = await house.add("boss", Role.OWNER), await db1(house, Tier.APPROVAL)
    method = "grantd.v1.AdminService/SetTargetPassword"

    async def give(name: str, password: bytes, *signers: Somebody) -> None:
        change = house.change(method, house.key().encode(), *signers)
        await house.cases.inventory.set_password(owner.caller, name, Secret(password), change)

    assert await refused(give("db1", b"canary-of-the-broker")) == "step_up_needed"
    assert await refused(give("web1", b"canary-of-the-broker", owner)) == "wrong_kind"
    for bad in (b"", b"a\0b", b"\xff"):
        assert await refused(give("db1", bad, owner)) == "bad_password"
    await give("db1", b"canary-of-the-broker", owner)
    found = await house.store.inner.read(TENANT, lambda tx: tx.keys.secret(password_name(target.id)))
    assert found is not None
    assert found.reveal() == b"canary-of-the-broker"
    files = [path for path in house.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if b"canary-of-the-broker" in path.read_bytes()]


TABLE = Privilege(on=Thing.TABLE, schema="app", name="orders", privileges=frozenset({"SELECT"}))


@pytest.mark.parametrize(
    "bad",
    [
        replace(READ, name="Report"), replace(READ, name="a;b"), replace(READ, privileges=()),
        replace(READ, sessions=0), replace(READ, sessions=21), replace(READ, statement_timeout=timedelta(days=2)),
        replace(READ, privileges=(replace(TABLE, privileges=frozenset({"INSERT"})),)),
        replace(READ, privileges=(replace(TABLE, privileges=frozenset({"select"})),)),
        replace(READ, privileges=(replace(TABLE, privileges=frozenset()),)),
        replace(READ, privileges=(replace(TABLE, privileges=frozenset({"SELECT ON x TO y; --"})),)),
        replace(READ, privileges=(replace(TABLE, name='orders"; DROP TABLE x; --'),)),
        replace(READ, privileges=(replace(TABLE, name="o\0"),)), replace(READ, privileges=(replace(TABLE, name=""),)),
        replace(READ, privileges=(replace(TABLE, name="o" * 64),)),
        replace(READ, privileges=(replace(TABLE, schema="pg_catalog"),)),
        replace(READ, privileges=(replace(TABLE, schema="a.b"),)),
        replace(READ, privileges=(replace(TABLE, on=Thing.TABLES),)), replace(READ, privileges=(TABLE,) * 65),
        replace(READ, member_of=("pg_write_all_data",)), replace(READ, member_of=("pg_execute_server_program",)),
        replace(BUILDER, member_of=("pg_write_server_files",)), replace(BUILDER, member_of=("broker",)),
        replace(BUILDER, member_of=("grantd_abc",)), replace(BUILDER, member_of=("x y",)),
        replace(BUILDER, owner="app"), replace(BUILDER, member_of=("r",) * 9),
    ],
)  # fmt: skip
def test_a_profile_that_could_be_more_than_it_says_is_refused(bad: Profile) -> None:
    """No quote, NUL or semicolon reaches a statement; nothing above its class, nothing on the server's own things."""
    with pytest.raises(Refusal) as refusal:
        checked(replace(SETTINGS, profiles=(bad,)))
    assert refusal.value.code == "bad_profile"


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (replace(SETTINGS, database="a b"), "bad_database"), (replace(SETTINGS, database=""), "bad_database"),
        (replace(SETTINGS, admin="x';--"), "bad_database"), (replace(SETTINGS, ca=""), "bad_ca"),
        (replace(SETTINGS, ca="/etc/passwd"), "bad_ca"), (replace(SETTINGS, ca=CA * 1200), "bad_ca"),
        (replace(SETTINGS, profiles=()), "bad_profile"), (replace(SETTINGS, profiles=(READ, READ)), "bad_profile"),
        (replace(SETTINGS, ca=CA + "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"), "bad_ca"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(bad: PostgresSettings, code: str) -> None:
    """Names are names, a CA is certificates and nothing else, profiles are different."""
    with pytest.raises(Refusal) as refusal:
        checked(bad)
    assert refusal.value.code == code
    checked(SETTINGS)
