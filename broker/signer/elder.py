"""The journal of the first format, read only: a journal of today goes on from it, bound to its every byte.

A line is canonical JSON (sorted keys, no spaces, integers and strings) whose `prev` is the SHA-256 of the line before
it without its newline; the first one's is 64 zeros.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from broker.core.errors import Fault
from recorder.entry import Entry

NAME = "journal.jsonl"
FIRST = "0" * 64
_MAX_FILE_BYTES = 1 << 30


class ElderFault(Fault):
    """The older journal is not what a signer wrote, or not the one that the present journal began with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elder:
    """What an older journal says: nothing at all where there never was one."""

    lines: int = 0
    torn_bytes: int = 0
    sha256: str = ""
    records: frozenset[bytes] = frozenset()
    """SHA-256 of every record that something was signed for."""

    def facts(self) -> Mapping[str, str | int]:
        """What the first row of the journal after it holds."""
        return {"elder_lines": self.lines, "elder_torn_bytes": self.torn_bytes, "elder": self.sha256}


def read(path: Path) -> Elder:
    """The journal at `path`, every line checked; a broken last line is a power cut, and only measured.

    Raises:
        ElderFault: naming the first line that is not what a signer wrote.
    """
    if not path.exists():
        return Elder()
    data = _bytes_of(path)
    whole = data[: data.rfind(b"\n") + 1]
    last, records = FIRST, set[bytes]()
    lines = whole.split(b"\n")[:-1]
    for number, line in enumerate(lines):
        fields = _fields(line)
        if (fields.get("n"), fields.get("prev")) != (number, last):
            raise ElderFault(f"{NAME} line {number + 1} is not what the signer wrote")
        last = hashlib.sha256(line).hexdigest()
        record = fields.get("record")
        if isinstance(record, str) and record:
            records.add(bytes.fromhex(record))
    return Elder(
        lines=len(lines),
        torn_bytes=len(data) - len(whole),
        sha256=hashlib.sha256(data).hexdigest(),
        records=frozenset(records),
    )


def read_begun(first: Entry, path: Path) -> Elder:
    """The older journal that the first row names. Raises ElderFault where it is gone or another."""
    found = read(path)
    if first.fields.get("elder") != found.sha256:
        raise ElderFault(f"{NAME} is not the one that this journal began with")
    return found


def _bytes_of(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123  a descriptor, opened with our own flags
        return file.read(_MAX_FILE_BYTES)


def _fields(line: bytes) -> Mapping[str, object]:
    try:
        fields = json.loads(line)
        spelt = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) and spelt.encode() == line else {}
