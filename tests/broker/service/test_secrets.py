"""Secrets: put sealed, listed without values, checked out once a grant, due to be changed when the lease ends (P33)."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from broker.core.approval import Verdict
from broker.core.grant import EndReason
from broker.core.hpke import open_into, seal
from broker.core.identity import Login, Target
from broker.core.ids import GrantId, TargetId, render
from broker.core.kinds import SecretSettings, TargetKind
from broker.core.records import pae
from broker.core.request import AccessRequest, RequestState
from broker.core.roles import Role
from broker.service.ports import SecretWish, WrappedSecret
from broker.service.secrets import Upload
from policy.classes import CommandClass, Tier
from tests.broker.adapters.store.fixtures import NOW, TENANT
from tests.broker.service.somebody import Somebody
from tests.broker.service.world import House, refused, team_id

VALUE = b"correct-horse-\x00-battery"
KEY = X25519PrivateKey.generate()


async def put(house: House, who: Somebody, value: bytes = VALUE, *, name: str = "db", replaces: int = 0) -> int:
    """As `grantctl secret put`: sealed to the upload key, for this person and name."""
    key = house.cases.secrets.upload_key()
    info = pae([b"grantd/secret/put/v1", TENANT.encode(), who.id.encode(), name.encode()])
    upload = Upload(name=name, upload_key=key, sealed=seal(key, bytearray(value), info), replaces=replaces)
    return await house.cases.secrets.put(who.caller, upload)


async def offer(house: House, *, tier: Tier = Tier.APPROVAL, name: str = "db") -> Target:
    """A target of kind secret."""
    made = Target(
        tenant=TENANT, id=TargetId(render("target", hashlib.sha256(name.encode()).digest()[:16])), name=name, host="",
        port=0, host_key="", tier=tier, teams=frozenset([team_id("ops")]), labels={},
        logins=(Login(name="value", read_login=""),), seal_reads=False, source_address="", created_at=NOW,
        settings=SecretSettings(secret=name),
    )  # fmt: skip
    await house.change_target(made)
    return made


async def ask(house: House, agent: Somebody, **changed: object) -> AccessRequest:
    """A request for the value."""
    wish = house.wish(**{"target": "db", "login": "value", "ceiling": CommandClass.EXECUTE, **changed})
    return await house.cases.access.request(agent.caller, wish)


async def granted(house: House, agent: Somebody, approver: Somebody) -> GrantId:
    """A grant on the value, which a person gave."""
    asked = await ask(house, agent)
    assert asked.state is RequestState.PENDING
    await house.decide(approver, asked, Verdict.APPROVE)
    grant = (await house.request(asked)).grant_id
    assert grant is not None
    return grant


async def take(house: House, agent: Somebody, grant: GrantId, key: bytes | None = None) -> bytes:
    """As `grantctl secret checkout`: the value."""
    wish = SecretWish(public_key=KEY.public_key().public_bytes_raw() if key is None else key)
    made = await house.cases.issue_outside.issue(agent.caller, grant, TargetKind.SECRET, wish)
    assert isinstance(made.access, WrappedSecret)
    info = pae([b"grantd/secret/checkout/v1", TENANT.encode(), grant.encode(), made.credential.encode()])
    return bytes(open_into(KEY, made.access.sealed, info))


@pytest.fixture
async def people(house: House) -> tuple[Somebody, Somebody, Somebody]:
    """An admin with a secret that is offered, an agent, and a manager who approves."""
    admin, agent = await house.add("ada", Role.ADMIN), await house.add("builder")
    manager = await house.add("mia", Role.MANAGER)
    await put(house, admin)
    await offer(house)
    return admin, agent, manager


async def test_a_value_is_checked_out_under_a_grant(house: House, people: tuple[Somebody, ...]) -> None:
    """A person decides, then it comes sealed to the caller's key of that one call; what happened is told."""
    _, agent, manager = people
    grant = await granted(house, agent, manager)
    assert await take(house, agent, grant) == VALUE
    names = await house.events()
    assert names.index("credential.planned") < names.index("secret.read") < names.index("credential.issued")


async def test_a_grant_gives_its_value_once(house: House, people: tuple[Somebody, ...]) -> None:
    """The second one is refused and told; the lease itself goes on."""
    _, agent, manager = people
    grant = await granted(house, agent, manager)
    await take(house, agent, grant)
    assert await refused(take(house, agent, grant)) == "already_checked_out"
    assert (await house.events()).count("secret.read") == 1
    assert (await house.events()).count("secret.refused") == 1


@pytest.mark.parametrize("tier", list(Tier))
async def test_a_person_decides_in_every_tier(house: House, tier: Tier) -> None:
    """A value can be used for anything, unseen: asking for it is decided as an unverified command of class execute."""
    admin, agent = await house.add("ada", Role.ADMIN), await house.add("builder")
    await put(house, admin)
    await offer(house, tier=tier)
    assert (await ask(house, agent)).state is RequestState.PENDING


async def test_a_lower_ceiling_gives_nothing(house: House, people: tuple[Somebody, ...]) -> None:
    """Read is not enough to know a value."""
    _, agent, _ = people
    assert await refused(ask(house, agent, ceiling=CommandClass.READ)) == "profile_above_ceiling"


async def test_at_the_end_the_value_is_due(house: House, people: tuple[Somebody, ...]) -> None:
    """It cannot be un-known: the log and the list say that it is to be changed, until it is."""
    admin, agent, manager = people
    grant = await granted(house, agent, manager)
    await take(house, agent, grant)
    (standing,) = await house.cases.secrets.all(admin.caller)
    assert (standing.out, standing.due_since) == (1, None)
    await house.cases.access.revoke(agent.caller, grant, "done")
    (standing,) = await house.cases.secrets.all(admin.caller)
    assert standing.out == 0
    assert standing.due_since is not None
    assert "secret.due" in await house.events()
    assert (await house.grant(grant)).end_reason is EndReason.REVOKED
    assert await put(house, admin, b"another", replaces=1) == 2
    (standing,) = await house.cases.secrets.all(admin.caller)
    assert standing.due_since is None


async def test_nothing_is_given_after_the_end(house: House, people: tuple[Somebody, ...]) -> None:
    """Neither of a grant that ended, nor to anybody else."""
    admin, agent, manager = people
    grant = await granted(house, agent, manager)
    other = await house.add("stranger")
    assert await refused(take(house, other, grant)) == "not_found"
    house.clock.forward(timedelta(days=1).total_seconds())
    assert await refused(take(house, agent, grant)) in {"grant_over", "not_found", "grant_expired", "expired"}
    del admin


async def test_a_bad_key_gets_nothing_and_spends_nothing(house: House, people: tuple[Somebody, ...]) -> None:
    """A point of small order, or no point: refused before the value is sealed, and the one checkout is still there."""
    _, agent, manager = people
    grant = await granted(house, agent, manager)
    for key in (bytes(32), b"", bytes(31)):
        assert await refused(take(house, agent, grant, key)) == "bad_wish"
    assert await take(house, agent, grant) == VALUE


async def test_nobody_overwrites_what_they_have_not_seen(house: House, people: tuple[Somebody, ...]) -> None:
    """The version that is replaced is named; two who put at once are told apart."""
    admin, *_ = people
    assert await refused(put(house, admin, b"x")) == "secret_changed"
    assert await put(house, admin, b"x", replaces=1) == 2
    assert await refused(put(house, admin, b"y", replaces=1)) == "secret_changed"


async def test_a_value_for_one_name_is_none_for_another(house: House, people: tuple[Somebody, ...]) -> None:
    """Sealed for a person and a name: nobody between can put it elsewhere; another process's key is named as such."""
    admin, agent, _ = people
    key = house.cases.secrets.upload_key()
    info = pae([b"grantd/secret/put/v1", TENANT.encode(), admin.id.encode(), b"db"])
    sealed = seal(key, bytearray(b"v"), info)
    moved = Upload(name="other", upload_key=key, sealed=sealed, replaces=0)
    assert await refused(house.cases.secrets.put(admin.caller, moved)) == "bad_upload"
    theirs = Upload(name="db", upload_key=key, sealed=sealed, replaces=1)
    assert await refused(house.cases.secrets.put(agent.caller, theirs)) == "bad_upload"
    stale = Upload(name="db", upload_key=bytes(32), sealed=sealed, replaces=1)
    assert await refused(house.cases.secrets.put(admin.caller, stale)) == "upload_key_gone"


@pytest.mark.parametrize("value", [b"", bytes(65_537)], ids=["empty", "long"])
async def test_values_have_their_bounds(house: House, people: tuple[Somebody, ...], value: bytes) -> None:
    """1 to 65,536 bytes."""
    assert await refused(put(house, people[0], value, replaces=1)) == "bad_value"


async def test_a_deleted_value_is_gone_and_its_number_is_not_used_again(
    house: House, people: tuple[Somebody, ...]
) -> None:
    """Whoever has a grant gets nothing; a new value is the next version."""
    admin, agent, manager = people
    grant = await granted(house, agent, manager)
    await house.cases.secrets.delete(admin.caller, "db", "leaked")
    assert await refused(take(house, agent, grant)) == "not_found"
    (standing,) = await house.cases.secrets.all(admin.caller)
    assert not standing.kept
    assert await put(house, admin, b"new", replaces=1) == 2
    assert await refused(house.cases.secrets.delete(admin.caller, "nothing", "x")) == "not_found"
