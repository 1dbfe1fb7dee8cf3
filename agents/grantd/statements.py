"""What an owner signs for the signer, in bytes: `grantd/trust/v1`. Written against the format, not the broker's code.

One statement is one revision of what is said of one subject: a person, a target, a tenant's own programs, a CA. It
names the one before it, so that an old one can never be put back.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from grantd.errors import Invalid
from grantd.records import pae

TRUST_NAMESPACE: Final = "grantd-trust@v1"
PROGRAMS: Final = "programs"
_HEAD: Final = b"grantd/trust/v1"
_PARTS: Final = 7
_ROTATION_PARTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement, its content still packed."""

    tenant: str
    subject: str
    revision: int
    previous: bytes
    """SHA-256 of the statement before it; empty for the first."""
    content: bytes
    at_us: int

    def encoded(self) -> bytes:
        """The bytes that are signed."""
        head = (_HEAD, self.tenant.encode(), self.subject.encode(), b"%d" % self.revision, self.previous)
        return pae(*head, self.content, b"%d" % self.at_us)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """The statement of these bytes. Raises Invalid."""
        parts = unpae(data)
        if len(parts) != _PARTS or parts[0] != _HEAD:
            raise _damaged()
        try:
            made = cls(
                tenant=parts[1].decode(),
                subject=parts[2].decode(),
                revision=int(parts[3]),
                previous=parts[4],
                content=parts[5],
                at_us=int(parts[6]),
            )
        except ValueError as wrong:
            raise _damaged() from wrong
        if made.encoded() != data:
            raise _damaged()
        return made


def following(before: bytes, *, tenant: str, subject: str, content: bytes, at_us: int) -> Statement:
    """The next statement about a subject after the one in `before`, which is empty where there is none."""
    known = Statement.parse(before) if before else None
    return Statement(
        tenant=tenant,
        subject=subject,
        revision=known.revision + 1 if known else 1,
        previous=hashlib.sha256(before).digest() if before else b"",
        content=content,
        at_us=at_us,
    )


def person(*, name: str, role: str, active: bool, keys: Sequence[str]) -> bytes:
    """What is said of a person; `keys` are OpenSSH public key lines."""
    lines = pae(*(" ".join(line.split()[:2]).encode() for line in keys))
    return pae(b"person", name.encode(), role.encode(), b"1" if active else b"0", lines)


def target(
    *, name: str, tier: str, host_key: str, logins: Sequence[tuple[str, str]], seal_reads: bool, quorum: bytes
) -> bytes:
    """What is said of a target: tier word, OpenSSH line of its host key, logins with read logins, packed quorum."""
    packed = pae(*(part.encode() for login in logins for part in login))
    sealed = b"1" if seal_reads else b"0"
    return pae(b"target", name.encode(), tier.encode(), _sha256_of(host_key), packed, sealed, quorum)


def quorum(least: Mapping[str, int]) -> bytes:
    """How many people at least, for a class: part of what is said of a target."""
    order = ("read", "write", "execute", "install", "reboot")
    return pae(*(part for word in order if word in least for part in (word.encode(), b"%d" % least[word])))


def programs(texts: Mapping[str, str]) -> bytes:
    """What is said of a tenant's own programs: file name -> text."""
    return pae(b"programs", *(part.encode() for pair in sorted(texts.items()) for part in pair))


def glass(*, person: str, target: str, login: str, ceiling: str, key: str, until_us: int) -> bytes:
    """What is said of a sealed credential: ids of person and target, login, class word, OpenSSH line of its key."""
    words = (person, target, login, ceiling, key)
    return pae(b"break-glass", *(word.encode() for word in words), b"%d" % until_us)


def rotation(*, ca: str, step: str, number: int, forced: bool) -> bytes:
    """What is said of one step of a CA's rotation: `number` is that of the key it makes, lets sign or destroys."""
    return pae(b"rotation", ca.encode(), step.encode(), b"%d" % number, b"1" if forced else b"0")


def rotated_number(content: bytes) -> int:
    """The number of the key that a step is about. Raises Invalid where it is no step of a rotation."""
    parts = unpae(content)
    if parts[:1] != [b"rotation"] or len(parts) != _ROTATION_PARTS or not parts[3].isdigit():
        raise _damaged()
    return int(parts[3])


def quorum_of(content: bytes) -> bytes:
    """The packed quorum of what is said of a target; the empty one of anything else."""
    parts = unpae(content) if content else []
    return parts[6] if parts[:1] == [b"target"] and len(parts) == _PARTS else pae()


def suspended(content: bytes) -> bytes:
    """The same person, whose signature counts no more. Raises Invalid where it is no person."""
    parts = unpae(content)
    if parts[:1] != [b"person"]:
        raise _damaged()
    parts[3] = b"0"
    return pae(*parts)


def told(content: bytes) -> list[tuple[str, str]]:
    """A content as names and values, for people to read. Raises Invalid."""
    try:
        match unpae(content):
            case [b"person", name, role, active, keys]:
                lines = [line.decode() for line in unpae(keys)]
                status = "active" if active == b"1" else "suspended"
                return [("person", name.decode()), ("role", role.decode()), ("status", status),
                        *(("key", line) for line in lines)]  # fmt: skip
            case [b"target", name, tier, host_key, logins, sealed, least]:
                pairs, people = unpae(logins), unpae(least)
                shown = [f"{n.decode()}={r.decode()}" for n, r in zip(pairs[::2], pairs[1::2], strict=True)]
                wants = [
                    (f"people for {c.decode()}", n.decode()) for c, n in zip(people[::2], people[1::2], strict=True)
                ]
                return [("target", name.decode()), ("tier", tier.decode()), ("host key", host_key.hex()),
                        ("logins", " ".join(shown)), ("seal reads", _yes(sealed)), *wants]  # fmt: skip
            case [b"break-glass", *words]:
                names = ("sealed for", "target", "login", "ceiling", "key", "until (us)")
                return [(name, word.decode()) for name, word in zip(names, words, strict=True)]
            case [b"rotation", *words]:
                ca, step, number, forced = (word.decode() for word in words)
                return [("ca", ca), ("step", step), ("key", number), ("forced", _yes(forced.encode()))]
            case [b"programs", *texts]:
                return [(n.decode(), t.decode()) for n, t in zip(texts[::2], texts[1::2], strict=True)]
            case _:
                pass
    except (ValueError, UnicodeDecodeError) as wrong:
        raise _damaged() from wrong
    raise _damaged()


def unpae(data: bytes) -> list[bytes]:
    """The parts of a PAE. Raises Invalid."""
    parts, at = [], 4
    count = int.from_bytes(data[:4], "big")
    if len(data) < at or count > len(data) // 4:
        raise _damaged()
    for _ in range(count):
        size = int.from_bytes(data[at : at + 4], "big")
        if at + 4 + size > len(data):
            raise _damaged()
        parts.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    if at != len(data):
        raise _damaged()
    return parts


def _sha256_of(line: str) -> bytes:
    try:
        return hashlib.sha256(base64.b64decode(line.split()[1], validate=True)).digest()
    except (IndexError, ValueError, binascii.Error) as wrong:
        raise Invalid("bad_public_key", "the host key is not an OpenSSH public key line") from wrong


def _yes(flag: bytes) -> str:
    return "yes" if flag == b"1" else "no"


def _damaged() -> Invalid:
    return Invalid("bad_statement", "this is not a statement for the signer")
