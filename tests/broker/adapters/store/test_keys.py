"""Keys as rows: sealed, bound to their row, made once, and never used from memory alone (I-35, I-50, I-53)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import pytest
from sqlalchemy import Connection, delete, insert, select, update

from broker.adapters.store.keys import KeyRowsSql
from broker.adapters.store.schema import recording_key, secret, subject_key, tenant_key
from broker.adapters.store.store import SqlStore
from broker.adapters.store.tx import RowSource
from broker.adapters.vault import SealingKey, Vault
from broker.adapters.xaes import Key
from broker.core.errors import StoreFault, VaultFault
from broker.core.ids import AuditId, RecordingId, TenantId, render
from broker.core.secret import Secret
from broker.service.ports import Purpose
from tests.broker.adapters.store.fixtures import OTHER, TENANT, Database, open_store, real_rows

T = TypeVar("T")
RECORDING: Final = RecordingId(render("recording", bytes(range(16))))
SECOND: Final = RecordingId(render("recording", bytes(16)))
ENTRY: Final = AuditId("00000000000070008000000000000001")
SUBJECT: Final = render("agent", bytes(16))
CANARY: Final = b"canary-5d0c-value"


def new_vault() -> Vault:
    """A vault under a random root key."""
    return Vault(SealingKey(f"rk_{os.urandom(4).hex()}", Key(bytearray(os.urandom(32)))))


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A store, and keys under the vault of one process or another."""

    store: SqlStore
    vault: Vault

    async def run(self, unit: Callable[[KeyRowsSql], T], *, tenant: TenantId = TENANT, vault: Vault | None = None) -> T:
        """A unit of work over the tenant's keys."""
        return await self.store.run_sql(tenant, lambda conn: unit(KeyRowsSql(conn, tenant, vault or self.vault)))

    async def sql(self, unit: Callable[[Connection], T], *, tenant: TenantId = TENANT) -> T:
        """What somebody with the database in hands does."""
        return await self.store.run_sql(tenant, unit)


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    """An open store on each kind of database."""
    opened = await open_store(database, source=real_rows())
    yield World(store=opened, vault=new_vault())
    await opened.close()


async def test_recording_keys_come_back(world: World) -> None:
    """The key made at open is the key found at playback, also by a process that starts later."""
    made = await world.run(lambda keys: keys.new_recording_key(RECORDING))
    assert len(made.key.reveal()) == 32
    later = Vault(world.vault.root)
    for vault in (world.vault, later):
        found = await world.run(lambda keys: keys.recording_key(RECORDING), vault=vault)
        assert found is not None
        assert (found.recording, found.key_id, found.key.reveal()) == (RECORDING, made.key_id, made.key.reveal())
    assert await world.run(lambda keys: keys.recording_key(SECOND)) is None


async def test_the_search_key_stays(world: World) -> None:
    """Filters of words are of use only while their key is found again; it is no key of anything else."""
    made = await world.run(lambda keys: keys.search_key().reveal())
    assert len(made) == 32
    assert await world.run(lambda keys: keys.search_key().reveal(), vault=Vault(world.vault.root)) == made
    assert await world.run(lambda keys: bytes(keys.tenant_key(Purpose.RECORDINGS).key.reveal())) != made


async def test_each_recording_has_its_own_key(world: World) -> None:
    """Two recordings share neither key nor id, and a second key for one is refused."""
    first = await world.run(lambda keys: keys.new_recording_key(RECORDING))
    second = await world.run(lambda keys: keys.new_recording_key(SECOND))
    assert first.key.reveal() != second.key.reveal()
    assert first.key_id != second.key_id
    with pytest.raises(StoreFault, match="a key already"):
        await world.run(lambda keys: keys.new_recording_key(RECORDING))


async def test_secrets_come_back_and_change(world: World) -> None:
    """The newest value counts; empty ones and names nobody put are what they are."""
    assert await world.run(lambda keys: keys.secret("a")) is None
    for value in (CANARY, b"", b"\0" * 5_000):
        await world.run(lambda keys, value=value: keys.put_secret("a", Secret(value)))  # type: ignore[misc]
        found = await world.run(lambda keys: keys.secret("a"))
        assert found is not None
        assert found.reveal() == value


async def test_nothing_of_a_value_lies_in_the_database(world: World) -> None:
    """Every blob is sealed: no row holds a value or a key (I-53)."""

    def unit(keys: KeyRowsSql) -> bytes:
        keys.put_secret("a", Secret(CANARY))
        keys.seal_disclosure(SUBJECT, ENTRY, 0, CANARY)
        return keys.new_recording_key(RECORDING).key.reveal()

    dek = await world.run(unit)

    def dump(conn: Connection) -> bytes:
        tables = (secret, recording_key, subject_key, tenant_key)
        return b"".join(bytes(row.blob) for table in tables for row in conn.execute(select(table)))

    stored = await world.sql(dump)
    assert len(stored) > 300
    for value in (CANARY, dek, bytes(world.vault.root.key.reveal())):
        assert value not in stored


async def test_the_database_file_holds_no_value(tmp_path: Path) -> None:
    """Not in the file, its log or its journal either (I-53)."""
    from tests.broker.adapters.store.fixtures import open_sqlite  # noqa: PLC0415  for this kind of database alone

    vault = new_vault()
    source = RowSource(keys=lambda conn, tenant: KeyRowsSql(conn, tenant, vault), audit=real_rows().audit)
    store = await open_sqlite(tmp_path, source=source)
    await store.run(TENANT, lambda tx: tx.keys.put_secret("a", Secret(CANARY)))
    while_open = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    await store.close()
    closed = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert CANARY not in while_open + closed
    assert b"tk_t1_vault_1" in while_open + closed, "the blob itself was looked at"


# ---- moved rows
async def test_a_blob_moved_to_another_name_does_not_open(world: World) -> None:
    """One secret's row copied over another's is refused, not served (I-50)."""
    await world.run(lambda keys: keys.put_secret("a", Secret(b"one")))
    await world.run(lambda keys: keys.put_secret("b", Secret(b"two")))

    def move(conn: Connection) -> None:
        blob = conn.execute(select(secret.c.blob).where(secret.c.name == "a")).scalar_one()
        conn.execute(update(secret).where(secret.c.name == "b").values(blob=blob))

    await world.sql(move)
    with pytest.raises(VaultFault):
        await world.run(lambda keys: keys.secret("b"))


async def test_an_older_value_under_the_newer_version_does_not_open(world: World) -> None:
    """Putting an old blob back without its version is refused."""
    await world.run(lambda keys: keys.put_secret("a", Secret(b"old")))
    old = await world.sql(lambda conn: bytes(conn.execute(select(secret.c.blob)).scalar_one()))
    await world.run(lambda keys: keys.put_secret("a", Secret(b"new")))
    await world.sql(lambda conn: conn.execute(update(secret).values(blob=old)))
    with pytest.raises(VaultFault):
        await world.run(lambda keys: keys.secret("a"))


async def test_a_row_moved_to_another_tenant_does_not_open(world: World) -> None:
    """Secret, recording key and tenant key of one tenant are worthless in another's rows (I-40, I-50)."""
    await world.run(lambda keys: keys.put_secret("a", Secret(b"one")))
    await world.run(lambda keys: keys.new_recording_key(RECORDING))
    rows = {
        table: await world.sql(lambda conn, table=table: conn.execute(select(table)).mappings().all())  # type: ignore[misc]
        for table in (secret, recording_key, tenant_key)
    }
    for table in (secret, recording_key):
        moved = [dict(row) | {"tenant": OTHER} for row in rows[table]]
        await world.sql(lambda conn, table=table, moved=moved: conn.execute(insert(table), moved), tenant=OTHER)  # type: ignore[misc]
    for look in (lambda keys: keys.secret("a"), lambda keys: keys.recording_key(RECORDING)):
        with pytest.raises(VaultFault):
            await world.run(look, tenant=OTHER)
    keys_moved = [dict(row) | {"tenant": OTHER} for row in rows[tenant_key]]
    await world.sql(lambda conn: conn.execute(insert(tenant_key), keys_moved), tenant=OTHER)
    for purpose in (Purpose.VAULT, Purpose.RECORDINGS):
        with pytest.raises(VaultFault):
            await world.run(lambda keys, purpose=purpose: keys.tenant_key(purpose), tenant=OTHER)  # type: ignore[misc]


async def test_a_key_of_another_purpose_or_recording_does_not_open(world: World) -> None:
    """Purposes and recordings keep their keys apart, whoever swaps the rows."""
    await world.run(lambda keys: keys.new_recording_key(RECORDING))
    await world.run(lambda keys: keys.new_recording_key(SECOND))
    await world.run(lambda keys: keys.put_secret("a", Secret(b"one")))

    def swap(conn: Connection) -> None:
        blob = conn.execute(select(recording_key.c.blob).where(recording_key.c.recording == SECOND)).scalar_one()
        conn.execute(update(recording_key).where(recording_key.c.recording == RECORDING).values(blob=blob))
        conn.execute(update(secret).values(blob=blob))

    await world.sql(swap)
    with pytest.raises(VaultFault):
        await world.run(lambda keys: keys.recording_key(RECORDING))
    with pytest.raises(VaultFault, match="of another tenant or purpose"):
        await world.run(lambda keys: keys.secret("a"))


async def test_a_tenant_key_that_is_gone_is_said(world: World) -> None:
    """Shredded keys open nothing, though this process had them open a moment ago."""
    await world.run(lambda keys: keys.put_secret("a", Secret(b"one")))
    await world.run(lambda keys: keys.secret("a"))
    await world.sql(lambda conn: conn.execute(delete(tenant_key)))
    with pytest.raises(VaultFault, match="gone"):
        await world.run(lambda keys: keys.secret("a"))


async def test_another_root_key_is_named(world: World) -> None:
    """The wrong root key is told apart by its id; nothing is tried with it."""
    await world.run(lambda keys: keys.put_secret("a", Secret(b"one")))
    with pytest.raises(VaultFault, match="was wrapped by rk_"):
        await world.run(lambda keys: keys.secret("a"), vault=new_vault())


# ---- made once, and only for good
async def test_a_rolled_back_key_is_never_used(world: World) -> None:
    """A key made in a unit that failed seals nothing later: what it sealed could not be opened after a restart."""

    def unit(keys: KeyRowsSql) -> None:
        for purpose in Purpose:
            keys.tenant_key(purpose)
        keys.seal_disclosure(SUBJECT, ENTRY, 0, b"x")
        raise StoreFault("on purpose")

    with pytest.raises(StoreFault, match="on purpose"):
        await world.run(unit)
    assert await world.sql(lambda conn: conn.execute(select(tenant_key)).all()) == []
    await world.run(lambda keys: keys.put_secret("a", Secret(b"one")))
    blob = await world.run(lambda keys: keys.seal_disclosure(SUBJECT, ENTRY, 0, b"two"))
    later = Vault(world.vault.root)
    found = await world.run(lambda keys: keys.secret("a"), vault=later)
    assert found is not None
    assert found.reveal() == b"one"
    assert await world.run(lambda keys: keys.open_disclosure(SUBJECT, ENTRY, 0, blob), vault=later) == b"two"


async def test_two_processes_make_one_key(world: World) -> None:
    """Whoever comes second uses the first one's tenant and subject keys."""
    other = Vault(world.vault.root)
    blob = await world.run(lambda keys: keys.seal_disclosure(SUBJECT, ENTRY, 0, b"one"))
    more = await world.run(lambda keys: keys.seal_disclosure(SUBJECT, ENTRY, 1, b"two"), vault=other)
    assert await world.run(lambda keys: keys.open_disclosure(SUBJECT, ENTRY, 1, more)) == b"two"
    assert await world.run(lambda keys: keys.open_disclosure(SUBJECT, ENTRY, 0, blob), vault=other) == b"one"
    for table in (tenant_key, subject_key):
        assert len(await world.sql(lambda conn, table=table: conn.execute(select(table)).all())) == 1  # type: ignore[misc]


class BlindAtFirst(KeyRowsSql):
    """Keys whose first look misses what another transaction is about to commit."""

    __slots__ = ("_looked",)

    def _subject(self, subject: str) -> SealingKey | None:
        first = not hasattr(self, "_looked")
        self._looked = True
        return None if first else super()._subject(subject)


async def test_the_loser_of_a_race_uses_the_winners_key(world: World) -> None:
    """Two transactions that both saw no key: the one whose row was not stored seals with the one that was."""
    blob = await world.run(lambda keys: keys.seal_disclosure(SUBJECT, ENTRY, 0, b"one"))

    def late(conn: Connection) -> bytes:
        return BlindAtFirst(conn, TENANT, world.vault).seal_disclosure(SUBJECT, ENTRY, 1, b"two")

    more = await world.sql(late)
    for index, sealed, text in ((0, blob, b"one"), (1, more, b"two")):
        opened = await world.run(
            lambda keys, index=index, sealed=sealed: keys.open_disclosure(SUBJECT, ENTRY, index, sealed)  # type: ignore[misc]
        )
        assert opened == text


# ---- disclosures
async def test_disclosures_are_bound_to_their_place(world: World) -> None:
    """Another entry, index or subject does not open it (I-50)."""
    other = render("agent", b"\1" * 16)
    blob = await world.run(lambda keys: keys.seal_disclosure(SUBJECT, ENTRY, 0, b"text"))
    await world.run(lambda keys: keys.subject_key(other))
    assert await world.run(lambda keys: keys.open_disclosure(SUBJECT, ENTRY, 0, blob)) == b"text"
    elsewhere = [(SUBJECT, AuditId("0" * 32), 0), (SUBJECT, ENTRY, 1), (other, ENTRY, 0)]
    for subject, entry, index in elsewhere:
        with pytest.raises(VaultFault):
            await world.run(
                lambda keys, subject=subject, entry=entry, index=index: keys.open_disclosure(  # type: ignore[misc]
                    subject, entry, index, blob
                )
            )


async def test_deleting_the_subjects_key_erases(world: World) -> None:
    """After the row is deleted nothing opens, from memory neither; what is sealed later has a key of its own (I-35)."""
    blob = await world.run(lambda keys: keys.seal_disclosure(SUBJECT, ENTRY, 0, b"text"))
    await world.run(lambda keys: keys.open_disclosure(SUBJECT, ENTRY, 0, blob))
    await world.sql(lambda conn: conn.execute(delete(subject_key)))
    assert await world.run(lambda keys: keys.open_disclosure(SUBJECT, ENTRY, 0, blob)) is None
    later = await world.run(lambda keys: keys.seal_disclosure(SUBJECT, ENTRY, 0, b"text"))
    assert await world.run(lambda keys: keys.open_disclosure(SUBJECT, ENTRY, 0, later)) == b"text"
    with pytest.raises(VaultFault):
        await world.run(lambda keys: keys.open_disclosure(SUBJECT, ENTRY, 0, blob))
