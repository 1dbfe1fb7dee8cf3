"""Any stream of events, cut into any batches, is the log that RFC 6962 says it is. On a bare connection, for speed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, insert, select

from broker.adapters.audit_log import tree
from broker.adapters.audit_log.reading import SqlAuditLog
from broker.adapters.audit_log.sequence import sequence
from broker.adapters.audit_log.signing import Keyring
from broker.adapters.store.audit import AuditRowsSql
from broker.adapters.store.keys import KeyRowsSql
from broker.adapters.store.schema import audit_tile, metadata, tenants
from broker.core.events import AuditEvent, Personal
from broker.core.ids import AuditId, TenantId
from recorder.entry import parse_entry, read_disclosure
from recorder.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from recorder.tiles import TileStack, tile_path
from tests.broker.adapters.audit_log.world import AGENT, OTHER, T1, HandClock, SystemEntropy, new_vault

LEAVES = [leaf_hash(str(i).encode()) for i in range(70_000)]


@contextmanager
def connection() -> Iterator[Connection]:
    """An empty database with one tenant."""
    with create_engine("sqlite://").connect() as conn:
        metadata.create_all(conn)
        conn.execute(insert(tenants).values(tenant=T1, created_at=0))
        yield conn


@given(st.lists(st.integers(1, 700), min_size=1, max_size=8), st.data())
def test_tiles_and_proofs_are_those_of_the_whole_tree(batches: list[int], data: st.DataObject) -> None:
    """However a log grew: its root, every tile and every proof are those of its leaves (I-32)."""
    with connection() as conn:
        size = 0
        for batch in batches:
            assert tree.grow(conn, T1, LEAVES[size : size + batch]) == size
            size += batch
        assert tree.head(conn, T1).root == root_of(LEAVES[:size])
        stack = TileStack()
        expected: dict[str, bytes] = {}
        for leaf in LEAVES[:size]:
            expected |= dict(stack.append(leaf))
        expected |= dict(stack.partial())
        stored = conn.execute(select(audit_tile)).all()
        assert {tile_path(row.level, row.idx, row.width): row.data for row in stored} == expected
        seq, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
        node = tree.nodes(conn, T1)
        verify_inclusion(LEAVES[seq], seq, size, inclusion_proof(seq, size, node), root_of(LEAVES[:size]))
        proof = consistency_proof(old, size, node)
        verify_consistency(old, size, proof, root_of(LEAVES[:old]), root_of(LEAVES[:size]))


def test_a_third_level_of_tiles_grows_as_well() -> None:
    """Beyond 65 536 leaves a tile of level 2 appears; the proofs go through it."""
    with connection() as conn:
        tree.grow(conn, T1, LEAVES[:65_000])
        tree.grow(conn, T1, LEAVES[65_000:])
        levels = conn.execute(select(audit_tile.c.level).distinct()).scalars().all()
        assert sorted(levels) == [0, 1, 2]
        root = root_of(LEAVES)
        proof = inclusion_proof(65_536, 70_000, tree.nodes(conn, T1))
        verify_inclusion(LEAVES[65_536], 65_536, 70_000, proof, root)


word = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)
fact = st.one_of(st.integers(-(2**53) + 1, 2**53 - 1), word, st.binary(min_size=32, max_size=32).map(bytes.hex))
personal = st.builds(
    Personal,
    subject=st.sampled_from([AGENT, OTHER, str(T1)]),
    name=word,
    value=st.text(max_size=60),
)
events = st.builds(
    AuditEvent,
    tenant=st.just(T1),
    name=st.sampled_from(["grant.activated", "action.denied", "session.cut", "system.started"]),
    actor=st.sampled_from(["", AGENT]),
    facts=st.dictionaries(word.map(lambda name: f"x_{name}"[:32]), fact, max_size=4),
    personal=st.lists(personal, max_size=3).map(tuple),
)


@dataclass
class Step:
    """One thing that happens: an event that commits or not, or a batch that is sequenced."""

    event: AuditEvent | None
    commits: bool
    most: int


steps = st.lists(
    st.builds(Step, event=st.one_of(st.none(), events), commits=st.booleans(), most=st.integers(1, 5)), max_size=20
)


class OneConnection:
    """Reads through the connection that the test already holds."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn

    async def read_sql(self, tenant, unit):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """The unit, at once."""
        return unit(self.conn)


@given(steps)
def test_the_log_is_what_was_committed_in_that_order(taken: list[Step]) -> None:
    """Any mix of events, rollbacks and batches: what committed is in the log once, in order, and reads back whole."""
    vault, clock = new_vault(), HandClock()
    written: list[tuple[AuditId, AuditEvent]] = []
    with connection() as conn:

        def keys(of: Connection, tenant: TenantId) -> KeyRowsSql:
            return KeyRowsSql(of, tenant, vault)

        for step in taken:
            clock.wall += timedelta(milliseconds=1)
            if step.event is None:
                sequence(conn, T1, most=step.most)
                continue
            unit = conn.begin_nested()
            rows = AuditRowsSql(
                connection=conn,
                tenant=T1,
                broker="b1",
                entropy=SystemEntropy(),
                sealer=keys(conn, T1),
                noted=lambda _: None,
            )
            told = rows.append(step.event, clock.now())
            if step.commits:
                unit.commit()
                written.append((told, step.event))
            else:
                unit.rollback()
        while sequence(conn, T1, most=3):
            pass
        log = SqlAuditLog(store=OneConnection(conn), openers=keys, keyring=Keyring(), recordings=Path())
        records = asyncio.run(log.entries(T1, from_seq=0, limit=1_000)) if written else []
    assert [parse_entry(record.entry).id for record in records] == [told for told, _ in written]
    for record, (_, event) in zip(records, written, strict=True):
        fields = parse_entry(record.entry).fields
        assert event.facts.items() <= fields.items()
        assert record.name == event.name
        assert [read_disclosure(text) for text in record.disclosures] == [(p.name, p.value) for p in event.personal]
