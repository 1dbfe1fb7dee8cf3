"""Audit rows of a business transaction: an event becomes its final entry bytes here, and waits for the sequencer.

Refuses whatever an entry must not say in clear (I-36): names and values of facts pass an allow-list by shape, and what
names a person, host, login or command is only ever a salted digest with a sealed disclosure beside it (I-35).
Never assigns a place in the log, and never touches an entry again once it is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, Protocol

import structlog
from sqlalchemy import Connection, insert

from broker.adapters.store.hot import Hot
from broker.adapters.store.schema import audit_pending
from broker.core.clock import micros
from broker.core.errors import Fault, VaultFault
from broker.core.events import ENDINGS, AuditEvent, Personal, without_words
from broker.core.ids import SYSTEM_TENANT, AuditId, TenantId, is_id, is_tenant
from broker.service.ports import Entropy
from recorder.codes import BY_NAME
from recorder.entry import NONCE_SIZE, SALT_SIZE, Clear, Disclosure, disclose, encode_entry
from recorder.errors import EntryError

log = structlog.get_logger()
_ABOUT: Final = ("grant", "action", "request", "identity")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_ENVELOPE: Final = frozenset({"v", "id", "t", "code", "ten", "broker", "outcome", "actor", "n"})
_PERSONAL: Final = frozenset(
    {"address", "command", "cwd", "email", "env", "evidence", "host", "ip", "login", "name", "note", "path", "reason"}
    | {"ticket", "user"}
)
_NEEDED: Final = {"subject.erased": ("ranges",)}  # without it the verifier could not tell erased from stolen
_WORD: Final = re.compile(
    r"[a-z][a-z0-9_]{0,39}"
)  # an enumeration; no dot, dash, slash or @: not a host, path, address
_HEX: Final = re.compile(r"(?:[0-9a-f]{32}|[0-9a-f]{64})")  # an audit id or 16 bytes, a SHA-256
_DECIMAL: Final = re.compile(r"[0-9]{1,20}")  # a 64-bit serial: beyond what a JSON reader holds as a number
_RANGES: Final = re.compile(r"[0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*")  # leaf indexes, as in "3,10-12"
_INSERT: Final = Hot(insert(audit_pending).inline(), columns=("tenant", "id", "entry", "disclosures", "at"))
_CLOSED_SETS: Final = {
    "method": re.compile(r"[A-Za-z0-9.]{1,100}/[A-Za-z]{1,60}"),  # an RPC as its descriptor names it
    "permission": re.compile(r"[a-z][a-z_.]{0,63}"),
    "rule": re.compile(r"[a-z][a-z0-9_.-]{0,63}"),  # of the classifier
    "teams": re.compile(r"te_[a-z2-7]{26}(?:,te_[a-z2-7]{26})*|"),
    "teams_before": re.compile(r"te_[a-z2-7]{26}(?:,te_[a-z2-7]{26})*|"),
    "lowers": re.compile(r"[A-Za-z0-9_.+-]+(?:,[A-Za-z0-9_.+-]+)*"),  # names of shipped programs
}
"""Facts whose values come from our own code alone, in spellings of their own."""
_LENGTH: Final = 4  # bytes of a length in a packed list


class EventUnfit(Fault):
    """An event that the log must not hold as it is: a bug of whoever built it, not of a caller."""


class Sealer(Protocol):
    """Seals a disclosure under its subject's key, bound to entry and place; makes the key at its first use."""

    def seal_disclosure(self, subject: str, entry: AuditId, index: int, text: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedDisclosure:
    """One stored disclosure: whose key opens it, and the sealed bytes."""

    subject: str
    blob: bytes


class AuditRowsSql:
    """`AuditRows` of one unit of work: inserts into audit_pending, in the transaction it reports (I-31)."""

    def __init__(
        self,
        *,
        connection: Connection,
        tenant: TenantId,
        broker: str,
        entropy: Entropy,
        sealer: Sealer,
        noted: Callable[[TenantId], None],
    ) -> None:
        """`broker` names this broker in entries; `noted` is told that a tenant has something to sequence."""
        self._connection, self._tenant, self._broker = connection, tenant, broker
        self._entropy, self._sealer, self._noted = entropy, sealer, noted

    def append(self, event: AuditEvent, now: datetime) -> AuditId:
        """The id of the entry that will be in the log once this transaction is.

        What takes access away is written without its words where the key of one of its subjects is damaged: ends of
        others may stand in the same transaction, and an end is never refused. An alarm names it.

        Raises:
            EventUnfit: unknown name, another tenant's event, a fact that is not an id, word, digest or number.
            VaultFault: words of something that takes nothing away cannot be sealed.
        """
        if event.tenant != self._tenant:
            raise EventUnfit("an audit event of another tenant than the unit of work's")
        try:
            return self._insert(event, now)
        except VaultFault as fault:
            if event.name not in ENDINGS:
                raise
            _told_lost(event, fault)
            return self._insert(without_words(event), now)

    def _insert(self, event: AuditEvent, now: datetime) -> AuditId:
        entry_id = self._entropy.uuid7(now)
        fields = _fields(event, entry_id, micros(now), self._broker)
        try:
            hidden = [self._hide(one) for one in event.personal]
            entry = encode_entry(fields, hidden, self._entropy.token(NONCE_SIZE))
        except EntryError as error:
            raise EventUnfit(f"audit event {event.name} does not fit an entry") from error
        sealed = pack(self._seal(event.personal, hidden, entry_id))
        row = {"tenant": self._tenant, "id": entry_id, "entry": entry, "disclosures": sealed, "at": micros(now)}
        _INSERT.run(self._connection, row)
        self._noted(self._tenant)
        return entry_id

    def _hide(self, one: Personal) -> Disclosure:
        if not (is_id(one.subject) or is_tenant(one.subject) or one.subject == SYSTEM_TENANT):
            raise EntryError("a personal value belongs to an identity, a target or the tenant")
        return disclose(self._entropy.token(SALT_SIZE), one.name, one.value)

    def _seal(
        self, personal: Iterable[Personal], hidden: Iterable[Disclosure], entry: AuditId
    ) -> Iterator[SealedDisclosure]:
        for index, (one, disclosure) in enumerate(zip(personal, hidden, strict=True)):
            blob = self._sealer.seal_disclosure(one.subject, entry, index, disclosure.text)
            yield SealedDisclosure(subject=one.subject, blob=blob)


def pack(sealed: Iterable[SealedDisclosure]) -> bytes:
    """u32 length and subject, u32 length and blob, for each: how they wait in audit_pending."""
    return b"".join(_sized(one.subject.encode()) + _sized(one.blob) for one in sealed)


def unpack(data: bytes) -> list[SealedDisclosure]:
    """Inverse of `pack`; VaultFault when the bytes end early."""
    parts: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + _LENGTH + int.from_bytes(data[at : at + _LENGTH], "big")
        if end > len(data) or at + _LENGTH > len(data):
            raise VaultFault("waiting disclosures are cut short")
        parts.append(data[at + _LENGTH : end])
        at = end
    if len(parts) % 2:
        raise VaultFault("waiting disclosures are cut short")
    return [
        SealedDisclosure(subject=subject.decode(), blob=blob)
        for subject, blob in zip(parts[::2], parts[1::2], strict=True)
    ]


def _told_lost(event: AuditEvent, fault: VaultFault) -> None:
    about = {name: event.facts[name] for name in _ABOUT if name in event.facts}
    subjects = sorted({one.subject for one in event.personal})
    log.error(
        "audit.words_unsealed", tenant=event.tenant, entry=event.name, subjects=subjects, cause=fault.what, **about
    )


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(_LENGTH, "big") + data


def _fields(event: AuditEvent, entry_id: AuditId, t_us: int, broker: str) -> dict[str, Clear]:
    spec = BY_NAME.get(event.name)
    if spec is None:
        raise EventUnfit(f"unknown audit event {event.name!r}: it needs a row in recorder.codes")
    if event.actor and not is_id(event.actor):
        raise EventUnfit(f"the actor of {event.name} is not an identity")
    missing = [name for name in _NEEDED.get(event.name, ()) if name not in event.facts]
    if missing:
        raise EventUnfit(f"{event.name} needs the facts {', '.join(missing)}: the verifier reads them")
    for name, value in event.facts.items():
        _require_fact(event.name, name, value)
    envelope: dict[str, Clear] = {
        "id": entry_id,
        "t": t_us,
        "code": spec.code,
        "ten": event.tenant,
        "broker": broker,
        "outcome": spec.outcome.value,
    }
    return envelope | ({"actor": event.actor} if event.actor else {}) | dict(event.facts)


def _require_fact(event: str, name: str, value: object) -> None:
    """EventUnfit unless this may stand in the log in clear, for ever. The message never holds the value."""
    if not _NAME.fullmatch(name) or name in _ENVELOPE:
        raise EventUnfit(f"{event}: {name!r} cannot name a fact")
    if name in _PERSONAL:
        raise EventUnfit(f"{event}: {name} tells of people or hosts, it belongs into `personal`")
    if type(value) is int:
        return
    shape = _CLOSED_SETS.get(name)
    if not isinstance(value, str) or not (shape.fullmatch(value) if shape else _opaque(value)):
        raise EventUnfit(f"{event}: fact {name} is neither an id, a word, a digest nor a number")


@lru_cache(maxsize=8_192)  # the same few ids come in every entry of a session
def _opaque(value: str) -> bool:
    """Nothing, ids, tenants, enumerations, digests, serials, leaf ranges: what tells nothing of a person or a host."""
    return (
        not value
        or is_id(value)
        or is_tenant(value)
        or value == SYSTEM_TENANT
        or any(pattern.fullmatch(value) for pattern in (_WORD, _HEX, _DECIMAL, _RANGES))
    )
