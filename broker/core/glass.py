"""Break-glass (I-62): a sealed credential that an Owner made in advance, and what the signer believes of its use.

The credential is a key of its own, which no other rule accepts. Its first signature opens one hour under one access
request; each later one stands in the place of an approver's over one action, up to the ceiling that the Owner sealed.
Pure: reads no clock, file or journal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NewType

from broker.core import sftp
from broker.core.action import StdinMode
from broker.core.cert import CertMismatch
from broker.core.errors import Fault
from broker.core.forward import destination_in
from broker.core.ids import PREFIXES, IdentityId, RequestId, TargetId, TenantId, is_id
from broker.core.records import ActionRecord, digest_of, made_at, pae, unpae
from broker.core.signing import OpenGlass, SignSsh
from broker.core.sshsig import BadSignature, verify
from broker.core.sshwire import WireError
from broker.core.statement import Glass, Machine
from broker.core.trust import Book
from policy.classes import CommandClass

GlassId = NewType("GlassId", str)
"""A sealed credential (`bg_...`)."""
GLASS: Final = b"grantd/break-glass/v1"
GLASS_NAMESPACE: Final = "grantd-break-glass@v1"
"""SSHSIG namespace of everything that a sealed credential signs."""
UNUSED: Final = "a sealed credential that was not used yet"
"""The rule that the signer's refusal of a second word names."""
OPEN_FOR: Final = timedelta(hours=1)
FRESH: Final = timedelta(minutes=5)
"""How old the word that opens it may be when it comes in."""
AHEAD: Final = timedelta(minutes=1)
_SLACK: Final = timedelta(seconds=30)
_ASKED_WITHIN: Final = timedelta(minutes=20)


class NotAUse(Fault):
    """Bytes that open no sealed credential."""

    def __init__(self) -> None:
        super().__init__("not the use of a sealed credential")


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakGlass:
    """A sealed credential as the broker keeps it: its public half, and what became of it."""

    tenant: TenantId
    id: GlassId
    person: IdentityId
    target_id: TargetId
    login: str
    ceiling: CommandClass
    key: str
    """OpenSSH public key line without comment."""
    until: datetime
    made_by: IdentityId
    made_at: datetime
    used_at: datetime | None = None
    request_id: RequestId | None = None
    use: bytes = b""
    """The record that opened it, and its signature: what the signer is shown with each action."""
    signature: bytes = b""
    reviewed_by: IdentityId | None = None
    reviewed_at: datetime | None = None

    @property
    def owes_review(self) -> bool:
        """Used, and nobody looked at it yet: until then nothing else is made or used."""
        return self.used_at is not None and self.reviewed_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class GlassUse:
    """The word that opens a sealed credential: which one, whose, under which access request, from which second on."""

    tenant: str
    glass: str
    person: str
    request_id: str
    nonce: bytes

    def encoded(self) -> bytes:
        """The bytes that the sealed key signs (namespace GLASS_NAMESPACE, sha512)."""
        return pae([GLASS, *(t.encode() for t in (self.tenant, self.glass, self.person, self.request_id)), self.nonce])

    def at(self) -> datetime:
        """The second in which it was made, by its own word."""
        return made_at(self.nonce)


def opens(access: bytes) -> bool:
    """Whether an access that came with an action is the use of a sealed credential, and no request's record."""
    try:
        return unpae(access)[:1] == (GLASS,)
    except WireError:
        return False


def read_use(data: bytes) -> GlassUse:
    """The use of these bytes, in its one spelling. Raises NotAUse."""
    try:
        head, tenant, glass, person, request, nonce = unpae(data)
        made = GlassUse(
            tenant=tenant.decode(), glass=glass.decode(), person=person.decode(), request_id=request.decode(),
            nonce=nonce,
        )  # fmt: skip
        made.at()
    except (WireError, ValueError, OverflowError) as error:
        raise NotAUse from error
    kinds = zip(("glass", "person", "request"), (made.glass, made.person, made.request_id), strict=True)
    if head != GLASS or not all(is_id(text) and text.startswith(f"{PREFIXES[kind]}_") for kind, text in kinds):
        raise NotAUse
    return made


def must_be_opened(
    ask: SignSsh, record: ActionRecord, machine: Machine, level: CommandClass, *, book: Book,
    opened: Callable[[TenantId, str], bytes | None], used: Callable[[bytes, datetime], bool],
    latest: Callable[[TenantId, str], datetime],
) -> None:  # fmt: skip
    """Raises CertMismatch naming the rule, unless a sealed credential that an Owner made says yes to this action.

    Whatever is true of any other action (its target, what it runs, until when) was looked at before.

    `opened` tells the SHA-256 of the use that a sealed credential was opened with before, `used` whether an approval
    of a record was used before; both from the journal. `latest` tells a moment that has certainly come since it was
    opened.
    """
    # (1) one that an Owner's statement names, opened by its own key, and this action signed by the same key
    use, glass = _use(ask.access, ask.access_signatures, book)
    now = latest(TenantId(use.tenant), use.glass)
    _require(len(ask.signatures) == 1, "signed by its sealed credential alone")
    _must_be_by(glass, ask.signatures[0], ask.record)
    # (2) for this person, by themselves, under this request; on its target and as its login, up to its ceiling
    mine = (use.tenant, use.request_id, use.person, "")
    asked = (record.tenant, record.request_id, record.requester, record.agent_id)
    _require(mine == asked, "a sealed credential of who asked")
    _require(record.target_id == glass.target, "the target of its sealed credential")
    _require(record.login in _logins(machine, glass.login), "the login of its sealed credential")
    _require(_is_all_of_it(record), "a command by itself, as its sealed credential saw it")
    reach = max(level, CommandClass.EXECUTE) if record.opaque else level
    _require(reach <= glass.ceiling, "the ceiling of its sealed credential")
    # (3) in its hour, which began before it ran out; opened once, and each action once
    _must_be_in_its_hour(use, glass, access=ask.access, opened=opened, now=now)
    _require(record.not_after <= use.at() + OPEN_FOR + _SLACK, "the hour of its sealed credential")
    _require(-_SLACK <= now - _asked(record) <= _ASKED_WITHIN, "asked a short while ago")
    _require(not used(digest_of(ask.record), _asked(record)), "an approval that was not used yet")


def must_open(
    ask: OpenGlass, *, book: Book, opened: Callable[[TenantId, str], bytes | None],
    latest: Callable[[TenantId, str], datetime],
) -> GlassUse:  # fmt: skip
    """The word that opens a sealed credential, if it may be opened with it now; again with the same word.

    Raises:
        CertMismatch: naming the rule; what `opened` and `latest` are is said at must_be_opened.
    """
    use, glass = _use(ask.use, (ask.signature,), book)
    _must_be_in_its_hour(use, glass, access=ask.use, opened=opened, now=latest(TenantId(use.tenant), use.glass))
    return use


def _use(access: bytes, signatures: Sequence[bytes], book: Book) -> tuple[GlassUse, Glass]:
    """The word and the credential that it opens, of somebody who is still there."""
    try:
        use = read_use(access)
    except NotAUse as error:
        raise _refused("signed by its sealed credential") from error
    glass = book.glass(TenantId(use.tenant), use.glass)
    if glass is None:
        raise _refused("a sealed credential that an owner made")
    _require(len(signatures) == 1, "signed by its sealed credential alone")
    _must_be_by(glass, signatures[0], access)
    person = book.person(TenantId(use.tenant), glass.person)
    _require(use.person == glass.person, "a sealed credential of who asked")
    _require(person is not None and person.active, "a sealed credential of who asked")
    return use, glass


def _must_be_by(glass: Glass, signature: bytes, message: bytes) -> None:
    try:
        verify(signature, message, GLASS_NAMESPACE, (glass.key,))
    except BadSignature as error:
        raise _refused("signed by its sealed credential") from error


def _must_be_in_its_hour(
    use: GlassUse, glass: Glass, *, access: bytes, opened: Callable[[TenantId, str], bytes | None], now: datetime
) -> None:  # fmt: skip
    """Begun before it ran out, not over, and opened with no other word."""
    _require(use.at() < glass.until, "a sealed credential that has not run out")
    _require(-_SLACK <= now - use.at() < OPEN_FOR, "the hour of its sealed credential")
    before = opened(TenantId(use.tenant), use.glass)
    _require(before in (None, digest_of(access)), UNUSED)


def _is_all_of_it(record: ActionRecord) -> bool:
    """Whether its text is all that it does: what is typed, streamed or connected to later, the sealed key never saw."""
    grows = record.pty or record.stdin_mode == StdinMode.STREAM
    return not grows and destination_in(record.command) is None and not sftp.is_session(record.command)


def _logins(machine: Machine, login: str) -> frozenset[str]:
    return frozenset(n for one in machine.logins if one.name == login for n in (one.name, one.read_login or one.name))


def _asked(record: ActionRecord) -> datetime:
    try:
        return made_at(record.nonce)
    except ValueError as error:
        raise _refused("asked a short while ago") from error


def _refused(rule: str) -> CertMismatch:
    return CertMismatch(f"certificate refused: {rule}")


def _require(holds: bool, rule: str) -> None:  # noqa: FBT001  reads as a sentence at its call sites
    if not holds:
        raise _refused(rule)
