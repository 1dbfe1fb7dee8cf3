"""What an Owner signs for the signer: approvers, targets' tiers, a site's programs, steps of a rotation. Bytes only.

PAE("grantd/trust/v1", tenant, subject, revision, previous, content, signed-at): one statement is one revision of one
subject, and names the one before it, so that an old statement can never be put back. Decides nothing: trust.py does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from broker.core.cert import Ca
from broker.core.clock import from_micros, micros
from broker.core.errors import Fault, Refusal
from broker.core.generation import Step
from broker.core.identity import Login
from broker.core.ids import PREFIXES, TenantId, is_id, is_login, is_name, is_tenant
from broker.core.records import pae, unpae
from broker.core.roles import RANK, Role
from broker.core.sshwire import KeyKind, WireError, parse_line
from policy.classes import CommandClass, Tier

TRUST: Final = b"grantd/trust/v1"
TRUST_NAMESPACE: Final = "grantd-trust@v1"
"""SSHSIG namespace of statements."""
PROGRAMS: Final = "programs"
"""The subject of a tenant's own programs."""
MAX_STATEMENT_BYTES: Final = 144 * 1024
_MAX_KEYS, _MAX_LOGINS, _MAX_QUORUM = 8, 16, 9
_SHA256 = 32


class NotAStatement(Fault):
    """Bytes that say nothing the signer keeps."""

    def __init__(self) -> None:
        super().__init__("not a statement that the signer keeps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody whose signature may count. `keys` are OpenSSH public key lines without comment."""

    name: str
    role: Role
    active: bool
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A target as the signer knows it. `quorum`: the least number of people for a class, where it is more than one."""

    name: str
    tier: Tier
    host_key: bytes
    """SHA-256 of the pinned host key's blob."""
    logins: tuple[Login, ...]
    seal_reads: bool
    quorum: Mapping[CommandClass, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """A site's own programs: file name -> text."""

    texts: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Glass:
    """A sealed credential for the night when nobody answers (core/glass.py). `key`: OpenSSH line without comment."""

    person: str
    target: str
    login: str
    ceiling: CommandClass
    key: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """One step of the rotation of a CA's key (core/generation.py). Said once, for one key and one step."""

    ca: Ca
    step: Step
    number: int
    """Of the key that the step makes, lets sign or destroys."""
    forced: bool
    """Whether it is taken before its time, though somebody may be left behind."""


Content: TypeAlias = Person | Machine | Programs | Glass | Rotation


def subject_of(ca: Ca) -> str:
    """The subject of what is said of a CA."""
    return f"ca-{ca.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One revision of what is said of one subject (a person's or target's id, PROGRAMS, or subject_of a CA)."""

    tenant: TenantId
    subject: str
    revision: int
    """1, 2, ..."""
    previous: bytes
    """SHA-256 of the statement before it; empty for the first."""
    content: Content
    at: datetime

    def encoded(self) -> bytes:
        """The bytes that are signed (namespace TRUST_NAMESPACE, sha512)."""
        head = [TRUST, self.tenant.encode(), self.subject.encode(), _number(self.revision), self.previous]
        return pae([*head, content_bytes(self.content), _number(micros(self.at))])

    def sha256(self) -> bytes:
        """What the next revision names as its previous one."""
        return hashlib.sha256(self.encoded()).digest()


def read_statement(data: bytes) -> Statement:
    """The statement of these bytes, in its one spelling and with content that can be. Raises NotAStatement."""
    if len(data) > MAX_STATEMENT_BYTES:
        raise NotAStatement
    try:
        head, tenant, subject, revision, previous, content, at = unpae(data)
        made = Statement(
            tenant=TenantId(tenant.decode()),
            subject=subject.decode(),
            revision=int(revision),
            previous=previous,
            content=_read_content(subject.decode(), unpae(content)),
            at=from_micros(int(at)),
        )
        if head != TRUST or not is_tenant(made.tenant) or made.encoded() != data:
            raise NotAStatement
    except (WireError, ValueError, OverflowError, Refusal) as error:
        raise NotAStatement from error
    if made.revision < 1 or len(previous) not in (0, _SHA256) or bool(previous) is (made.revision == 1):
        raise NotAStatement
    return made


def content_bytes(content: Content) -> bytes:
    """What a statement says of its subject, packed."""
    match content:
        case Person():
            keys = pae(line.encode() for line in content.keys)
            return pae([b"person", content.name.encode(), content.role.encode(), _flag(content.active), keys])
        case Machine():
            logins = pae(part.encode() for login in content.logins for part in (login.name, login.read_login))
            quorum = pae(p for c, n in sorted(content.quorum.items()) for p in (c.word.encode(), _number(n)))
            head = [b"target", content.name.encode(), content.tier.encode(), content.host_key]
            return pae([*head, logins, _flag(content.seal_reads), quorum])
        case Programs():
            return pae([b"programs", *(p.encode() for pair in sorted(content.texts.items()) for p in pair)])
        case Glass():
            words = (content.person, content.target, content.login, content.ceiling.word, content.key)
            return pae([b"break-glass", *(word.encode() for word in words), _number(micros(content.until))])
        case Rotation():
            head = [b"rotation", content.ca.encode(), content.step.encode()]
            return pae([*head, _number(content.number), _flag(content.forced)])


def _read_content(subject: str, parts: tuple[bytes, ...]) -> Content:
    match parts:
        case [b"person", name, role, active, keys] if _is_of("person", subject):
            return _person(name.decode(), role.decode(), tuple(line.decode() for line in unpae(keys)), active=active)
        case [b"target", name, tier, host_key, logins, sealed, quorum] if _is_of("target", subject):
            return _machine(name.decode(), tier.decode(), host_key, unpae(logins), unpae(quorum), sealed=sealed)
        case [b"programs", *texts] if subject == PROGRAMS and len(texts) % 2 == 0:
            return Programs(texts={name.decode(): text.decode() for name, text in _pairs(tuple(texts))})
        case [b"break-glass", person, target, login, ceiling, key, until] if _is_of("glass", subject):
            words = (person.decode(), target.decode(), login.decode(), ceiling.decode(), key.decode())
            return _glass(*words, until=from_micros(int(until)))
        case [b"rotation", ca, step, number, forced] if subject == subject_of(Ca(ca.decode())):
            return _rotation(ca.decode(), step.decode(), int(number), forced=forced)
        case _:
            raise NotAStatement


def _rotation(ca: str, step: str, number: int, *, forced: bytes) -> Rotation:
    if number < 1:
        raise NotAStatement
    return Rotation(ca=Ca(ca), step=Step(step), number=number, forced=forced == b"1")


def _glass(person: str, target: str, login: str, ceiling: str, key: str, *, until: datetime) -> Glass:
    parsed = parse_line(key)
    if not (_is_of("person", person) and _is_of("target", target) and is_login(login)):
        raise NotAStatement
    if parsed.line() != key or parsed.kind is not KeyKind.ED25519:
        raise NotAStatement
    level = CommandClass.from_word(ceiling)
    return Glass(person=person, target=target, login=login, ceiling=level, key=key, until=until)


def _person(name: str, role: str, keys: tuple[str, ...], *, active: bytes) -> Person:
    known = is_name(name) and Role(role) in RANK and 1 <= len(keys) <= _MAX_KEYS and len(set(keys)) == len(keys)
    if not known or any(parse_line(line).line() != line for line in keys):
        raise NotAStatement
    return Person(name=name, role=Role(role), active=active == b"1", keys=keys)


def _machine(
    name: str, tier: str, host_key: bytes, logins: tuple[bytes, ...], quorum: tuple[bytes, ...], *, sealed: bytes
) -> Machine:
    known = tuple(Login(name=n.decode(), read_login=r.decode()) for n, r in _pairs(logins))
    least = {CommandClass.from_word(c.decode()): int(n) for c, n in _pairs(quorum)}
    names = [n for login in known for n in (login.name, login.read_login) if n]
    few = 1 <= len(known) <= _MAX_LOGINS and all(1 < n <= _MAX_QUORUM for n in least.values())
    if not is_name(name) or not few or not all(map(is_login, names)) or len(host_key) != _SHA256:
        raise NotAStatement
    return Machine(name=name, tier=Tier(tier), host_key=host_key, logins=known, seal_reads=sealed == b"1", quorum=least)


def _pairs(parts: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
    return list(zip(parts[::2], parts[1::2], strict=True))


def _is_of(kind: str, subject: str) -> bool:
    return is_id(subject) and subject.startswith(f"{PREFIXES[kind]}_")


def _number(value: int) -> bytes:
    return str(value).encode()


def _flag(value: bool) -> bytes:  # noqa: FBT001  one private spelling of a bool
    return b"1" if value else b"0"
