"""A tenant's log as the files of a bundle (recorder.bundle), one after the other. Judges nothing: the verifier does.

Rows go out as they lie in the database, also damaged ones: a bundle is evidence, and a check that stopped the export
would hide what it found. The files are cut at a signed head, which cannot move while they are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar

import structlog
from sqlalchemy import Connection, bindparam, select

from broker.adapters.audit_log import tree
from broker.adapters.audit_log.errors import LogDamaged
from broker.adapters.store.schema import audit_disclosure, audit_entry
from broker.core.errors import VaultFault
from broker.core.ids import AuditId, TenantId
from broker.service.ports import SignedHead
from recorder import bundle, canonical, tiles
from recorder.entry import parse_entry
from recorder.errors import EntryError
from recorder.merkle import HASH_SIZE

CHUNK: Final = 256 * 1024  # bytes of a file at a time

_ENTRIES = (
    select(audit_entry.c.entry)
    .where(
        audit_entry.c.tenant == bindparam("ten"),
        audit_entry.c.seq >= bindparam("first"),
        audit_entry.c.seq < bindparam("end"),
    )
    .order_by(audit_entry.c.seq)
)
_DISCLOSURES = (
    select(audit_disclosure.c.seq, audit_disclosure.c.i, audit_disclosure.c.subject, audit_disclosure.c.blob)
    .add_columns(audit_entry.c.entry)
    .join(
        audit_entry,
        (audit_entry.c.tenant == audit_disclosure.c.tenant) & (audit_entry.c.seq == audit_disclosure.c.seq),
    )
    .where(
        audit_disclosure.c.tenant == bindparam("ten"),
        audit_disclosure.c.seq >= bindparam("first"),
        audit_disclosure.c.seq < bindparam("end"),
    )
    .order_by(audit_disclosure.c.seq, audit_disclosure.c.i)
)

T = TypeVar("T")
_log = structlog.get_logger()


class SqlReads(Protocol):
    """One consistent view a call."""

    async def read_sql(self, tenant: TenantId, unit: Callable[[Connection], T]) -> T: ...


class Opener(Protocol):
    """Opens what the store's `Sealer` sealed; None once the subject's key is gone. Raises VaultFault."""

    def open_disclosure(self, subject: str, entry: AuditId, index: int, blob: bytes) -> bytes | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSource:
    """Where a bundle comes from, and what goes in."""

    units: SqlReads
    openers: Callable[[Connection, TenantId], Opener]
    tenant: TenantId
    head: SignedHead
    recordings: Path | None
    """The folder of recordings, or None to leave them out."""
    disclosures: bool


async def bundle_files(source: BundleSource) -> AsyncIterator[tuple[str, bytes]]:
    """(relative path, at most CHUNK bytes); the same path again continues the file."""
    yield bundle.CHECKPOINT, source.head.note
    yield bundle.VKEYS, f"{source.head.vkey}\n".encode()
    yield bundle.CONTENTS, bundle.WITHOUT_RECORDINGS if source.recordings is None else bundle.WITH_RECORDINGS
    ended: set[str] = set()
    async for path, entries in _entry_bundles(source):
        ended |= {name for entry in entries for name in _ended_recording(entry)}
        for piece in _pieces(tiles.encode_entries(entries)):
            yield path, piece
    async for path, data in _hash_tiles(source):
        yield path, data
    if source.disclosures:
        async for data in _disclosures(source):
            yield bundle.DISCLOSURES, data
    if source.recordings is not None:
        async for path, data in _recordings(source.recordings / source.tenant, ended):
            yield path, data


async def _entry_bundles(source: BundleSource) -> AsyncIterator[tuple[str, list[bytes]]]:
    for index, (path, width) in enumerate(tiles.tiles_of("entries", source.head.size)):
        span = _span(source, index, width)
        found = await source.units.read_sql(source.tenant, partial(_stored, span=span))
        yield path, found


def _stored(connection: Connection, span: dict[str, object]) -> list[bytes]:
    return [raw(entry) for entry in connection.execute(_ENTRIES, span).scalars()]


def raw(value: bytes | str) -> bytes:
    """A stored value's bytes. SQLite keeps whatever type was written: a row turned into text is still evidence."""
    return value.encode() if isinstance(value, str) else bytes(value)


async def _hash_tiles(source: BundleSource) -> AsyncIterator[tuple[str, bytes]]:
    level, count = 0, source.head.size
    while count:
        for index, (path, width) in enumerate(tiles.tiles_of(level, count)):
            data = await source.units.read_sql(
                source.tenant, partial(_tile, tenant=source.tenant, level=level, at=index)
            )
            if data is not None:
                yield path, data[: width * HASH_SIZE]
        level, count = level + 1, count // tiles.WIDTH


def _tile(connection: Connection, tenant: TenantId, level: int, at: int) -> bytes | None:
    try:
        return tree.tile(connection, tenant, level, at)
    except LogDamaged:
        return None  # its absence is what the verifier has to see


async def _disclosures(source: BundleSource) -> AsyncIterator[bytes]:
    yield b""  # the file is there also when nothing is disclosed
    for index, (_, width) in enumerate(tiles.tiles_of("entries", source.head.size)):
        span = _span(source, index, width)
        lines = await source.units.read_sql(source.tenant, partial(_opened, source=source, span=span))
        for piece in _pieces(b"".join(lines)):
            yield piece


def _opened(connection: Connection, source: BundleSource, span: dict[str, object]) -> list[bytes]:
    lines: list[bytes] = []
    opener = source.openers(connection, source.tenant)
    for row in connection.execute(_DISCLOSURES, span):
        try:
            entry = AuditId(parse_entry(raw(row.entry)).id)
            text = opener.open_disclosure(row.subject, entry, row.i, raw(row.blob))
        except (EntryError, VaultFault) as error:
            _log.warning("audit.disclosure_unreadable", tenant=source.tenant, seq=row.seq, why=type(error).__name__)
            continue
        if text is not None:
            lines.append(canonical.encode({"seq": row.seq, "text": text.decode()}) + b"\n")
    return lines


async def _recordings(folder: Path, ended: set[str]) -> AsyncIterator[tuple[str, bytes]]:
    """Sealed files of recordings whose end is in the log: one that still runs has frames that nothing vouches for."""
    found = await asyncio.to_thread(lambda: sorted(folder.glob("*/*/*/*/p*.grec")))
    for path in (path for path in found if path.parent.name in ended):
        name = f"{bundle.RECORDINGS}/{path.parent.name}/{path.name}"
        with await asyncio.to_thread(path.open, "rb") as file:
            while data := await asyncio.to_thread(file.read, CHUNK):
                yield name, data


def _ended_recording(data: bytes) -> Iterator[str]:
    try:
        entry = parse_entry(data)
    except EntryError:
        return
    if (recording := bundle.must_hold(entry)) is not None:
        yield recording


def _span(source: BundleSource, index: int, width: int) -> dict[str, object]:
    first = index * tiles.WIDTH
    return {"ten": source.tenant, "first": first, "end": first + width}


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), CHUNK):
        yield data[start : start + CHUNK]
