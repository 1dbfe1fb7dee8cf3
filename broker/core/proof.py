"""What must hold before the signer lets somebody in at a target: the whole rule, in one place (I-10 to I-13).

The broker is not believed. What runs, on which target, as whom and until when stands in the record of the action; its
class is found here, the tier is the signer's own, and where the tier table wants a person the people who signed are the
signer's own as well. Pure: reads no clock, file or journal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from broker.core import sftp
from broker.core.action import APPROVAL_FOR, StdinMode, checked_cwd, checked_env
from broker.core.cert import CertMismatch, CertSpec
from broker.core.errors import Refusal
from broker.core.flags import forwards
from broker.core.forward import destination_in, forwarded
from broker.core.glass import must_be_opened, opens
from broker.core.ids import TenantId
from broker.core.reading import read_access, read_action
from broker.core.records import APPROVAL_NAMESPACE, AccessRecord, ActionRecord, digest_of, made_at
from broker.core.request import MUST_START_WITHIN, PENDING_FOR
from broker.core.roles import Permission, holds
from broker.core.signing import SignSsh
from broker.core.sshsig import BadSignature
from broker.core.sshwire import WireError
from broker.core.statement import Machine
from broker.core.trust import Book
from broker.core.wrapper import NotOurs, forced_seconds
from policy.classes import CommandClass, Tier
from policy.shell import Classified, Verdict

SLACK: Final = timedelta(seconds=30)
"""Between the broker's clock, the approver's and the signer's."""
RECORD_FOR: Final = 2 * APPROVAL_FOR
"""From the question to the last moment of its use: ten minutes to decide, and ten to start (I-13)."""
_ROUNDING: Final = timedelta(seconds=2)
"""A certificate's times are whole seconds, and the wrapper's hundredths."""
_UNATTENDED: Final = {
    Tier.APPROVAL: CommandClass.READ,
    Tier.TRUSTED: CommandClass.WRITE,
    Tier.CLOSED_LOOP: CommandClass.READ,
}
"""The tier table: what runs without a person. Closed Loop runs more with a verification, which nothing has yet."""
_KEYBOARDS: Final = frozenset({"stream_stdin", "raw_shell", "shell"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the signer knows by itself."""

    book: Book
    classify: Callable[[TenantId, bytes], Verdict]
    used: Callable[[bytes, datetime], bool]
    """Whether an approval of a record (its SHA-256, when it was made) was used before, or may have been."""
    opened: Callable[[TenantId, str], bytes | None]
    """SHA-256 of the use that a sealed credential was opened with; None where it never was."""
    latest: Callable[[TenantId, str], datetime]
    """A moment that has certainly come since a sealed credential was opened, whatever the wall clock says."""
    now: datetime


def must_be_proven(ask: SignSsh, known: Known) -> None:
    """Raises CertMismatch naming the rule, unless an egress certificate is what its record says and may be signed.

    Only for certificates of a grant: whatever else goes to a target is bounded elsewhere.
    """
    # (1) the record of one action, on a target of the signer's own, as a login that it has
    record = _record(ask.record)
    machine = _machine(ask.spec, record, known.book)
    # (2) what it does, by the signer's own eyes; the broker may say worse and never better
    seen = _seen(record, known)
    level = CommandClass.from_word(record.command_class)
    _require(level >= seen.command_class and record.opaque >= seen.opaque, "the class that its command has")
    reads = level is CommandClass.READ and not record.opaque
    _require(not reads or record.login in _read_logins(machine), "the login that reads are for")
    # (3) it runs exactly that, until the record's own end
    _must_run(ask.spec, record, machine, known.now)
    # (4) a person where the tier says so: enough of them, over these very bytes, lately and once
    #     both tiers count: to claim the one beside the signer's own loosens nothing
    #     in its hour a sealed credential stands in their place (I-62)
    alone = min(_UNATTENDED[machine.tier], _UNATTENDED[Tier(record.tier)])
    if opens(ask.access):
        must_be_opened(
            ask, record, machine, level, book=known.book, opened=known.opened, used=known.used, latest=known.latest
        )
    elif _needs_person(ask, record, seen, level, machine, alone, known):
        # a worse class that the broker says never asks fewer people than the command's own
        quorum = max(machine.quorum.get(one, 1) for one in (seen.command_class, level))
        _must_be_approved(record, ask, known, quorum=quorum)


def _record(data: bytes) -> ActionRecord:
    try:
        record = read_action(data)
        checked_env(record.env)
        checked_cwd(record.cwd)
        CommandClass.from_word(record.command_class), Tier(record.tier), StdinMode(record.stdin_mode)
    except (WireError, Refusal, ValueError) as error:
        raise _refused("the record of an action") from error
    return record


def _machine(spec: CertSpec, record: ActionRecord, book: Book) -> Machine:
    _, tenant, target, login = spec.principals[0].split(":")
    _require((record.tenant, record.target_id, record.login) == (tenant, target, login), "the target of its record")
    machine = book.machine(TenantId(tenant), target)
    if machine is None:
        raise _refused("a target that an owner named to the signer (grantctl trust)")
    names = {name for one in machine.logins for name in (one.name, one.read_login) if name}
    _require(login in names, "a login that the target has")
    _require(record.host_key == machine.host_key, "the host key that the target has")
    return machine


def _seen(record: ActionRecord, known: Known) -> Classified:
    seen = known.classify(TenantId(record.tenant), record.command)
    if not isinstance(seen, Classified):
        raise _refused("a command that can be decided")
    return seen


def _must_run(spec: CertSpec, record: ActionRecord, machine: Machine, now: datetime) -> None:
    _require(now < record.not_after and spec.valid_before <= record.not_after + _ROUNDING, "the end of its record")
    _require(spec.permit_pty == record.pty, "a terminal where its action says so")
    if not spec.force_command:
        _may_be_open(record, machine)
        return
    try:
        seconds = _seconds(spec.force_command, record)
    except (NotOurs, Refusal, ValueError) as error:
        raise _refused("the command of its record and no other") from error
    _require(now + timedelta(seconds=seconds) <= record.not_after + _ROUNDING, "the end of its record")


def _seconds(text: str, record: ActionRecord) -> float:
    try:
        return forced_seconds(text, record.command, cwd=record.cwd, env=record.env)
    except NotOurs:
        # a file session has a name of its own, and stands for one fixed text
        if not sftp.is_session(record.command):
            raise
    return forced_seconds(text, sftp.program(record.command), cwd=record.cwd, env=record.env)


def _may_be_open(record: ActionRecord, machine: Machine) -> None:
    """Reads of a grant share a connection that runs whatever is asked: only as the login that reads are for."""
    reads = record.command_class == CommandClass.READ.word and not record.opaque and not record.pty
    _require(reads, "its one command, as it is no read")
    _require(not machine.seal_reads and record.login in _read_logins(machine), "its one command, on this login")


def _read_logins(machine: Machine) -> frozenset[str]:
    return frozenset(one.read_login or one.name for one in machine.logins)


def _needs_person(
    ask: SignSsh, record: ActionRecord, seen: Classified, level: CommandClass, machine: Machine, alone: CommandClass,
    known: Known,
) -> bool:  # fmt: skip
    to = forwarded(seen)
    if to is not None and destination_in(record.command) == to:
        granted = _granted(ask, record, machine, level, known)
        return granted is None or to not in forwards(granted.flags)
    if record.opaque or level > alone:
        return True
    if record.pty and record.stdin_mode == StdinMode.STREAM and not seen.keyboard:
        # what a keyboard can do to a program is not in its text: then the grant itself was somebody's yes
        granted = _granted(ask, record, machine, level, known)
        return granted is None or granted.flags.isdisjoint(_KEYBOARDS)
    return False


def _granted(
    ask: SignSsh, record: ActionRecord, machine: Machine, level: CommandClass, known: Known
) -> AccessRecord | None:
    """The access that the action runs under, if people granted it; None where nothing of it was sent."""
    if not ask.access:
        return None
    try:
        access = read_access(ask.access)
    except WireError as error:
        raise _refused("the access that its record names") from error
    same = (access.tenant, access.request_id, access.requester, access.agent_id, access.agent_key, access.target_id,
            access.host_key) == (record.tenant, record.request_id, record.requester, record.agent_id, record.agent_key,
                                 record.target_id, record.host_key)  # fmt: skip
    _require(same and _is_login_of(access, record, machine), "the access that its record names")
    _require(level <= CommandClass.from_word(access.ceiling), "the ceiling of its access")
    _must_be_fresh(access.nonce, PENDING_FOR + MUST_START_WITHIN + access.ttl, known.now)
    _must_have(record, ask.access, ask.access_signatures, known, quorum=1)
    return access


def _is_login_of(access: AccessRecord, record: ActionRecord, machine: Machine) -> bool:
    return any(
        one.name == access.login and record.login in (one.name, one.read_login or one.name) for one in machine.logins
    )


def _must_be_approved(record: ActionRecord, ask: SignSsh, known: Known, *, quorum: int) -> None:
    _require(bool(ask.signatures), "approved by a person")
    _must_be_fresh(record.nonce, RECORD_FOR, known.now)
    _must_have(record, ask.record, ask.signatures, known, quorum=quorum)
    _require(not known.used(digest_of(ask.record), made_at(record.nonce)), "an approval that was not used yet")


def _must_have(record: ActionRecord, message: bytes, signatures: Sequence[bytes], known: Known, *, quorum: int) -> None:
    """Distinct people whom the signer knows, who decide, and none of whom asked."""
    tenant = TenantId(record.tenant)
    try:
        people = {known.book.signer_of(tenant, one, message, APPROVAL_NAMESPACE) for one in signatures}
    except BadSignature as error:
        raise _refused("signed over this record, by somebody whom the signer knows") from error
    roles = [person.role for one in people if (person := known.book.person(tenant, one)) is not None]
    _require(all(holds(role, Permission.APPROVAL_DECIDE) for role in roles), "approved by those who decide")
    _require(record.requester not in people, "approved by another than who asked")
    _require(len(people) >= quorum, "approved by as many as the target wants")


def _must_be_fresh(nonce: bytes, good_for: timedelta, now: datetime) -> None:
    try:
        age = now - made_at(nonce)
    except ValueError as error:
        raise _refused("asked a short while ago") from error
    _require(-SLACK <= age <= good_for + SLACK, "asked a short while ago")


def _refused(rule: str) -> CertMismatch:
    return CertMismatch(f"certificate refused: {rule}")


def _require(holds: bool, rule: str) -> None:  # noqa: FBT001  reads as a sentence at its call sites
    if not holds:
        raise _refused(rule)
