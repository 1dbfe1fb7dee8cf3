"""A Merkle log in one file, an entry a line, its signed head beside it. Reads and compares; writes and signs nothing.

<name>.log         the entries, each followed by a newline (canonical JSON holds none)
<name>.checkpoint  the newest signed head; rows behind it are whole, and not signed for yet
<name>.vkey        the verifier key; an auditor compares it with the one they pinned
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from recorder.checkpoint import Checkpoint
from recorder.entry import MAX_ENTRY
from recorder.errors import ProofError
from recorder.merkle import EMPTY_ROOT, HASH_SIZE, CompactRange, leaf_hash, node_hash

LOG, HEAD, VKEY = ".log", ".checkpoint", ".vkey"
_BLOCK_LEVEL = 8  # subtrees of 256 rows and more are remembered once they are complete


class Leaves:
    """The leaf hashes of a growing log, 32 bytes each, and what proofs over them need. Not safe for threads."""

    __slots__ = ("_hashes", "_nodes", "_tree")

    def __init__(self) -> None:
        self._hashes = bytearray()
        self._tree = CompactRange()
        self._nodes: dict[tuple[int, int], bytes] = {}

    def append(self, row: bytes) -> None:
        """Takes one row in."""
        leaf = leaf_hash(row)
        self._hashes += leaf
        self._tree.append(leaf)

    def size(self) -> int:
        """How many rows."""
        return self._tree.size()

    def root(self) -> bytes:
        """The root over all of them."""
        return self._tree.root()

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree: a merkle.Node over these rows."""
        if level == 0:
            return bytes(self._hashes[index * HASH_SIZE : (index + 1) * HASH_SIZE])
        found = self._nodes.get((level, index))
        if found is None:
            found = node_hash(self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1))
            if level >= _BLOCK_LEVEL:
                self._nodes[level, index] = found
        return found

    def root_at(self, size: int) -> bytes:
        """The root over the first `size` rows. Raises ProofError when there are fewer."""
        if not 0 <= size <= self.size():
            raise ProofError(f"there are {self.size()} rows, not {size}")
        if size == 0:
            return EMPTY_ROOT
        root, at = b"", size
        while at:  # the peaks, smallest first
            level = (at & -at).bit_length() - 1
            peak = self.node(level, (at >> level) - 1)
            root = node_hash(peak, root) if root else peak
            at &= at - 1
        return root


@dataclass(slots=True, kw_only=True)
class Past:
    """What a file holds: its whole rows, and the bytes of a broken one behind them."""

    leaves: Leaves = field(default_factory=Leaves)
    good_bytes: int = 0
    torn_bytes: int = 0


def rows_of(file: IO[bytes], past: Past) -> Iterator[bytes]:
    """The whole rows in order, each already counted in `past`; a broken one at the end is only measured."""
    while raw := file.readline(MAX_ENTRY + 2):
        if not raw.endswith(b"\n"):
            past.torn_bytes = len(raw) + len(file.read())
            return
        past.leaves.append(raw[:-1])
        past.good_bytes += len(raw)
        yield raw[:-1]


def must_begin_with(leaves: Leaves, head: Checkpoint) -> None:
    """Raise ProofError unless the rows begin with everything that this head signed."""
    if head.size > leaves.size():
        raise ProofError(f"it signed {head.size} rows, {leaves.size()} are here")
    if (leaves.root() if head.size == leaves.size() else leaves.root_at(head.size)) != head.root:
        raise ProofError(f"the first {head.size} rows are not those it signed")
