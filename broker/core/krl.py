"""OpenSSH key revocation lists (PROTOCOL.krl): made, and their headers read. Decides nothing and reads no file.

A list is read by a target's sshd alone, so it is written the way that sshd reads it, and no signature is put in: sshd
ignores those.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from broker.core.clock import micros
from broker.core.errors import Fault
from broker.core.sshwire import Reader, WireError, string

MAGIC: Final = b"SSHKRL\n\0"
FORMAT: Final = 1
HEADER_BYTES: Final = 512
"""Enough of a list for `read_header`: its fixed fields and a comment of ours."""
_CERTIFICATES, _EXPLICIT_KEY = 1, 2
_SERIAL_LIST, _SERIAL_RANGE, _KEY_ID = 0x20, 0x21, 0x23
_LONG: Final = 3
"""A run of so many serials is written as a range: two numbers, however long."""


class NoList(Fault):
    """These bytes are no revocation list that sshd reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """Certificates of one CA that count no more."""

    ca_key: bytes
    """Wire blob of the CA's public key."""
    key_ids: tuple[str, ...]
    serials: tuple[int, ...]
    """1 to 2**64 - 1: OpenSSH takes 0 for a certificate without a serial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Krl:
    """A whole list."""

    version: int
    """Grows with every list, below 2**64."""
    generated: datetime
    comment: str
    certificates: tuple[Revoked, ...]
    keys: tuple[bytes, ...]
    """Wire blobs of plain keys that count no more, as a CA's key neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a list says of itself; nobody signed it."""

    version: int
    generated: datetime
    comment: str


def encode(krl: Krl) -> bytes:
    """The list's bytes; equal lists are equal bytes. Raises ValueError for a number out of range."""
    head = [
        MAGIC,
        struct.pack(">IQQQ", FORMAT, krl.version, micros(krl.generated) // 1_000_000, 0),
        string(b""),
        string(krl.comment.encode()),
    ]
    sections = [_section(_CERTIFICATES, _certificates(each)) for each in krl.certificates]
    keys = b"".join(string(key) for key in krl.keys)
    return b"".join([*head, *sections, _section(_EXPLICIT_KEY, keys) if keys else b""])


def read_header(data: bytes) -> Header:
    """Of a list, or of its first HEADER_BYTES. Raises NoList."""
    try:
        reader = Reader(data)
        if reader.take(len(MAGIC)) != MAGIC or reader.u32() != FORMAT:
            raise NoList("not a revocation list")
        version, generated, _flags = reader.u64(), reader.u64(), reader.u64()
        reader.string()
        return Header(
            version=version, generated=datetime.fromtimestamp(generated, UTC), comment=reader.string().decode()
        )
    except (WireError, ValueError, OverflowError, OSError) as error:
        raise NoList("not a revocation list") from error


def _certificates(revoked: Revoked) -> bytes:
    parts = [string(revoked.ca_key), string(b"")]
    single: list[int] = []
    for first, last in _runs(revoked.serials):
        if last - first < _LONG - 1:
            single += range(first, last + 1)
        else:
            parts.append(_section(_SERIAL_RANGE, _u64(first) + _u64(last)))
    if single:
        parts.append(_section(_SERIAL_LIST, b"".join(map(_u64, single))))
    if revoked.key_ids:
        parts.append(_section(_KEY_ID, b"".join(string(name.encode()) for name in sorted(set(revoked.key_ids)))))
    return b"".join(parts)


def _runs(serials: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of every run of neighbours, ascending."""
    runs: list[tuple[int, int]] = []
    for serial in sorted(set(serials)):
        if runs and runs[-1][1] == serial - 1:
            runs[-1] = (runs[-1][0], serial)
        else:
            runs.append((serial, serial))
    return runs


def _section(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + string(content)


def _u64(serial: int) -> bytes:
    if not 0 < serial < 2**64:
        raise ValueError("a serial is 1 to 2**64 - 1")
    return struct.pack(">Q", serial)
