"""The whole way of an entry on both databases: appended, sequenced, signed, read, proved."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection, delete, select

from broker.adapters.audit_log.errors import LogDamaged
from broker.adapters.store.schema import audit_disclosure, audit_pending, subject_key
from broker.core.errors import Refusal
from broker.core.events import AuditEvent
from broker.core.ids import SYSTEM_TENANT
from broker.service.ports import Tx
from recorder.checkpoint import parse_and_verify
from recorder.entry import parse_entry, read_disclosure
from recorder.merkle import leaf_hash, root_of, verify_consistency, verify_inclusion
from tests.broker.adapters.audit_log.world import AGENT, GRANT, OTHER, T1, T2, Log, event, open_log, texts


async def test_an_entry_says_what_happened_and_tells_persons_apart(log: Log) -> None:
    """Facts stand in the entry, personal values only as digests with disclosures beside it (I-34, I-35)."""
    (told,) = await log.tell(event(reason="restart the web tier", ttl_s=900))
    await log.settle()
    (record,) = await log.all()
    assert json.loads(record.entry) | {"n": "", "_sd": []} == {
        "v": 1,
        "id": told,
        "t": record.at.timestamp() * 1e6,
        "code": "GR2001I",
        "ten": "t1",
        "broker": "b1",
        "outcome": "success",
        "actor": AGENT,
        "grant": GRANT,
        "ttl_s": 900,
        "n": "",
        "_sd": [],
        "_sd_alg": "sha-256",
    }
    assert b"restart" not in record.entry
    assert [read_disclosure(text) for text in record.disclosures] == [("reason", "restart the web tier")]
    assert (record.seq, record.name) == (0, "grant.activated")


async def test_an_entry_dies_with_its_transaction(log: Log) -> None:
    """A unit that fails leaves no entry, one that commits always does (I-31)."""

    def fails(tx: Tx) -> None:
        tx.audit.append(event(), log.clock.now())
        raise RuntimeError("the business said no")

    with pytest.raises(RuntimeError):
        await log.store.run(T1, fails)
    await log.tell(event(kind="kept"))
    await log.settle()
    assert [parse_entry(row.entry).fields["kind"] for row in await log.all()] == ["kept"]


async def test_logs_of_tenants_are_apart(log: Log) -> None:
    """Each tenant has a log of its own, and its heads are entries of `_system` (I-32, I-40)."""
    await log.grow(3, T1)
    await log.grow(2, T2)
    assert [len(await log.all(tenant)) for tenant in (T1, T2)] == [3, 2]
    heads = [parse_entry(row.entry).fields for row in await log.all(SYSTEM_TENANT) if row.name == "audit.head_recorded"]
    assert [(fields["log"], fields["size"]) for fields in heads] == [("t1", 3), ("t2", 2)]
    one = await log.reader.head(T1)
    assert one is not None
    assert heads[0]["root"] == one.root.hex()


async def test_the_head_is_signed_over_exactly_the_entries(log: Log) -> None:
    """Size and root of the note are those of the entries' leaves; its key is the log's own (I-32)."""
    await log.grow(300)
    head = await log.reader.head(T1)
    assert head is not None
    checkpoint = parse_and_verify(head.note, [head.vkey])
    leaves = [leaf_hash(row.entry) for row in await log.all()]
    assert (checkpoint.origin, checkpoint.size) == ("grantd.example/c1/audit/t1", 300)
    assert checkpoint.root == root_of(leaves)
    assert (log.pins / "t1" / "latest").read_bytes() == head.note
    assert (log.pins / "t1" / "300").read_bytes() == head.note
    assert (log.pins / "t1" / "vkey").read_text() == head.vkey + "\n"


async def test_proofs_from_tiles_lead_to_the_signed_root(log: Log) -> None:
    """Inclusion of any leaf and consistency from any size hold, across tile borders and batches (I-32)."""
    for batch in (1, 254, 2, 260):
        await log.grow(batch)
    head = await log.reader.head(T1)
    assert head is not None
    assert head.size == 517
    rows = await log.all()
    for seq in (0, 1, 254, 255, 256, 511, 512, 516):
        proof = await log.reader.prove_inclusion(T1, seq=seq, size=None)
        assert proof.leaf_hash == leaf_hash(rows[seq].entry)
        verify_inclusion(proof.leaf_hash, seq, 517, proof.hashes, head.root)
    leaves = [leaf_hash(row.entry) for row in rows]
    for old in (0, 1, 255, 256, 257, 512, 516, 517):
        consistency = await log.reader.prove_consistency(T1, old_size=old, size=None)
        verify_consistency(old, 517, consistency.hashes, root_of(leaves[:old]), head.root)
    earlier = await log.reader.prove_inclusion(T1, seq=3, size=256)
    verify_inclusion(leaves[3], 3, 256, earlier.hashes, root_of(leaves[:256]))


async def test_what_the_log_does_not_have_is_refused_not_invented(log: Log) -> None:
    """Sizes and leaves beyond the log are the caller's error, with a stable code."""
    await log.grow(2)
    for ask, code in (
        (log.reader.prove_inclusion(T1, seq=2, size=None), "no_such_leaf"),
        (log.reader.prove_inclusion(T1, seq=0, size=9), "no_such_size"),
        (log.reader.prove_consistency(T1, old_size=3, size=None), "no_such_size"),
        (log.reader.prove_consistency(T1, old_size=1, size=3), "no_such_size"),
        (log.reader.entries(T1, from_seq=-1, limit=1), "bad_range"),
    ):
        with pytest.raises(Refusal) as refused:
            await ask
        assert refused.value.code == code
    assert await log.reader.head(T2) is None
    assert list(await log.reader.entries(T1, from_seq=2, limit=10)) == []


async def test_entries_keep_the_order_in_which_they_were_written(log: Log) -> None:
    """Waiting entries are sequenced oldest first, whatever is appended at the same time."""
    for batch in range(3):
        await log.tell(*(event(number=batch * 10 + i) for i in range(10)))
        await asyncio.gather(*(log.tell(event(number=1000)) for _ in range(5)))  # noqa: TID251  a race is the point
        await log.settle()
    numbers = [parse_entry(row.entry).fields["number"] for row in await log.all()]
    assert [number for number in numbers if number != 1000] == list(range(30))
    assert numbers.count(1000) == 15


@pytest.mark.postgres
async def test_two_brokers_on_one_database_make_one_log(shared_url: URL, tmp_path: Path) -> None:
    """Whoever leads, no entry is lost or doubled, and each broker's own heads continue one another (I-32)."""
    async with open_log(shared_url, tmp_path / "one") as one, open_log(shared_url, tmp_path / "two") as two:
        for _ in range(4):
            await asyncio.gather(  # noqa: TID251  a race is the point
                *(log.tell(event()) for log in (one, two) for _ in range(10)), one.job.drain(), two.job.drain()
            )
        for log in (one, two):
            await log.settle()
        rows = await one.all()
        assert len(rows) == len({parse_entry(row.entry).id for row in rows}) == 80
        assert not one.health.broken(T1)
        assert not two.health.broken(T1)


async def test_a_missing_disclosure_needs_an_erasure_that_says_so(log: Log) -> None:
    """Reading fails over a disclosure that is gone without a word, and goes on over one that was erased (I-35)."""
    await log.grow(3)

    def forget(conn: Connection) -> None:
        conn.execute(delete(audit_disclosure).where(audit_disclosure.c.seq == 1))

    await log.store.run_sql(T1, forget)
    with pytest.raises(LogDamaged, match="row 1 is missing"):
        await log.all()
    await log.tell(AuditEvent(tenant=T1, name="subject.erased", actor=OTHER, facts={"ranges": "1"}))
    await log.settle()
    assert len(texts(await log.all())) == 2


async def test_a_deleted_subject_key_erases_and_the_log_still_proves(log: Log) -> None:
    """Without the key the disclosures are gone for good; entries, head and proofs stay as they were (I-35)."""
    await log.grow(2)
    before = await log.reader.head(T1)
    await log.store.run_sql(T1, lambda conn: conn.execute(delete(subject_key).where(subject_key.c.subject == AGENT)))
    await log.tell(AuditEvent(tenant=T1, name="subject.erased", actor=OTHER, facts={"ranges": "0-1"}))
    await log.settle()
    after = await log.reader.head(T1)
    assert texts(await log.all()) == []
    assert before is not None
    assert after is not None
    proof = await log.reader.prove_consistency(T1, old_size=before.size, size=None)
    verify_consistency(before.size, after.size, proof.hashes, before.root, after.root)


async def test_silence_for_an_hour_is_broken_by_a_heartbeat(log: Log) -> None:
    """An idle log gets an entry and a head each hour, so that a log that was stopped can be told from a quiet one."""
    await log.grow(1)
    log.clock.forward(3_500)
    await log.job.step()
    assert [row.name for row in await log.all()] == ["grant.activated"]
    log.clock.forward(101)
    await log.job.step()
    await log.job.step()
    await log.settle()
    assert [row.name for row in await log.all()] == ["grant.activated", "system.heartbeat"]
    head = await log.reader.head(T1)
    assert head is not None
    assert head.size == 2


async def test_heads_are_signed_at_most_each_second(log: Log) -> None:
    """A busy log gets places at each tick, and a head a second (formats.md 2.2)."""
    await log.job.step()
    sizes = []
    for _ in range(11):
        log.clock.forward(0.2)
        await log.tell(event())
        await log.job.step()
        head = await log.reader.head(T1)
        sizes.append(head.size if head else 0)
    assert len(await log.all()) == 11
    assert [size for size in sizes if size] == [5] * 5 + [10] * 2


async def test_nothing_waits_twice(log: Log) -> None:
    """What was sequenced is gone from the waiting rows: a restart finds nothing to do again."""
    await log.grow(5)
    left = await log.store.read_sql(T1, lambda conn: conn.execute(select(audit_pending)).all())
    assert left == []
    assert await log.keeper.sequence(T1) == 0
