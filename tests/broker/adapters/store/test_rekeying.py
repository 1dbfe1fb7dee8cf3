"""Keys change while everything goes on: nothing sealed is lost, and what was replaced opens nothing (I-50, P17)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import Final, TypeVar

import pytest
from sqlalchemy import Connection, insert, select, update

from broker.adapters.store.keys import KeyRowsSql
from broker.adapters.store.schema import ended_key, recording_key, secret, subject_key, tenant_key
from broker.adapters.store.store import SqlStore
from broker.adapters.vault import Roots, SealingKey, Vault
from broker.adapters.xaes import Key
from broker.core.errors import StoreFault, VaultFault
from broker.core.ids import AuditId, RecordingId, TenantId, render
from broker.core.secret import Secret
from broker.service.ports import Purpose, Resealed, VaultRows
from tests.broker.adapters.store.fixtures import NOW, OTHER, TENANT, Database, open_sqlite, open_store, real_rows

T = TypeVar("T")
RECORDING: Final = RecordingId(render("recording", bytes(range(16))))
SUBJECT: Final = render("agent", bytes(16))
ENTRY: Final = AuditId("00000000000070008000000000000001")
BATCH: Final = 2


def root(name: str) -> SealingKey:
    """A random root key."""
    return SealingKey(name, Key(bytearray(os.urandom(32))))


OLD: Final = root("rk_old")
NEW: Final = root("rk_new")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A store, and the vaults of processes that share it."""

    store: SqlStore
    vault: Vault

    async def keys(self, unit: Callable[[KeyRowsSql], T], *, vault: Vault | None = None, of: TenantId = TENANT) -> T:
        """A unit of work over a tenant's keys, by one process or another."""
        return await self.store.run_sql(of, lambda conn: unit(KeyRowsSql(conn, of, vault or self.vault)))

    async def rows(self, unit: Callable[[VaultRows], T], *, vault: Vault | None = None, of: TenantId = TENANT) -> T:
        """A unit of work over the keys themselves."""
        return await self.keys(lambda keys: unit(keys.rekeying), vault=vault, of=of)

    async def sql(self, unit: Callable[[Connection], T]) -> T:
        """What somebody with the database in hands does."""
        return await self.store.run_sql(TENANT, unit)

    async def move(self, purpose: Purpose) -> int:
        """Everything of a purpose under its newest key, in small batches; how many rows that were."""
        moved, after = 0, ""
        while True:
            batch: Resealed = await self.rows(methodcaller("reseal", purpose, after=after, limit=BATCH))
            moved += batch.moved
            if batch.last is None:
                return moved
            after = batch.last

    async def put_blob(self, name: str, blob: bytes) -> None:
        """What a secret's row holds from now on, whatever its version says."""
        await self.sql(lambda conn: conn.execute(update(secret).where(secret.c.name == name).values(blob=blob)))


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    """An open store on each kind of database, under the root key OLD."""
    opened = await open_store(database, source=real_rows())
    yield World(store=opened, vault=Vault(OLD))
    await opened.close()


async def fill(world: World, secrets: int = 5) -> bytes:
    """Something under each purpose; returns a sealed disclosure."""

    def unit(keys: KeyRowsSql) -> bytes:
        for n in range(secrets):
            keys.put_secret(f"s{n}", Secret(b"value %d" % n))
        keys.new_recording_key(RECORDING)
        keys.search_key()
        return keys.seal_disclosure(SUBJECT, ENTRY, 0, b"text")

    return await world.keys(unit)


async def all_open(world: World, disclosure: bytes, *, vault: Vault, secrets: int = 5) -> None:
    """Every value that `fill` sealed opens in a process that has nothing in memory."""

    def unit(keys: KeyRowsSql) -> None:
        for n in range(secrets):
            found = keys.secret(f"s{n}")
            assert found is not None
            assert found.reveal() == b"value %d" % n
        assert keys.recording_key(RECORDING) is not None
        assert keys.open_disclosure(SUBJECT, ENTRY, 0, disclosure) == b"text"

    await world.keys(unit, vault=vault)


# ---- a purpose's key
async def test_a_rotated_key_seals_from_now_on_and_the_old_one_still_opens(world: World) -> None:
    """Between making a version and moving the last row, everything opens: there is no moment without."""
    disclosure = await fill(world)
    for purpose in (Purpose.VAULT, Purpose.RECORDINGS, Purpose.SUBJECTS):
        assert await world.rows(lambda rows, purpose=purpose: rows.rotate(purpose)) == 2  # type: ignore[misc]
    await all_open(world, disclosure, vault=Vault(OLD))
    await world.keys(lambda keys: keys.put_secret("late", Secret(b"new")))
    blob = await world.sql(lambda conn: conn.execute(select(secret.c.blob).where(secret.c.name == "late")).scalar_one())
    assert b"tk_t1_vault_2" in bytes(blob)


async def test_everything_moves_and_the_old_version_is_deleted(world: World) -> None:
    """Batches move secrets, recording keys and subject keys; then the old version goes, and nothing needs it."""
    disclosure = await fill(world)
    dek = await world.keys(lambda keys: keys.recording_key(RECORDING))
    for purpose, rows_there in ((Purpose.VAULT, 5), (Purpose.RECORDINGS, 1), (Purpose.SUBJECTS, 1)):
        await world.rows(lambda rows, purpose=purpose: rows.rotate(purpose))  # type: ignore[misc]
        assert await world.rows(lambda rows, purpose=purpose: rows.drop_unused(purpose)) == []  # type: ignore[misc]
        assert await world.move(purpose) == rows_there
        assert await world.move(purpose) == 0, "the second pass finds nothing to do"
        assert await world.rows(lambda rows, purpose=purpose: rows.drop_unused(purpose)) == [1]  # type: ignore[misc]
    await all_open(world, disclosure, vault=Vault(OLD))
    again = await world.keys(lambda keys: keys.recording_key(RECORDING), vault=Vault(OLD))
    assert dek is not None
    assert again is not None
    assert (again.key_id, again.key.reveal()) == (dek.key_id, dek.key.reveal()), "recordings stay as they are"


async def test_a_copy_under_a_deleted_version_fails_by_name(world: World) -> None:
    """A row put back from a backup names the key that is gone; the newer one is never tried on it."""
    await fill(world)
    before = await world.sql(lambda conn: conn.execute(select(secret.c.blob).where(secret.c.name == "s0")).scalar_one())
    await world.rows(lambda rows: rows.rotate(Purpose.VAULT))
    await world.move(Purpose.VAULT)
    await world.rows(lambda rows: rows.drop_unused(Purpose.VAULT))
    await world.put_blob("s0", before)
    with pytest.raises(VaultFault, match="tk_t1_vault_1"):
        await world.keys(lambda keys: keys.secret("s0"))


async def test_a_deleted_version_put_back_is_a_stranger(world: World) -> None:
    """Whoever restores the row of a key under another number has a key that opens nothing."""
    await fill(world)
    row = await world.sql(
        lambda conn: dict(conn.execute(select(tenant_key).where(tenant_key.c.purpose == "vault")).mappings().one())
    )
    await world.rows(lambda rows: rows.rotate(Purpose.VAULT))
    await world.move(Purpose.VAULT)
    await world.sql(lambda conn: conn.execute(insert(tenant_key).values(**row | {"version": 3})))
    with pytest.raises(VaultFault):
        await world.keys(lambda keys: keys.put_secret("x", Secret(b"y")), vault=Vault(OLD))


async def test_swapped_blobs_are_refused_while_keys_change(world: World) -> None:
    """Between rows, versions, purposes and recordings, before, during and after: nothing opens elsewhere (I-50)."""
    await fill(world)
    await world.rows(lambda rows: rows.rotate(Purpose.VAULT))
    await world.rows(lambda rows: rows.reseal(Purpose.VAULT, after="", limit=BATCH))  # s0 and s1 alone

    def blob_of(conn: Connection, name: str) -> bytes:
        return bytes(conn.execute(select(secret.c.blob).where(secret.c.name == name)).scalar_one())

    for taken, put in (("s0", "s1"), ("s3", "s4"), ("s0", "s3"), ("s3", "s0")):
        moved, kept = [await world.sql(partial(blob_of, name=name)) for name in (taken, put)]
        await world.put_blob(put, moved)
        with pytest.raises(VaultFault):
            await world.keys(methodcaller("secret", put))
        with pytest.raises(VaultFault):  # nor does moving it to a new key launder it
            await world.rows(lambda rows: rows.rotate(Purpose.VAULT) and rows.reseal(Purpose.VAULT, after="", limit=9))
        await world.put_blob(put, kept)
    # another row version of the same secret, and a key id spelled into the blob's head
    await world.sql(lambda conn: conn.execute(update(secret).where(secret.c.name == "s0").values(version=7)))
    with pytest.raises(VaultFault):
        await world.keys(lambda keys: keys.secret("s0"))
    renamed = (await world.sql(partial(blob_of, name="s3"))).replace(b"vault_1", b"vault_2")
    await world.put_blob("s3", renamed)
    with pytest.raises(VaultFault):
        await world.keys(lambda keys: keys.secret("s3"))


async def test_two_who_move_the_same_rows_do_no_harm(world: World) -> None:
    """Two brokers in the same rows at once: each value is moved by one of them and opens."""
    disclosure = await fill(world, secrets=20)
    await world.rows(lambda rows: rows.rotate(Purpose.VAULT))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(world.move(Purpose.VAULT)) for _ in range(2)]
    assert sum(task.result() for task in tasks) >= 20
    await world.rows(lambda rows: rows.drop_unused(Purpose.VAULT))
    await all_open(world, disclosure, vault=Vault(OLD), secrets=20)


async def test_what_stands_is_told(world: World) -> None:
    """Purpose, version, root key and how many rows need it; which purposes still have older versions."""
    await fill(world)
    await world.rows(lambda rows: rows.rotate(Purpose.VAULT))
    await world.rows(lambda rows: rows.reseal(Purpose.VAULT, after="", limit=BATCH))
    told = [(s.purpose, s.version, s.root_id, s.seals) for s in await world.rows(lambda rows: rows.standing())]
    assert told == [
        (Purpose.RECORDINGS, 1, OLD.id, 1),
        (Purpose.SEARCH, 1, OLD.id, 0),
        (Purpose.SUBJECTS, 1, OLD.id, 1),
        (Purpose.VAULT, 1, OLD.id, 3),
        (Purpose.VAULT, 2, OLD.id, 2),
    ]
    assert await world.rows(lambda rows: rows.behind()) == [Purpose.VAULT]


# ---- the root key
def after_the_change() -> Vault:
    """A process that has the new root key as primary and can read the old one."""
    return Vault(Roots(primary=NEW, previous=(OLD,), coming=()))


def before_the_change() -> Vault:
    """A process that still seals with the old root key and can read the new one."""
    return Vault(Roots(primary=OLD, previous=(), coming=(NEW,)))


async def test_the_root_key_changes_under_running_brokers(world: World) -> None:
    """Old and new side by side: each reads what the other wraps; afterwards the old one opens nothing, by name."""
    disclosure = await fill(world)
    assert await world.rows(lambda rows: rows.rewrap(), vault=after_the_change()) == 4
    assert await world.rows(lambda rows: rows.wrapped_by()) == {NEW.id: 4}
    await all_open(world, disclosure, vault=before_the_change())
    # one that has not heard yet makes a key under the old root: harmless, it is moved by the next pass
    await world.keys(lambda keys: keys.tenant_key(Purpose.HMAC), vault=before_the_change())
    assert await world.rows(lambda rows: rows.wrapped_by()) == {NEW.id: 4, OLD.id: 1}
    with pytest.raises(StoreFault, match="still wraps"):
        await world.rows(lambda rows: rows.end_root(OLD.id, NOW))
    assert await world.rows(lambda rows: rows.rewrap(), vault=after_the_change()) == 1
    await world.rows(lambda rows: rows.end_root(OLD.id, NOW))
    await all_open(world, disclosure, vault=Vault(NEW))
    with pytest.raises(VaultFault, match=f"wrapped by {NEW.id}, the configured root key is {OLD.id}"):
        await all_open(world, disclosure, vault=Vault(OLD))


async def test_nothing_is_made_under_a_root_key_that_ended(world: World) -> None:
    """A broker that was asleep all the time cannot bring the old root key back."""
    await fill(world)
    await world.rows(lambda rows: rows.rewrap(), vault=after_the_change())
    await world.rows(lambda rows: rows.end_root(OLD.id, NOW))
    with pytest.raises(VaultFault, match="was replaced"):
        await world.keys(lambda keys: keys.tenant_key(Purpose.HMAC), vault=before_the_change())
    with pytest.raises(VaultFault, match="was replaced"):
        await world.rows(lambda rows: rows.rotate(Purpose.VAULT), vault=before_the_change())


async def test_a_broker_before_the_change_takes_nothing_back(world: World) -> None:
    """Only what a former root key wraps is moved: the two never pull in opposite directions."""
    await fill(world)
    await world.rows(lambda rows: rows.rewrap(), vault=after_the_change())
    assert await world.rows(lambda rows: rows.rewrap(), vault=before_the_change()) == 0
    assert await world.rows(lambda rows: rows.wrapped_by()) == {NEW.id: 4}


async def test_two_who_rewrap_at_once_do_no_harm(world: World) -> None:
    """The second one finds nothing left, or is run again by the database."""
    disclosure = await fill(world)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(world.rows(lambda rows: rows.rewrap(), vault=after_the_change())) for _ in range(4)]
    assert sum(task.result() for task in tasks) == 4
    await all_open(world, disclosure, vault=Vault(NEW))


async def test_a_root_key_that_appears_is_found(world: World) -> None:
    """A process that started before the new root key was there looks for it once a row names it."""
    disclosure = await fill(world)
    await world.rows(lambda rows: rows.rewrap(), vault=after_the_change())
    early = Vault(OLD, read=lambda: Roots(primary=NEW, previous=(OLD,), coming=()))
    await all_open(world, disclosure, vault=early)
    assert early.root.id == NEW.id


# ---- shredding
async def test_a_shredded_tenant_opens_nothing_and_seals_nothing(world: World) -> None:
    """Every key is gone, from memory too; no new one is made; another tenant does not notice."""
    disclosure = await fill(world)
    await world.keys(lambda keys: keys.put_secret("theirs", Secret(b"1")), of=OTHER)
    assert (await world.rows(lambda rows: rows.shred(NOW))).keys == 5
    assert await world.rows(lambda rows: rows.is_shredded())
    for look in (lambda keys: keys.secret("s0"), lambda keys: keys.recording_key(RECORDING)):
        with pytest.raises(VaultFault, match="gone"):
            await world.keys(look)
    assert await world.keys(lambda keys: keys.open_disclosure(SUBJECT, ENTRY, 0, disclosure)) is None
    with pytest.raises(VaultFault, match="shredded"):
        await world.keys(lambda keys: keys.put_secret("new", Secret(b"2")))
    found = await world.keys(lambda keys: keys.secret("theirs"), of=OTHER)
    assert found is not None
    assert not await world.rows(lambda rows: rows.is_shredded(), of=OTHER)
    await world.rows(lambda rows: rows.shred(NOW))
    assert len(await world.sql(lambda conn: conn.execute(select(ended_key)).all())) == 1, "twice is once"


async def test_the_value_is_zeroed_whatever_happens(world: World) -> None:
    """use_secret hands out one buffer, and empties it also where its user raises (I-51)."""
    await fill(world)
    seen: list[bytearray] = []

    def use(value: bytearray) -> None:
        assert value == b"value 0"
        seen.append(value)
        raise LookupError

    with pytest.raises(LookupError):
        await world.keys(lambda keys: keys.use_secret("s0", use))
    assert seen
    assert all(value == bytes(len(value)) for value in seen)


async def test_a_dropped_secret_is_gone_and_counts_on(world: World) -> None:
    """Dropping deletes the row; a value put later has the version that its caller counts, not the first one again."""
    await fill(world)
    assert await world.keys(lambda keys: keys.drop_secret("s0"))
    assert not await world.keys(lambda keys: keys.drop_secret("s0"))
    assert await world.keys(lambda keys: keys.secret("s0")) is None
    sealed = await world.keys(lambda keys: keys.put_value("s0", bytearray(b"again"), version=2))
    assert (sealed.name, sealed.version, len(sealed.sha256)) == ("s0", 2, 32)
    dek = await world.sql(lambda conn: conn.execute(select(recording_key)).all())
    assert len(dek) == 1


async def test_shredded_keys_leave_the_files(tmp_path: Path) -> None:
    """The wrapped keys were in the database or its write-ahead log, and are in neither once the store was scrubbed."""
    store = await open_sqlite(tmp_path)
    vault = Vault(OLD)

    def unit(conn: Connection) -> list[bytes]:
        keys = KeyRowsSql(conn, TENANT, vault)
        for n in range(50):
            keys.seal_disclosure(render("agent", n.to_bytes(16, "big")), ENTRY, 0, b"text")
        keys.put_secret("a", Secret(b"value"))
        return [bytes(row.blob) for table in (tenant_key, subject_key) for row in conn.execute(select(table)).all()]

    wrapped = await store.run_sql(TENANT, unit)
    assert len(wrapped) == 52

    def lying_there() -> int:
        files = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        return sum(blob in files for blob in wrapped)

    assert lying_there() == 52, "they are found where they are"
    await store.run_sql(TENANT, lambda conn: KeyRowsSql(conn, TENANT, vault).rekeying.shred(NOW))
    await store.scrub()
    assert lying_there() == 0
    await store.close()
