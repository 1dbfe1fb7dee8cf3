"""The Merkle tree of one log as rows: a head, and tiles of 256 hashes. Never sees an entry's meaning, never commits.

A tile (level, idx) holds the hashes of level 8 * level, 256 a row, 32 bytes each; the last one of a level is partial
and grows in place. Hashes once written never change, so a reader may use a wider tile than the tree it asks about.
Source: https://c2sp.org/tlog-tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, insert, select, update

from broker.adapters.audit_log.errors import LogDamaged
from broker.adapters.store.hot import Hot
from broker.adapters.store.schema import audit_head, audit_tile
from broker.core.ids import TenantId
from recorder.errors import ProofError
from recorder.merkle import EMPTY_ROOT, HASH_SIZE, CompactRange, Node, root_of

TILE_WIDTH = 256  # hashes; C2SP tlog-tiles
_TILE_LEVELS = 8  # tree levels that a full tile spans: 2**8 = TILE_WIDTH

_HEAD_OF = select(audit_head.c.size, audit_head.c.root, audit_head.c.frontier).where(
    audit_head.c.tenant == bindparam("ten")
)
_HEAD, _HEAD_LOCKED = Hot(_HEAD_OF), Hot(_HEAD_OF.with_for_update())
_MOVE_HEAD = Hot(
    update(audit_head)
    .where(audit_head.c.tenant == bindparam("ten"))
    .values(size=bindparam("leaves"), root=bindparam("top"), frontier=bindparam("peaks"))
)
_NEW_TILE = Hot(insert(audit_tile), columns=("tenant", "level", "idx", "width", "data"))
_TILE_AT = select(audit_tile.c.data).where(
    audit_tile.c.tenant == bindparam("ten"), audit_tile.c.level == bindparam("lev"), audit_tile.c.idx == bindparam("at")
)
_TILE = Hot(_TILE_AT)
_WIDEN = Hot(
    update(audit_tile)
    .where(
        audit_tile.c.tenant == bindparam("ten"),
        audit_tile.c.level == bindparam("lev"),
        audit_tile.c.idx == bindparam("at"),
    )
    .values(width=bindparam("hashes"), data=bindparam("bytes"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a log has come to: `size` leaves under `root`, 32 bytes."""

    size: int
    root: bytes


def head(connection: Connection, tenant: TenantId) -> Head:
    """The committed head; that of the empty tree while nothing was sequenced.

    Raises:
        LogDamaged: size, root and frontier of the row do not belong together.
    """
    stored, _ = _stored(connection, tenant, lock=False)
    return stored


def grow(connection: Connection, tenant: TenantId, leaves: Sequence[bytes]) -> int:
    """Append leaf hashes: head and tiles move together. Returns the leaf index of the first.

    Locks the head row where rows can be locked; the caller makes sure that nobody else sequences this log.

    Raises:
        LogDamaged: the stored head or a partial tile does not fit its size.
    """
    before, frontier = _stored(connection, tenant, lock=True)
    for leaf in leaves:
        frontier.append(leaf)
    _grow_tiles(connection, tenant, before.size, leaves)
    size, root, peaks = frontier.size(), frontier.root(), frontier.encode()
    if before.size:
        _MOVE_HEAD.run(connection, {"ten": tenant, "leaves": size, "top": root, "peaks": peaks})
    else:
        connection.execute(insert(audit_head).values(tenant=tenant, size=size, root=root, frontier=peaks))
    return before.size


def nodes(connection: Connection, tenant: TenantId) -> Node:
    """A getter of subtree hashes for recorder.merkle's proofs; keeps the tiles it read."""
    read: dict[tuple[int, int], bytes] = {}

    def node(level: int, index: int) -> bytes:
        tile_level, span = divmod(level, _TILE_LEVELS)
        first = index << span
        at, offset = divmod(first, TILE_WIDTH)
        if (tile_level, at) not in read:
            read[tile_level, at] = tile(connection, tenant, tile_level, at)
        part = read[tile_level, at][offset * HASH_SIZE : (offset + (1 << span)) * HASH_SIZE]
        if len(part) != HASH_SIZE << span:
            raise LogDamaged(f"tile {tile_level}/{at} is shorter than its tree")
        return root_of(hashes_of(part))

    return node


def tile(connection: Connection, tenant: TenantId, level: int, at: int) -> bytes:
    """The hashes of one tile, as wide as it is by now. LogDamaged when it is not there."""
    rows = _TILE.rows(connection, {"ten": tenant, "lev": level, "at": at})
    if not rows:
        raise LogDamaged(f"tile {level}/{at} is missing")
    return bytes(rows[0][0])


def hashes_of(data: bytes) -> list[bytes]:
    """A tile's bytes as its hashes."""
    return [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]


def _stored(connection: Connection, tenant: TenantId, *, lock: bool) -> tuple[Head, CompactRange]:
    rows = (_HEAD_LOCKED if lock else _HEAD).rows(connection, {"ten": tenant})
    if not rows:
        return Head(size=0, root=EMPTY_ROOT), CompactRange()
    size, root, peaks = rows[0]
    try:
        frontier = CompactRange.decode(bytes(peaks))
    except ProofError as error:
        raise LogDamaged("the stored frontier does not fit its size") from error
    if frontier.size() != size or frontier.root() != bytes(root):
        raise LogDamaged("the stored head does not fit its frontier")
    return Head(size=size, root=bytes(root)), frontier


def _grow_tiles(connection: Connection, tenant: TenantId, start: int, hashes: Sequence[bytes]) -> None:
    """Write `hashes`, the first at index `start` of their level; full tiles' roots go one level up."""
    level = 0
    while hashes:
        at, offset = divmod(start, TILE_WIDTH)
        partial = tile(connection, tenant, level, at)[: offset * HASH_SIZE] if offset else b""
        if len(partial) != offset * HASH_SIZE:
            raise LogDamaged(f"tile {level}/{at} is shorter than its tree")
        grown = [*hashes_of(partial), *hashes]
        tiles = [grown[i : i + TILE_WIDTH] for i in range(0, len(grown), TILE_WIDTH)]
        _write(connection, tenant, level, at, tiles, widen=bool(offset))
        start, level = at, level + 1
        hashes = [root_of(full) for full in tiles if len(full) == TILE_WIDTH]


def _write(
    connection: Connection, tenant: TenantId, level: int, at: int, tiles: Sequence[Sequence[bytes]], *, widen: bool
) -> None:
    rows = [
        {"tenant": tenant, "level": level, "idx": at + i, "width": len(part), "data": b"".join(part)}
        for i, part in enumerate(tiles)
    ]
    if widen:
        first = rows.pop(0)
        _WIDEN.run(
            connection, {"ten": tenant, "lev": level, "at": at, "hashes": first["width"], "bytes": first["data"]}
        )
    if rows:
        _NEW_TILE.run(connection, *rows)
