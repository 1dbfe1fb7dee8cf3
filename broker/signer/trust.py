"""The signer's own file of whom and what it believes: one line for each statement, chained, never rewritten.

A line is canonical JSON whose `prev` is the SHA-256 of the line before it; it holds the statement and the signatures
that admitted it. Opening the file admits every line again (core/trust.py): one that was put there, changed, left out
or moved stops the start. The broker has no way to write it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from broker.core.clock import from_micros, micros
from broker.core.errors import Fault
from broker.core.statement import MAX_STATEMENT_BYTES, Statement, read_statement
from broker.core.trust import Book, NotTrusted
from broker.signer.files import open_log

NAME: Final = "trust.jsonl"
FIRST: Final = "0" * 64
_MAX_LINE: Final = 2 * MAX_STATEMENT_BYTES


class TrustFault(Fault):
    """The trust file cannot be written or is not what this signer wrote: nothing may be signed."""


class TrustFile:
    """An open trust file, locked for this process alone, and the book that it says. Not safe for threads."""

    __slots__ = ("_book", "_descriptor", "_good", "_last", "_number")

    def __init__(self, directory: Path) -> None:
        self._descriptor = open_log(directory / NAME, TrustFault)
        self._book, self._number, self._last, self._good = Book(), 0, FIRST, 0
        try:
            self._load()
        except BaseException:
            os.close(self._descriptor)
            raise

    @property
    def book(self) -> Book:
        """What is believed now. Whoever holds it only asks."""
        return self._book

    def must_admit(self, statement: Statement, signatures: Sequence[bytes], *, now: datetime) -> None:
        """Raises NotTrusted, naming the rule, unless a peer may say this."""
        if not self._book.has(statement.tenant):
            raise NotTrusted("statement refused: of a tenant whose first owner was named at the signer (grantd trust)")
        self._book.must_admit(statement, signatures, at=now)

    def learn(self, statement: Statement, signatures: Sequence[bytes], *, now: datetime) -> None:
        """Believes what was let through, on disk before it counts. Raises TrustFault: then it does not count."""
        self._append(statement, signatures, now)

    def begin(self, statement: Statement, signatures: Sequence[bytes], *, now: datetime) -> None:
        """Writes a tenant's first statement: for whoever sets the signer up, at its own directory, never for a peer."""
        self._book.must_begin(statement, signatures)
        self._append(statement, signatures, now)

    def close(self) -> None:
        os.close(self._descriptor)

    def _load(self) -> None:
        data = _all_of(self._descriptor)
        # by newlines alone: splitlines() also parts at a CR, and a damaged line would pass for a torn end
        *lines, torn = data.split(b"\n")
        for line in lines:
            self._take(line)
        if torn:
            # a power cut inside a write: nobody was told that this statement counts
            os.ftruncate(self._descriptor, self._good)

    def _take(self, line: bytes) -> None:
        try:
            number, last, at, statement, signatures = _read(line)
            if (number, last) != (self._number, self._last):
                raise TrustFault("out of its place")
            if self._book.has(statement.tenant):
                self._book.must_admit(statement, signatures, at=at)
            else:
                self._book.must_begin(statement, signatures)
        except Fault as fault:
            raise TrustFault(f"{NAME} line {self._number + 1}: {fault.what}") from fault
        self._moved(line, statement)

    def _append(self, statement: Statement, signatures: Sequence[bytes], now: datetime) -> None:
        line = _line(self._number, self._last, micros(now), statement, signatures)
        try:
            os.ftruncate(self._descriptor, self._good)
            _write_all(self._descriptor, line + b"\n")
            os.fsync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._good)
            raise TrustFault("the signer's trust file cannot be written") from error
        self._moved(line, statement)

    def _moved(self, line: bytes, statement: Statement) -> None:
        self._book.take(statement)
        self._number, self._last = self._number + 1, hashlib.sha256(line).hexdigest()
        self._good += len(line) + 1


def _line(number: int, last: str, at_us: int, statement: Statement, signatures: Sequence[bytes]) -> bytes:
    fields = {
        "n": number,
        "prev": last,
        "signatures": [base64.b64encode(one).decode() for one in signatures],
        "statement": base64.b64encode(statement.encoded()).decode(),
        "t": at_us,
        "v": 1,
    }
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def _read(line: bytes) -> tuple[int, str, datetime, Statement, tuple[bytes, ...]]:
    """Number, `prev`, time, statement and signatures of a line, in its one spelling. Raises TrustFault."""
    try:
        if len(line) > _MAX_LINE:
            raise TrustFault("longer than any line")
        fields = json.loads(line)
        number, last, at_us = fields["n"], fields["prev"], fields["t"]
        statement = read_statement(base64.b64decode(fields["statement"], validate=True))
        signatures = tuple(base64.b64decode(one, validate=True) for one in fields["signatures"])
        if _line(number, last, at_us, statement, signatures) != line:
            raise TrustFault("not the one spelling")
        return number, last, from_micros(at_us), statement, signatures
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise TrustFault("not what a signer wrote") from error


def _all_of(descriptor: int) -> bytes:
    data = bytearray()
    while part := os.pread(descriptor, 1 << 20, len(data)):
        data += part
    return bytes(data)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
