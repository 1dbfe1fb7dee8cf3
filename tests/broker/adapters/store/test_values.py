"""Values that are kept beside the rows that they were made of: never of an older row, never to be changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.adapters.store.store import SqlStore
from broker.adapters.store.values import LONGEST
from broker.core.database import PostgresSettings
from broker.core.grant import GrantState
from broker.core.identity import IdentityStatus, Login
from broker.core.roles import Role
from broker.service.ports import PolicyVersion, Tx
from policy.classes import Tier
from tests.broker.adapters.store import samples
from tests.broker.adapters.store.fixtures import NOW, OTHER, TENANT, open_sqlite

Look = Callable[[Tx], Any]
Value = Any
"""One with an id, of whatever kind."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    """An open store with somebody in it, in two tenants."""
    opened = await open_sqlite(tmp_path)
    for tenant in (TENANT, OTHER):
        await opened.run(tenant, samples.Directory(tenant=tenant))
    yield opened
    await opened.close()


def put(kind: str, value: object) -> Look:
    """A unit that writes it."""
    return lambda tx: getattr(tx, kind).put(value)


def get(kind: str, value: Value) -> Look:
    """A unit that reads it back."""
    return lambda tx: getattr(tx, kind).get(value.id)


CHANGES = [
    ("identities", samples.agent(), {"status": IdentityStatus.SUSPENDED}),
    ("identities", samples.person(), {"teams": frozenset({samples.team(1).id})}),
    ("identities", samples.person(), {"role": Role.VIEWER}),
    ("identities", samples.person(), {"key": b"k" * 32}),
    ("targets", samples.target(), {"teams": frozenset()}),
    ("targets", samples.target(), {"logins": (Login(name="root", read_login=""),)}),
    ("targets", samples.target(), {"labels": {}}),
    ("targets", samples.target(), {"seal_reads": not samples.target().seal_reads}),
    ("targets", samples.target(), {"tier": Tier.APPROVAL}),
    ("grants", samples.grant(), {"ended_at": NOW, "state": GrantState.REVOKED}),
    ("grants", samples.grant(), {"not_after": NOW}),
]


@pytest.mark.parametrize(("kind", "value", "change"), CHANGES)
async def test_a_changed_row_is_another_value_at_once(
    store: SqlStore, kind: str, value: Value, change: dict[str, object]
) -> None:
    """In the unit that changes it, in later ones, and in a reader beside it; and back again."""
    await store.run(TENANT, put(kind, value))
    assert await store.read(TENANT, get(kind, value)) == value
    changed = replace(value, **change)

    def unit(tx: Tx) -> object:
        assert get(kind, value)(tx) == value
        put(kind, changed)(tx)
        return get(kind, value)(tx)

    assert await store.run(TENANT, unit) == changed
    assert await store.read(TENANT, get(kind, value)) == changed
    await store.run(TENANT, put(kind, value))
    assert await store.read(TENANT, get(kind, value)) == value


async def test_values_of_two_tenants_are_two(store: SqlStore) -> None:
    """Rows that differ in the tenant alone are never taken for one another (I-40)."""
    for tenant in (TENANT, OTHER):
        one = await store.read(tenant, get("identities", samples.person()))
        assert one.tenant == tenant
        there = await store.read(tenant, get("targets", samples.target()))
        assert there.tenant == tenant


async def test_whoever_has_a_value_changes_nothing_for_others(store: SqlStore) -> None:
    """Everything in it that could be changed refuses."""
    target = await store.read(TENANT, get("targets", samples.target()))
    with pytest.raises(TypeError):
        target.labels["env"] = "other"
    sources = {"a.cedar": "permit"}
    version = PolicyVersion(tenant=TENANT, version="v", sources=sources, put_by=samples.person().id, put_at=NOW)
    await store.run(TENANT, lambda tx: tx.policies.put(version))
    found: Value = await store.read(TENANT, lambda tx: tx.policies.current())
    with pytest.raises(TypeError):
        found.sources["a.cedar"] = "other"
    await store.run(TENANT, lambda tx: tx.policies.put(replace(version, sources={**sources, "b.cedar": "forbid"})))
    found = await store.read(TENANT, lambda tx: tx.policies.current())
    assert found.sources.keys() == {"a.cedar", "b.cedar"}


async def test_of_a_long_row_nothing_is_kept(store: SqlStore) -> None:
    """A thousand of the longest would be 2 GiB: an administrator of one tenant could write them (I-60)."""
    long = PostgresSettings(database="d", admin="a", ca="c" * (LONGEST + 1), profiles=())
    for settings, kept in ((replace(long, ca="c"), True), (long, False)):
        wanted = replace(samples.target(), settings=settings)
        await store.run(TENANT, put("targets", wanted))
        one, other = [await store.read(TENANT, get("targets", wanted)) for _ in range(2)]
        assert one == other == wanted
        assert (one is other) is kept
    teams = [samples.team(number) for number in range(1, 200)]
    for team in teams:
        await store.run(TENANT, put("teams", team))
    for many, kept in ((2, True), (len(teams), False)):
        somebody = replace(samples.person(), teams=frozenset(team.id for team in teams[:many]))
        await store.run(TENANT, put("identities", somebody))
        one, other = [await store.read(TENANT, get("identities", somebody)) for _ in range(2)]
        assert one == other == somebody
        assert (one is other) is kept


async def test_flags_are_flags_by_every_way(store: SqlStore) -> None:
    """A row that SQLAlchemy read and one that the driver read may be kept as one value: both hold booleans."""
    for sealed in (True, False):
        await store.run(TENANT, put("targets", replace(samples.target(), seal_reads=sealed)))
        by_id = await store.read(TENANT, get("targets", samples.target()))
        listed = {one.id: one for one in await store.read(TENANT, lambda tx: tx.targets.all())}
        assert by_id.seal_reads is sealed
        assert listed[by_id.id].seal_reads is sealed
