"""The RFC 6962 Merkle tree: leaves, roots, proofs. Reads no file, holds no log: hashes in, hashes or ProofError out.

Everything below works on leaf *hashes* (32 bytes, made by `leaf_hash`), never on entries, and says so by refusing any
other length. Verification follows RFC 9162 sections 2.1.3.2 and 2.1.4.2, step by step.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from recorder.errors import ProofError

HASH_SIZE = 32  # bytes
EMPTY_ROOT = hashlib.sha256(b"").digest()
_SIZE_BYTES = 8
_MAX_SIZE = 2**63  # leaves; keeps every size in a signed 64-bit column

Node: TypeAlias = Callable[[int, int], bytes]
"""(level, index) -> hash of the complete subtree of 2**level leaves that starts at leaf index * 2**level."""


def leaf_hash(data: bytes) -> bytes:
    """sha256(0x00 || data), 32 bytes. Source: RFC 6962 section 2.1."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """sha256(0x01 || left || right), 32 bytes. Source: RFC 6962 section 2.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class CompactRange:
    """The frontier of a growing tree: at most one hash per level, so a log of 2^30 leaves is 30 hashes of state."""

    __slots__ = ("_peaks", "_size")

    def __init__(self) -> None:
        self._size = 0
        self._peaks: list[bytes] = []  # largest subtree first

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        peak = _hash(leaf)
        rest = self._size
        while rest & 1:
            peak = node_hash(self._peaks.pop(), peak)
            rest >>= 1
        self._peaks.append(peak)
        self._size += 1

    def root(self) -> bytes:
        """The root over all leaves so far; sha256("") of an empty tree."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root

    def size(self) -> int:
        """How many leaves."""
        return self._size

    def copy(self) -> CompactRange:
        """An independent range with the same leaves: try a batch, keep it only when its transaction commits."""
        other = CompactRange()
        other._size, other._peaks = self._size, list(self._peaks)
        return other

    def encode(self) -> bytes:
        """u64 size || peaks, largest subtree first, 32 bytes each."""
        return self._size.to_bytes(_SIZE_BYTES, "big") + b"".join(self._peaks)

    @classmethod
    def decode(cls, data: bytes) -> CompactRange:
        """Inverse of `encode`; ProofError unless there is exactly one peak for each set bit of the size."""
        size = int.from_bytes(data[:_SIZE_BYTES], "big")
        peaks = data[_SIZE_BYTES:]
        if len(data) < _SIZE_BYTES or size >= _MAX_SIZE or len(peaks) != HASH_SIZE * size.bit_count():
            raise ProofError("stored frontier does not fit its size")
        self = cls()
        self._size = size
        self._peaks = [peaks[i : i + HASH_SIZE] for i in range(0, len(peaks), HASH_SIZE)]
        return self


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over these leaf hashes."""
    tree = CompactRange()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


def nodes_of(leaves: Sequence[bytes]) -> Node:
    """A `Node` getter over leaf hashes held in memory: for tests and small trees. A log gives its tiles instead."""

    def node(level: int, index: int) -> bytes:
        return root_of(leaves[index << level : (index + 1) << level])

    return node


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """The audit path of leaf `index` in the tree of `size` leaves, lowest level first. Source: RFC 9162 2.1.3.1."""
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size}")
    path: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(_subtree(middle, high, node))
            high = middle
        else:
            path.append(_subtree(low, middle, node))
            low = middle
    return path[::-1]


def consistency_proof(old_size: int, size: int, node: Node) -> list[bytes]:
    """The proof that the tree of `old_size` is a prefix of the tree of `size`. Source: RFC 9162 section 2.1.4.1."""
    if not 0 <= old_size <= size:
        raise ProofError(f"{old_size} leaves are not a prefix of {size}")
    if old_size in {0, size}:
        return []
    path: list[bytes] = []
    low, high, whole = 0, size, True
    while old_size != high:
        middle = low + _split(high - low)
        if old_size <= middle:
            path.append(_subtree(middle, high, node))
            high = middle
        else:
            path.append(_subtree(low, middle, node))
            low, whole = middle, False
    if not whole:
        path.append(_subtree(low, high, node))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Raise ProofError unless `leaf` is number `index` of the tree with `size` leaves and this root."""
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size}")
    node, last, computed = index, size - 1, _hash(leaf)
    for sibling in proof:
        if last == 0:
            raise ProofError("inclusion proof is too long")
        if node & 1 or node == last:
            computed = node_hash(_hash(sibling), computed)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            computed = node_hash(computed, _hash(sibling))
        node, last = node >> 1, last >> 1
    if last != 0:
        raise ProofError("inclusion proof is too short")
    _require_equal(computed, root, "inclusion proof does not lead to the root")


def verify_consistency(old_size: int, size: int, proof: Sequence[bytes], old_root: bytes, root: bytes) -> None:
    """Raise ProofError unless the tree (old_size, old_root) is a prefix of the tree (size, root)."""
    if not 0 <= old_size <= size:
        raise ProofError(f"{old_size} leaves are not a prefix of {size}")
    if old_size in {0, size}:
        if proof:
            raise ProofError("consistency proof is too long")
        if old_size == 0:
            _require_equal(EMPTY_ROOT, old_root, "the empty tree has another root")
        else:
            _require_equal(old_root, root, "same size, two roots: the log shows different histories")
        return
    _verify_growth(old_size, size, proof, old_root, root)


def _verify_growth(old_size: int, size: int, proof: Sequence[bytes], old_root: bytes, root: bytes) -> None:
    node, last = old_size - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    path = [_hash(part) for part in proof]
    if node == 0:
        path.insert(0, old_root)  # the old tree is a complete subtree: its root is the seed
    if not path:
        raise ProofError("consistency proof is too short")
    old = new = path[0]
    for part in path[1:]:
        if last == 0:
            raise ProofError("consistency proof is too long")
        if node & 1 or node == last:
            old, new = node_hash(part, old), node_hash(part, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, part)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise ProofError("consistency proof is too short")
    _require_equal(old, old_root, "consistency proof does not lead to the old root")
    _require_equal(new, root, "consistency proof does not lead to the new root")


def _subtree(low: int, high: int, node: Node) -> bytes:
    """The root over leaves [low, high), out of complete subtrees."""
    width = high - low
    if width & (width - 1) == 0:
        level = width.bit_length() - 1
        return _hash(node(level, low >> level))
    middle = low + _split(width)
    return node_hash(_subtree(low, middle, node), _subtree(middle, high, node))


def _split(width: int) -> int:
    """The largest power of two smaller than width (width >= 2)."""
    return 1 << ((width - 1).bit_length() - 1)


def _hash(data: bytes) -> bytes:
    if len(data) != HASH_SIZE:
        raise ProofError(f"a hash has 32 bytes, not {len(data)}")
    return data


def _require_equal(computed: bytes, expected: bytes, message: str) -> None:
    if not hmac.compare_digest(computed, expected):
        raise ProofError(message)
