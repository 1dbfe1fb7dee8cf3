"""The Merkle tree's promises, over every small tree there is (I-32)."""

from __future__ import annotations

import hashlib

import pytest

from recorder import merkle
from recorder.errors import ProofError

MOST = 100
LEAVES = [merkle.leaf_hash(b"%d" % n) for n in range(MOST)]
CACHE: dict[tuple[int, int], bytes] = {}
WRONG = bytes(32)


def node(level: int, index: int) -> bytes:
    """A complete subtree of LEAVES, computed once."""
    if (level, index) not in CACHE:
        CACHE[level, index] = merkle.nodes_of(LEAVES)(level, index)
    return CACHE[level, index]


def recursive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word: the definition that the frontier must agree with."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + recursive_root(leaves[:split]) + recursive_root(leaves[split:])).digest()


ROOTS = [recursive_root(LEAVES[:n]) for n in range(MOST + 1)]


def test_roots_follow_the_definition() -> None:
    """The frontier gives the defined root at every size, and survives being stored at every size."""
    tree = merkle.CompactRange()
    for size in range(MOST + 1):
        assert tree.size() == size
        assert tree.root() == ROOTS[size]
        stored = merkle.CompactRange.decode(tree.encode())
        assert (stored.size(), stored.root(), stored.encode()) == (size, ROOTS[size], tree.encode())
        if size < MOST:
            copy = tree.copy()
            tree.append(LEAVES[size])
            assert copy.root() == ROOTS[size]


def test_every_inclusion_proof() -> None:
    """Every leaf of every tree up to 100 proves itself; nothing else does."""
    for size in range(1, MOST + 1):
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, node)
            merkle.verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size])
            for bad in (
                (WRONG, index, size, proof, ROOTS[size]),
                (LEAVES[index], index, size, proof, ROOTS[size - 1]),
                (LEAVES[index], index, size, [*proof, WRONG], ROOTS[size]),
                (LEAVES[index], (index + 1) % size if size > 1 else 1, size, proof, ROOTS[size]),
            ):
                with pytest.raises(ProofError):
                    merkle.verify_inclusion(*bad)
            if proof:
                with pytest.raises(ProofError):
                    merkle.verify_inclusion(LEAVES[index], index, size, proof[:-1], ROOTS[size])


def test_every_consistency_proof() -> None:
    """Every smaller tree proves that it is a prefix of every larger one up to 100; another history does not."""
    for size in range(MOST + 1):
        for old in range(size + 1):
            proof = merkle.consistency_proof(old, size, node)
            merkle.verify_consistency(old, size, proof, ROOTS[old], ROOTS[size])
            with pytest.raises(ProofError):
                merkle.verify_consistency(old, size, proof, WRONG, ROOTS[size])
            with pytest.raises(ProofError):
                merkle.verify_consistency(old, size, [*proof, WRONG], ROOTS[old], ROOTS[size])
            if proof:
                with pytest.raises(ProofError):
                    merkle.verify_consistency(old, size, [], ROOTS[old], ROOTS[size])
            if proof:
                with pytest.raises(ProofError):
                    merkle.verify_consistency(old, size, proof, ROOTS[old], WRONG)
                with pytest.raises(ProofError):
                    merkle.verify_consistency(old, size, proof[:-1], ROOTS[old], ROOTS[size])
                flipped = [bytes([proof[0][0] ^ 1]) + proof[0][1:], *proof[1:]]
                with pytest.raises(ProofError):
                    merkle.verify_consistency(old, size, flipped, ROOTS[old], ROOTS[size])


def test_a_fork_after_signing_is_found() -> None:
    """A log that rewrote one old leaf cannot prove that it grew out of what was pinned."""
    forked = [*LEAVES[:10], WRONG, *LEAVES[11:]]
    for pinned in range(11, 40):
        proof = merkle.consistency_proof(pinned, MOST, merkle.nodes_of(forked))
        with pytest.raises(ProofError):
            merkle.verify_consistency(pinned, MOST, proof, ROOTS[pinned], merkle.root_of(forked))


def test_an_inner_node_is_not_a_leaf() -> None:
    """A subtree's root passed off as a leaf, with the shorter path that would fit, is refused by its length."""
    with pytest.raises(ProofError, match="too short"):
        merkle.verify_inclusion(node(1, 0), 0, 4, [node(1, 1)], ROOTS[4])


def test_questions_that_make_no_sense() -> None:
    """Indexes and sizes outside the tree are refused, on both sides."""
    for index, size in ((0, 0), (5, 5), (-1, 5)):
        with pytest.raises(ProofError):
            merkle.inclusion_proof(index, size, node)
        with pytest.raises(ProofError):
            merkle.verify_inclusion(WRONG, index, size, [], WRONG)
    for old, size in ((6, 5), (-1, 5)):
        with pytest.raises(ProofError):
            merkle.consistency_proof(old, size, node)
        with pytest.raises(ProofError):
            merkle.verify_consistency(old, size, [], WRONG, WRONG)
    with pytest.raises(ProofError, match="two roots"):
        merkle.verify_consistency(5, 5, [], ROOTS[5], WRONG)


@pytest.mark.parametrize("leaf", [b"", b"an entry, not its hash", bytes(31), bytes(33)])
def test_only_hashes_are_leaves(leaf: bytes) -> None:
    """An entry in place of its leaf hash is refused everywhere: it would open second-preimage doors."""
    with pytest.raises(ProofError):
        merkle.CompactRange().append(leaf)
    with pytest.raises(ProofError):
        merkle.verify_inclusion(leaf, 0, 1, [], WRONG)
    with pytest.raises(ProofError):
        merkle.verify_inclusion(WRONG, 0, 2, [leaf], WRONG)
    with pytest.raises(ProofError):
        merkle.verify_consistency(1, 2, [leaf], WRONG, WRONG)


@pytest.mark.parametrize("data", [b"", bytes(7), bytes(8) + WRONG, (3).to_bytes(8) + WRONG, b"\xff" * 8 + WRONG * 64])
def test_a_damaged_frontier_is_refused(data: bytes) -> None:
    """A stored frontier that does not fit its size never becomes a tree."""
    with pytest.raises(ProofError):
        merkle.CompactRange.decode(data)
