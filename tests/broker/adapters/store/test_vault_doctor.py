"""What was put back, swapped or lost in the database shows against the audit log (formats.md 3.1)."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from sqlalchemy import Connection, delete, insert, select, update

from broker.adapters.store.keys import KeyRowsSql
from broker.adapters.store.schema import recording_key, secret, tenant_key
from broker.adapters.store.store import SqlStore
from broker.adapters.store.vault_doctor import examine
from broker.adapters.vault import Roots, Vault
from broker.core.ids import RecordingId, render
from broker.core.secret import Secret
from broker.service import story
from broker.service.ports import Purpose, Tx
from tests.broker.adapters.store.fixtures import NOW, TENANT, Database, SystemEntropy, open_store
from tests.broker.adapters.store.test_rekeying import OLD, root

NEW = root("rk_later")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A store whose every change of a secret is told to the log."""

    store: SqlStore
    vault: Vault

    async def put(self, name: str, value: bytes) -> None:
        def unit(tx: Tx) -> None:
            sealed = tx.keys.put_secret(name, Secret(value))
            tx.audit.append(story.of_secret(TENANT, sealed, actor=""), NOW)

        await self.store.run(TENANT, unit)

    async def row(self, name: str) -> dict[str, object]:
        query = select(secret).where(secret.c.name == name)
        return await self.store.run_sql(TENANT, lambda conn: dict(conn.execute(query).mappings().one()))

    async def wrong(self, vault: Vault | None = None) -> list[str]:
        """What the doctor finds wrong."""
        found = await self.store.read_sql(TENANT, lambda conn: examine(conn, TENANT, vault or self.vault))
        assert found, "it says what is right, too"
        return [line.what for line in found if not line.ok]

    async def sql(self, *statements: object) -> None:
        """What somebody with the database in hands does."""

        def unit(conn: Connection) -> None:
            for statement in statements:
                conn.execute(statement)  # type: ignore[call-overload]

        await self.store.run_sql(TENANT, unit)


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    """Two secrets, one of them changed once, and a recording's key."""
    from broker.founding import rows_over  # noqa: PLC0415  the composition root's own

    vault = Vault(OLD)
    rows = rows_over(vault, broker="b1", entropy=SystemEntropy(), noted=lambda _tenant: None)
    made = World(store=await open_store(database, source=rows), vault=vault)
    for name, value in (("a", b"one"), ("b", b"two"), ("a", b"three")):
        await made.put(name, value)
    await made.store.run(TENANT, lambda tx: tx.keys.new_recording_key(RecordingId(render("recording", bytes(16)))))
    yield made
    await made.store.close()


async def test_all_is_well(world: World) -> None:
    """Nothing wrong where nobody did anything, also after keys were changed."""
    assert await world.wrong() == []


async def test_an_old_row_put_back_shows(world: World) -> None:
    """Blob and version of yesterday open as they did: the log alone says that they are not the newest."""
    old = await world.row("a")
    await world.put("a", b"four")
    await world.sql(update(secret).where(secret.c.name == "a").values(**old))
    assert (await world.store.run(TENANT, lambda tx: tx.keys.secret("a"))) is not None, "the seal itself holds"
    (line,) = await world.wrong()
    assert "secret a version 2" in line
    assert "audit log says version 3" in line


async def test_a_deleted_row_put_back_shows(world: World) -> None:
    """So does one whose deletion the log tells."""
    old = await world.row("b")

    def drop(tx: Tx) -> None:
        tx.keys.drop_secret("b")
        facts: dict[str, str | int] = {"secret": story.named("b")}
        tx.audit.append(story.of_key("secret.deleted", TENANT, actor="", facts=facts), NOW)

    await world.store.run(TENANT, drop)
    assert await world.wrong() == []
    await world.sql(insert(secret).values(**old))
    (line,) = await world.wrong()
    assert "says that it was deleted" in line


async def test_a_lost_row_shows(world: World) -> None:
    """A secret that the log knows and the table does not."""
    await world.sql(delete(secret).where(secret.c.name == "b"))
    (line,) = await world.wrong()
    assert hashlib.sha256(b"b").hexdigest()[:16] in line


async def test_swapped_and_damaged_rows_show(world: World) -> None:
    """Whatever does not open is named, with its secret and no value."""
    a, b = (await world.row("a"))["blob"], (await world.row("b"))["blob"]
    await world.sql(
        update(secret).where(secret.c.name == "a").values(blob=b),
        update(secret).where(secret.c.name == "b").values(blob=a),
    )
    found = await world.wrong()
    assert len(found) == 2
    await world.sql(update(recording_key).values(blob=a))
    assert any("1 do not open" in line for line in await world.wrong())


async def test_a_destroyed_key_put_back_shows(world: World) -> None:
    """A version that the log says is gone."""
    query = select(tenant_key).where(tenant_key.c.purpose == Purpose.VAULT)
    old = await world.store.run_sql(TENANT, lambda conn: dict(conn.execute(query).mappings().one()))

    def rotate(tx: Tx) -> None:
        tx.keys.rekeying.rotate(Purpose.VAULT)
        for sealed in tx.keys.rekeying.reseal(Purpose.VAULT, after="", limit=100).secrets:
            tx.audit.append(story.of_secret(TENANT, sealed, actor=""), NOW)
        for version in tx.keys.rekeying.drop_unused(Purpose.VAULT):
            facts: dict[str, str | int] = {"purpose": Purpose.VAULT, "version": version}
            tx.audit.append(story.of_key("key.destroyed", TENANT, actor="", facts=facts), NOW)

    await world.store.run(TENANT, rotate)
    assert await world.wrong() == [], "what is sealed anew is told, too"
    await world.sql(insert(tenant_key).values(**old))
    (line,) = await world.wrong()
    assert "key vault 1" in line
    assert "was destroyed" in line


async def test_a_missing_root_key_shows(world: World) -> None:
    """The id of the root key that would be needed is named."""
    found = await world.wrong(Vault(Roots.only(NEW)))
    assert any(OLD.id in line and "not among those" in line for line in found)


def keys_of(conn: Connection, vault: Vault) -> KeyRowsSql:
    """Rows without a log."""
    return KeyRowsSql(conn, TENANT, vault)


async def test_a_secret_from_before_the_log_told_of_them_is_no_alarm(world: World) -> None:
    """An upgraded database has secrets that no entry pins; they are pinned when they are next sealed."""
    await world.store.run_sql(TENANT, lambda conn: keys_of(conn, world.vault).put_secret("older", Secret(b"x")))
    assert await world.wrong() == []
