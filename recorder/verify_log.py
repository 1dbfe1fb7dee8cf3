"""Checks the log of a bundle row by row: entries, tree, tiles, disclosures. Keyless, offline; names every wrong row."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING

from recorder import bundle, tiles
from recorder.entry import Entry, digest_of, parse_entry, read_disclosure
from recorder.errors import EntryError, Invalid, ProofError
from recorder.merkle import CompactRange, leaf_hash, root_of
from recorder.track import PartCheckpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from recorder.checkpoint import Checkpoint

_MAX_LISTED = 20  # rows named per kind of problem; the rest is counted
_RECORDING_CODES = frozenset({"RC1001I", "RC1002I", "RC1003I", "RC1004W", "RC1005E"})
_CLOSED = "RC1003I"
_MAY_COMMIT_TO_NOTHING = frozenset({"RC1004W"})  # a recording that was lost with its broker
_ERASED = "AU5001I"
_RANGES = re.compile(r"\d{1,15}(-\d{1,15})?(,\d{1,15}(-\d{1,15})?)*")
_HASH = re.compile(r"[0-9a-f]{64}")


class LogCheck:
    """One pass over a bundle's log.

    Attributes:
        problems: what is wrong, with the row's number.
        notes: what could not be compared.
        tenant: whose log the origin says this is, empty for a name of another shape.
        recordings: recording -> what the log committed to.
        sessions: recording -> session.
        ended: the recordings that a bundle with recordings holds.
    """

    def __init__(self, directory: Path, head: Checkpoint) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.recordings: dict[str, list[PartCheckpoint]] = {}
        self.sessions: dict[str, str] = {}
        self.ended: set[str] = set()
        self.tenant = tenant_of(head.origin)
        self._directory = directory
        self._head = head
        self._leaves: list[bytes] = []
        self._ids: dict[str, int] = {}
        self._digests: dict[int, tuple[str, ...]] = {}
        self._erased_rows: defaultdict[int, set[int]] = defaultdict(set)
        self._erased: list[tuple[int, int, int]] = []  # first row, last row, row of the event that says so

    def run(self) -> None:
        """Do all checks. Problems are collected, not raised."""
        for seq, data in self._rows():
            self._leaves.append(leaf_hash(data))
            self._check_row(seq, data)
        self._check_tree()
        self._check_files()
        self._check_disclosures()

    def require_prefix(self, pin: Checkpoint) -> None:
        """Raise ProofError unless the rows here begin with everything that this earlier checkpoint signed."""
        if pin.size > len(self._leaves):
            raise ProofError(f"it signed {pin.size} rows, {len(self._leaves)} are here")
        if root_of(self._leaves[: pin.size]) != pin.root:
            raise ProofError(f"the first {pin.size} rows are not those it signed")

    def _rows(self) -> Iterator[tuple[int, bytes]]:
        seq = 0
        for path, width in tiles.tiles_of("entries", self._head.size):
            try:
                entries = tiles.decode_entries((self._directory / path).read_bytes())
            except (OSError, ProofError) as error:
                self.problems.append(f"rows {seq} to {seq + width - 1}: {path}: {_reason(error)}")
                return
            yield from enumerate(entries, start=seq)
            if len(entries) != width:
                self.problems.append(
                    f"row {seq + min(len(entries), width)}: {path} holds {len(entries)} rows, not {width}"
                )
                return
            seq += width

    def _check_row(self, seq: int, data: bytes) -> None:
        try:
            entry = parse_entry(data)
        except EntryError as error:
            self.problems.append(f"row {seq}: {error}")
            return
        first = self._ids.setdefault(entry.id, seq)
        if first != seq:
            self.problems.append(f"row {seq}: repeats the event of row {first}")
        if self.tenant and entry.fields.get("ten", self.tenant) != self.tenant:
            self.problems.append(f"row {seq}: belongs to tenant {entry.fields['ten']}")
        if entry.digests:
            self._digests[seq] = entry.digests
        if entry.code == _ERASED:
            self._note_erasure(seq, entry)
        if entry.code in _RECORDING_CODES:
            self._note_recording(seq, entry)

    def _note_erasure(self, seq: int, entry: Entry) -> None:
        ranges = entry.fields.get("ranges")
        if not isinstance(ranges, str) or not _RANGES.fullmatch(ranges):
            self.problems.append(f"row {seq}: does not say which rows were erased")
            return
        for part in ranges.split(","):
            first, _, last = part.partition("-")
            self._erased.append((int(first), int(last or first), seq))

    def _note_recording(self, seq: int, entry: Entry) -> None:
        fields = entry.fields
        rec, part, leaves, root = (fields.get(name) for name in ("rec", "part", "leaves", "root"))
        if entry.code in _MAY_COMMIT_TO_NOTHING and part is leaves is root is None:
            return
        if entry.code == "RC1005E" and root is None:
            return  # a recorder that failed may have nothing to commit to
        if type(part) is not int or type(leaves) is not int or not isinstance(root, str) or not _HASH.fullmatch(root):
            self.problems.append(f"row {seq}: a recording's commitment is incomplete")
            return
        commitment = PartCheckpoint(
            rec=str(rec), part=part, leaves=leaves, root=bytes.fromhex(root), final=entry.code == _CLOSED
        )
        self.recordings.setdefault(str(rec), []).append(commitment)
        if bundle.must_hold(entry) is not None:
            self.ended.add(str(rec))
        if "session" in fields:
            self.sessions[str(rec)] = str(fields["session"])

    def _check_tree(self) -> None:
        tree = CompactRange()
        for leaf in self._leaves:
            tree.append(leaf)
        rooted = tree.size() == self._head.size and tree.root() == self._head.root
        named = self._compare_tiles()
        if not rooted:
            text = f"the {tree.size()} rows here are not the {self._head.size} that were signed"
            self.problems.append(text if named else f"{text}; the tiles cannot tell which row differs")

    def _compare_tiles(self) -> bool:
        """Compare every hash tile with the rows; True when the signed root itself vouches for the tiles."""
        level, nodes, width = 0, self._leaves, self._head.size
        vouched = False
        while width:
            stored = self._stored(level, width)
            vouched = vouched or (level == 0 and len(stored) == width and root_of(stored) == self._head.root)
            differing = [i for i, (a, b) in enumerate(zip(nodes, stored, strict=False)) if a != b]
            for index in differing[:_MAX_LISTED]:
                what = f"row {index}" if level == 0 else f"rows {index << 8 * level} to {(index + 1 << 8 * level) - 1}"
                self.problems.append(f"{what}: not what hash tile {level} says")
            if len(differing) > _MAX_LISTED:
                self.problems.append(f"{len(differing) - _MAX_LISTED} more differ from hash tile {level}")
            full = len(nodes) // tiles.WIDTH * tiles.WIDTH
            nodes = [root_of(nodes[i : i + tiles.WIDTH]) for i in range(0, full, tiles.WIDTH)]
            level, width = level + 1, width // tiles.WIDTH
        return vouched

    def _stored(self, level: int, count: int) -> list[bytes]:
        found: list[bytes] = []
        for path, width in tiles.tiles_of(level, count):
            try:
                hashes = tiles.decode_hashes((self._directory / path).read_bytes())
                if len(hashes) != width:
                    raise ProofError(f"holds {len(hashes)} hashes, not {width}")
            except (OSError, ProofError) as error:
                self.problems.append(f"{path}: {_reason(error)}")
                return found
            found += hashes
        return found

    def _check_files(self) -> None:
        """Nothing under tile/ that the checkpoint's size does not call for: no hidden tail of rows."""
        known = {path for path, _ in tiles.tiles_of("entries", self._head.size)}
        level, count = 0, self._head.size
        while count:
            known |= {path for path, _ in tiles.tiles_of(level, count)}
            level, count = level + 1, count // tiles.WIDTH
        for path in sorted((self._directory / "tile").rglob("*")):
            name = path.relative_to(self._directory).as_posix()
            if not path.is_dir() and name not in known:
                self.problems.append(f"{name}: not part of a log of {self._head.size} rows")

    def _check_disclosures(self) -> None:
        path = self._directory / bundle.DISCLOSURES
        if not path.exists():
            self.notes.append("no disclosures in this bundle: personal fields stay hidden")
            return
        told: set[tuple[int, str]] = set()
        with path.open("rb") as source:
            for number, line in enumerate(source, start=1):
                self._check_disclosure(number, line, told)
        for seq, digests in self._digests.items():
            for digest in digests:
                if (seq, digest) not in told:
                    self._explain_missing(seq)
        self.notes += [f"{len(rows)} rows erased per row {event}" for event, rows in self._erased_rows.items()]

    def _check_disclosure(self, number: int, line: bytes, told: set[tuple[int, str]]) -> None:
        try:
            document = json.loads(line)
            seq, text = int(document["seq"]), document["text"].encode()
            read_disclosure(text)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, Invalid):
            self.problems.append(f"{bundle.DISCLOSURES} line {number}: not a disclosure")
            return
        digest = digest_of(text)
        if digest not in self._digests.get(seq, ()):
            self.problems.append(f"row {seq}: disclosure on line {number} is not what the row committed to")
        told.add((seq, digest))

    def _explain_missing(self, seq: int) -> None:
        for first, last, event in self._erased:
            # what is written after an erasure was not there to be erased
            if first <= seq <= last and seq < event:
                self._erased_rows[event].add(seq)
                return
        self.problems.append(f"row {seq}: a disclosure is missing, and no row says that it was erased")


def tenant_of(origin: str) -> str:
    """The tenant in an origin `<domain>/<cluster>/audit/<tenant>[/e<n>]`; empty for a name of another shape."""
    _, _, rest = origin.partition("/audit/")
    return rest.partition("/")[0]


def _reason(error: Exception) -> str:
    return error.strerror or "unreadable" if isinstance(error, OSError) else str(error)
