"""The signer's own memory: one row for each signature, on disk before the certificate leaves. Never rewritten.

Rows that are noted together share one write and one fsync; until it returned none of them is relied on. A Merkle log in
one file in the format of the audit log (recorder.entry, recorder.linelog), its heads signed by a key of its own. Rows
hold digests of commands, never commands (I-36). Also answers what was used once (I-12).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from broker.core.clock import from_micros, micros
from broker.core.errors import Fault
from broker.core.ids import TenantId
from broker.signer import elder
from broker.signer.files import open_log, put
from broker.signer.head_key import HeadKey
from broker.signer.rows import Field, encode_row
from broker.signer.spent import Spent
from recorder.checkpoint import Checkpoint
from recorder.entry import parse_entry
from recorder.errors import Invalid
from recorder.linelog import HEAD, LOG, VKEY, Past, must_begin_with, rows_of
from recorder.merkle import consistency_proof

__all__ = ["Field", "Journal", "JournalFault"]

STEM = "journal"
NAME = STEM + LOG
HEAD_ROWS = 256
"""Rows after which a head is signed unasked: what a crash leaves unsigned, and is read strictly at the next start."""
_GLASS = re.compile(rb'"glass":"([a-z]{2}_[a-z2-7]{26})"')
_USE = re.compile(rb'"use":"([0-9a-f]{64})"')
_TENANT = re.compile(rb'"tenant":"([a-z][a-z0-9-]*)"')
_TIME = re.compile(rb'"t":([0-9]+)')
_SECOND_US = 1_000_000
_ANY: Final = TenantId("")
"""Of a row from before rows said whose the credential is."""


class JournalFault(Fault):
    """The journal cannot be written or is not what this signer wrote: nothing may be signed."""


def _wall() -> datetime:
    return datetime.now(tz=UTC)


class Journal:
    """An open journal, locked for this process alone. Not safe for threads: the authority holds a lock.

    Args:
        directory: the signer's own; head, verifier key and head key lie there as well.
        now: the wall clock of rows and heads.

    Raises:
        JournalFault: another signer has it, others may read it, rows that were signed for are gone or changed.
    """

    __slots__ = (
        "_descriptor", "_directory", "_key", "_newest", "_noted_opened", "_noted_spent", "_now", "_opened", "_past",
        "_rows", "_signed", "_spent", "_torn",
    )  # fmt: skip

    def __init__(self, directory: Path, now: Callable[[], datetime] = _wall) -> None:
        self._directory, self._now = directory, now
        self._spent = Spent()
        self._opened: dict[tuple[TenantId, str], bytes] = {}
        self._newest = 0
        self._rows: list[bytes] = []
        """What waits for `commit`; the two below are what these rows say was used."""
        self._noted_spent, self._noted_opened = Spent(), dict[tuple[TenantId, str], bytes]()
        self._descriptor = open_log(directory / NAME, JournalFault)
        try:
            self._key = HeadKey.of(directory / f"{STEM}.key", new=not os.fstat(self._descriptor).st_size)
            self._past = Past()
            head = self._head()
            first = self._read(head)
            self._signed, self._torn = head.size, self._past.torn_bytes > 0
            self._begin(first)
        except (Invalid, elder.ElderFault) as error:
            os.close(self._descriptor)
            raise JournalFault(f"{directory / NAME}: {error}") from error
        except BaseException:
            os.close(self._descriptor)
            raise

    def append(self, fields: Mapping[str, Field]) -> None:
        """Adds one row and returns when it is on disk, as `note` and `commit` do."""
        self.note(fields)
        self.commit()

    def note(self, fields: Mapping[str, Field]) -> None:
        """Makes one row, which is on disk when `commit` returned; lists become `name.0`, `name.1`.

        What it says was used counts as used from now on: of two questions that share a commit the second finds it.

        Raises:
            JournalFault: it is no row.
        """
        try:
            row = encode_row(fields, self._now())
        except Invalid as error:
            raise JournalFault(f"not a row of the signer's journal: {error}") from error
        self._rows.append(row)
        self._noted_spent.take(row)
        self._noted_opened |= _opened_by(row)

    def commit(self) -> None:
        """Puts every noted row on disk, in their order, by one write and one fsync.

        Raises:
            JournalFault: none of them counts; what was half written is removed, now or before the next row.
        """
        rows, self._rows = self._rows, []
        self._noted_spent, self._noted_opened = Spent(), {}
        if not rows:
            return
        self._sign_due_head()
        try:
            self._write(b"".join(row + b"\n" for row in rows))
        except OSError as error:
            raise JournalFault("the signer's journal cannot be written") from error
        for row in rows:
            self._take(row)
            self._past.good_bytes += len(row) + 1
            self._past.leaves.append(row)
        with contextlib.suppress(JournalFault):  # these rows count; the next ones wait for their head
            self._sign_due_head()

    def used(self, record_sha256: bytes, made: datetime) -> bool:
        """Whether an approval of the record with this SHA-256 (32 bytes), made at `made`, was or may have been used."""
        return self._spent.has(record_sha256, made) or self._noted_spent.has(record_sha256, made)

    def opened(self, tenant: TenantId, glass: str) -> bytes | None:
        """SHA-256 of the use that a row says a sealed credential was opened with, ever; None where none does (I-62)."""
        known = self._opened | self._noted_opened if self._noted_opened else self._opened
        return known.get((tenant, glass), known.get((_ANY, glass)))

    def since_opened(self) -> datetime | None:
        """The latest time of a row since a sealed credential was opened last; None where none ever was."""
        return from_micros(self._newest) if self._opened else None

    def size(self) -> int:
        """How many rows."""
        return self._past.leaves.size()

    def sign_head(self) -> bytes:
        """The head over all rows as a signed note, kept beside the journal. Raises JournalFault."""
        leaves = self._past.leaves
        seconds = micros(self._now()) // _SECOND_US
        note = self._key.sign(
            Checkpoint(origin=self._key.origin, size=leaves.size(), root=leaves.root(), time_s=seconds)
        )
        try:
            put(self._directory / f"{STEM}{HEAD}", note)
        except OSError as error:
            raise JournalFault("the signer's journal cannot be written") from error
        self._signed = leaves.size()
        return note

    def growth(self, since: int) -> list[bytes]:
        """The proof that the first `since` rows are still where they were. Raises JournalFault: there are fewer."""
        try:
            return consistency_proof(since, self.size(), self._past.leaves.node)
        except Invalid as error:
            raise JournalFault("the signer's journal has fewer rows than that") from error

    @property
    def vkey(self) -> str:
        """What anyone needs to check its heads."""
        return self._key.vkey

    def close(self) -> None:
        """Signs the head and lets the file go."""
        with contextlib.suppress(JournalFault):
            self.sign_head()
        os.close(self._descriptor)

    # ---- the start ---------------------------------------------------------------------------------------------------
    def _read(self, head: Checkpoint) -> bytes:
        """Takes every row in and returns the first; Invalid where they do not begin with what `head` signed."""
        leaves, first = self._past.leaves, b""
        with open(os.dup(self._descriptor), "rb") as file:  # noqa: PTH123  our own descriptor
            file.seek(0)
            for row in rows_of(file, self._past):
                first = first or row
                self._take(row)
                if leaves.size() == head.size:
                    must_begin_with(leaves, head)
                elif leaves.size() > head.size:
                    parse_entry(row)  # no head vouches for it yet
        if leaves.size() <= head.size:
            must_begin_with(leaves, head)
        return first

    def _head(self) -> Checkpoint:
        """The head on disk; a new journal's is signed before its first row."""
        path = self._directory / f"{STEM}{HEAD}"
        if not path.exists():
            if os.fstat(self._descriptor).st_size:
                raise JournalFault(f"{path} is gone, and the journal is not empty")
            put(self._directory / f"{STEM}{VKEY}", self._key.vkey.encode() + b"\n")
            return self._key.read(self.sign_head())
        return self._key.read(path.read_bytes())

    def _begin(self, first: bytes) -> None:
        """The first row names the journal of the older format that this one goes on from, if there is one."""
        path, torn_bytes = self._directory / elder.NAME, self._past.torn_bytes
        if first:
            before = elder.read_begun(parse_entry(first), path)
        else:
            before = elder.read(path)
            self.append({"kind": "begun", **before.facts()})
        self._spent.keep(before.records)
        if torn_bytes:
            # a power cut inside a write: that signature never left, its half row must not stay in the way
            self.append({"kind": "recovered", "torn_bytes": torn_bytes})

    # ---- writing -----------------------------------------------------------------------------------------------------
    def _sign_due_head(self) -> None:
        if self.size() - self._signed >= HEAD_ROWS:
            self.sign_head()

    def _take(self, row: bytes) -> None:
        self._spent.take(row)
        opened, time = _opened_by(row), _TIME.search(row)
        if opened:
            self._opened |= opened
            self._newest = 0
        if time is not None:
            self._newest = max(self._newest, int(time[1]))

    def _write(self, lines: bytes) -> None:
        try:
            self._mend()
            self._torn = True
            _write_all(self._descriptor, lines)
            os.fsync(self._descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                self._mend()
            raise
        self._torn = False

    def _mend(self) -> None:
        if self._torn:
            os.ftruncate(self._descriptor, self._past.good_bytes)
            self._torn = False


def _opened_by(row: bytes) -> dict[tuple[TenantId, str], bytes]:
    """The sealed credential that a row says was opened, and the digest of its use; of other rows nothing."""
    glass = _GLASS.search(row)
    use = _USE.search(row) if glass else None
    if glass is None or use is None:
        return {}
    whose = _TENANT.search(row)
    return {(TenantId(whose[1].decode()) if whose else _ANY, glass[1].decode()): bytes.fromhex(use[1].decode())}


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
