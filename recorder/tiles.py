"""The tile layout of a log: paths, entry bundles, hash tiles. Bytes and names only; writes nothing.

Source: https://c2sp.org/tlog-tiles. A tile is 256 wide and 8 levels high; tile level L holds the roots of complete
subtrees of 256^L leaves. An entry bundle holds 256 entries, each behind a u16 length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from recorder.errors import ProofError
from recorder.merkle import HASH_SIZE, root_of

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 256
_GROUP = 1000  # path elements of three digits
_LENGTH = 2  # bytes before each entry


def tile_path(level: int | str, index: int, width: int = WIDTH) -> str:
    """`tile/<level>/<index>[.p/<width>]`; level "entries" names an entry bundle, a width below 256 a partial tile."""
    groups = [f"{index % _GROUP:03d}"]
    while index >= _GROUP:
        index //= _GROUP
        groups.insert(0, f"x{index % _GROUP:03d}")
    partial = "" if width == WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(groups)}{partial}"


def tiles_of(level: int | str, count: int) -> Iterator[tuple[str, int]]:
    """(path, width) of each tile that `count` nodes or entries fill at this level."""
    for index in range(count // WIDTH):
        yield tile_path(level, index), WIDTH
    if count % WIDTH:
        yield tile_path(level, count // WIDTH, count % WIDTH), count % WIDTH


def encode_entries(entries: list[bytes]) -> bytes:
    """An entry bundle."""
    return b"".join(len(entry).to_bytes(_LENGTH, "big") + entry for entry in entries)


def decode_entries(data: bytes) -> list[bytes]:
    """The entries of a bundle; ProofError when it ends inside one."""
    entries: list[bytes] = []
    offset = 0
    while offset < len(data):
        length = int.from_bytes(data[offset : offset + _LENGTH], "big")
        entry = data[offset + _LENGTH : offset + _LENGTH + length]
        if len(entry) != length or offset + _LENGTH > len(data):
            raise ProofError("entry bundle ends inside an entry")
        entries.append(entry)
        offset += _LENGTH + length
    return entries


def decode_hashes(data: bytes) -> list[bytes]:
    """The hashes of a hash tile."""
    if len(data) % HASH_SIZE:
        raise ProofError("hash tile ends inside a hash")
    return [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]


class TileStack:
    """Builds the hash tiles of a growing log: full ones as they fill, partial ones at the end."""

    __slots__ = ("_levels",)

    def __init__(self) -> None:
        self._levels: list[tuple[int, list[bytes]]] = []  # (full tiles so far, hashes of the growing one)

    def append(self, leaf: bytes) -> Iterator[tuple[str, bytes]]:
        """Add a leaf hash; yields (path, bytes) of each tile that it fills."""
        level, node = 0, leaf
        while True:
            if level == len(self._levels):
                self._levels.append((0, []))
            full, hashes = self._levels[level]
            hashes.append(node)
            if len(hashes) < WIDTH:
                return
            yield tile_path(level, full), b"".join(hashes)
            self._levels[level] = (full + 1, [])
            level, node = level + 1, root_of(hashes)

    def partial(self) -> Iterator[tuple[str, bytes]]:
        """(path, bytes) of the tiles that are not full."""
        for level, (full, hashes) in enumerate(self._levels):
            if hashes:
                yield tile_path(level, full, len(hashes)), b"".join(hashes)
