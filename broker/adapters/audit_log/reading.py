"""Reading a log: entries with what they disclose, heads, proofs. Hands out nothing it did not hold against the tree.

Never signs, never decides who may read and never writes down who did: the service does, before it asks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, select

from broker.adapters.audit_log import tree
from broker.adapters.audit_log.errors import LogDamaged
from broker.adapters.audit_log.export import BundleSource, Opener, SqlReads, bundle_files, raw
from broker.adapters.audit_log.signing import Keyring
from broker.adapters.store.schema import audit_checkpoint, audit_disclosure, audit_entry
from broker.core.clock import from_micros
from broker.core.errors import Blame, Refusal, invalid
from broker.core.ids import AuditId, TenantId
from broker.service.ports import AuditRecord, ConsistencyProof, InclusionProof, SignedHead
from recorder.checkpoint import parse_and_verify
from recorder.codes import BY_NAME, CODES
from recorder.entry import Entry, digest_of, parse_entry
from recorder.errors import EntryError, NoteError
from recorder.merkle import consistency_proof, inclusion_proof, leaf_hash

MAX_ENTRIES: Final = 1_000  # of one answer, whatever was asked for
_ERASED: Final = BY_NAME["subject.erased"].code
_SCAN: Final = 1_000  # rows read at a time when looking for erasures

_ENTRIES = (
    select(audit_entry.c.seq, audit_entry.c.entry)
    .where(audit_entry.c.tenant == bindparam("ten"), audit_entry.c.seq >= bindparam("first"))
    .order_by(audit_entry.c.seq)
    .limit(bindparam("most"))
)
_DISCLOSURES = (
    select(audit_disclosure.c.seq, audit_disclosure.c.i, audit_disclosure.c.subject, audit_disclosure.c.blob)
    .where(
        audit_disclosure.c.tenant == bindparam("ten"),
        audit_disclosure.c.seq >= bindparam("first"),
        audit_disclosure.c.seq <= bindparam("last"),
    )
    .order_by(audit_disclosure.c.seq, audit_disclosure.c.i)
)
_NEWEST_NOTE = (
    select(audit_checkpoint.c.note)
    .where(audit_checkpoint.c.tenant == bindparam("ten"))
    .order_by(audit_checkpoint.c.size.desc())
    .limit(1)
)


class SqlAuditLog:
    """`AuditLog` over the store."""

    def __init__(
        self,
        *,
        store: SqlReads,
        openers: Callable[[Connection, TenantId], Opener],
        keyring: Keyring,
        recordings: Path,
    ) -> None:
        """`openers` opens disclosures of a tenant through a connection; `recordings` is the folder of recordings."""
        self._store, self._openers, self._keyring, self._recordings = store, openers, keyring, recordings

    async def entries(self, tenant: TenantId, *, from_seq: int, limit: int) -> Sequence[AuditRecord]:
        """As AuditLog.

        Raises:
            LogDamaged: the row that is not what the tree, or the entry, committed to.
        """
        if from_seq < 0 or limit < 1:
            raise invalid("bad_range", "a log is read from a leaf index of at least 0, at least one row at a time")
        most = min(limit, MAX_ENTRIES)
        return await self._store.read_sql(
            tenant, lambda conn: _read(conn, tenant, self._openers(conn, tenant), from_seq, most)
        )

    async def head(self, tenant: TenantId) -> SignedHead | None:
        """As AuditLog. The note is checked with the cluster's key before it is handed out."""
        note = await self._store.read_sql(tenant, lambda conn: conn.execute(_NEWEST_NOTE, {"ten": tenant}).scalar())
        if note is None:
            return None
        vkey = self._keyring.get().vkey(tenant)
        try:
            checkpoint = parse_and_verify(bytes(note), [vkey])
        except NoteError as error:
            raise LogDamaged("the newest published head is not signed by this log's key") from error
        return SignedHead(note=bytes(note), vkey=vkey, size=checkpoint.size, root=checkpoint.root)

    async def prove_inclusion(self, tenant: TenantId, *, seq: int, size: int | None) -> InclusionProof:
        """As AuditLog."""
        of = await self._size(tenant, size)
        if not 0 <= seq < of:
            raise _absent("no_such_leaf", f"there is no row {seq} under a head of {of} rows")
        return await self._store.read_sql(tenant, lambda conn: _inclusion(conn, tenant, seq, of))

    async def prove_consistency(self, tenant: TenantId, *, old_size: int, size: int | None) -> ConsistencyProof:
        """As AuditLog."""
        of = await self._size(tenant, size)
        if not 0 <= old_size <= of:
            raise _absent("no_such_size", f"{old_size} rows are not the beginning of {of}")
        hashes = await self._store.read_sql(
            tenant, lambda conn: consistency_proof(old_size, of, tree.nodes(conn, tenant))
        )
        return ConsistencyProof(old_size=old_size, size=of, hashes=tuple(hashes))

    async def export_bundle(
        self, tenant: TenantId, *, recordings: bool, disclosures: bool
    ) -> AsyncIterator[tuple[str, bytes]]:
        """As AuditLog."""
        head = await self.head(tenant)
        if head is None:
            raise _absent("no_checkpoint", "the log has no signed head yet")
        source = BundleSource(
            units=self._store,
            openers=self._openers,
            tenant=tenant,
            head=head,
            recordings=self._recordings if recordings else None,
            disclosures=disclosures,
        )
        async for path, data in bundle_files(source):
            yield path, data

    async def _size(self, tenant: TenantId, asked: int | None) -> int:
        if asked is None:
            head = await self.head(tenant)
            return head.size if head else 0
        committed = await self._store.read_sql(tenant, lambda conn: tree.head(conn, tenant))
        if not 0 <= asked <= committed.size:
            raise _absent("no_such_size", f"the log never had {asked} rows")
        return asked


def _absent(code: str, message: str) -> Refusal:
    return Refusal(code, message, blame=Blame.NOT_FOUND, way_out="ask for the newest head, and stay below its size")


def _inclusion(connection: Connection, tenant: TenantId, seq: int, size: int) -> InclusionProof:
    node = tree.nodes(connection, tenant)
    proof = inclusion_proof(seq, size, node)
    return InclusionProof(seq=seq, size=size, leaf_hash=node(0, seq), hashes=tuple(proof))


# ---- entries --------------------------------------------------------------------------------------------------------
def _read(connection: Connection, tenant: TenantId, opener: Opener, first: int, most: int) -> list[AuditRecord]:
    size = tree.head(connection, tenant).size
    wanted = range(first, min(first + most, size))
    rows = {row.seq: raw(row.entry) for row in _rows(connection, tenant, wanted)}
    node = tree.nodes(connection, tenant)
    parsed = {seq: _checked(seq, rows.get(seq), node) for seq in wanted}
    told = _told(connection, tenant, opener, parsed)
    _explain_missing(connection, tenant, {seq for seq, one in parsed.items() if len(told[seq]) < len(one.digests)})
    return [_record(seq, rows[seq], parsed[seq], told[seq]) for seq in wanted]


def _rows(connection: Connection, tenant: TenantId, wanted: range) -> Sequence[Row[Any, Any]]:
    if not wanted:
        return []
    return connection.execute(_ENTRIES, {"ten": tenant, "first": wanted[0], "most": len(wanted)}).all()


def _checked(seq: int, data: bytes | None, node: Callable[[int, int], bytes]) -> Entry:
    """The entry, proved to be the leaf that was sequenced."""
    if data is None:
        raise LogDamaged(f"row {seq} of the audit log is missing")
    if leaf_hash(data) != node(0, seq):
        raise LogDamaged(f"row {seq} of the audit log is not what was written")
    try:
        return parse_entry(data)
    except EntryError as error:
        raise LogDamaged(f"row {seq} of the audit log is no entry") from error


def _told(
    connection: Connection, tenant: TenantId, opener: Opener, parsed: dict[int, Entry]
) -> dict[int, tuple[bytes, ...]]:
    """The disclosures that are still there, opened and held against the digests of their entries."""
    told: dict[int, tuple[bytes, ...]] = dict.fromkeys(parsed, ())
    if not parsed:
        return told
    for row in connection.execute(_DISCLOSURES, {"ten": tenant, "first": min(parsed), "last": max(parsed)}):
        entry = parsed.get(row.seq)
        if entry is None:
            continue
        text = opener.open_disclosure(row.subject, AuditId(entry.id), row.i, raw(row.blob))
        if text is None:
            continue
        if digest_of(text) not in entry.digests:
            raise LogDamaged(f"row {row.seq} of the audit log never committed to its disclosure {row.i}")
        told[row.seq] += (text,)
    return told


def _explain_missing(connection: Connection, tenant: TenantId, incomplete: Collection[int]) -> None:
    """LogDamaged unless a `subject.erased` row accounts for each row that tells less than it committed to (I-35)."""
    if not incomplete:
        return
    erased = list(_erasures(connection, tenant))
    for seq in sorted(incomplete):
        if not any(first <= seq <= last for first, last in erased):
            raise LogDamaged(f"a disclosure of row {seq} is missing, and no row says that it was erased")


def _erasures(connection: Connection, tenant: TenantId) -> Iterator[tuple[int, int]]:
    """(first, last) of every range that the log says was erased. Walks the log: only when something is missing."""
    first = 0
    while rows := _rows(connection, tenant, range(first, first + _SCAN)):
        for row in rows:
            data = raw(row.entry)
            if _ERASED.encode() in data and (entry := parse_entry(data)).code == _ERASED:
                for part in str(entry.fields.get("ranges", "")).split(","):
                    low, _, high = part.partition("-")
                    yield int(low), int(high or low)
        first = rows[-1].seq + 1


def _record(seq: int, data: bytes, entry: Entry, told: tuple[bytes, ...]) -> AuditRecord:
    name = CODES[entry.code].name
    return AuditRecord(seq=seq, entry=data, disclosures=told, at=from_micros(entry.t_us), code=entry.code, name=name)
