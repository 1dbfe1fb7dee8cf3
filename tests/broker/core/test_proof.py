"""Each rule of what the signer lets in at a target, broken one by one, and the honest question beside it (I-10).

The signer's own code in this process; what a whole broker can try is tests/e2e/test_taken_over.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from broker.core import sftp
from broker.core.cert import principal_of
from broker.core.ids import TargetId, TenantId, render
from broker.core.records import denial_record, timed_nonce
from broker.core.signing import Refused, Signed, SignSsh
from broker.core.wrapper import force_command
from broker.signer.authority import Authority
from policy.classes import CommandClass, Tier
from tests.broker.signer.world import (
    EXECUTE,
    HOST_KEY,
    INSTALL,
    MANAGER,
    OPAQUE,
    OWNER,
    READ,
    REBOOT,
    SECOND,
    STRANGER,
    VIEWER,
    WRITE,
    Asker,
    furnish,
    machine,
    open_authority,
    target_id,
)
from tests.broker.ssh_keys import NOW

ASK = Asker()
LOOP, SEALED, TWO = machine("loop1", Tier.CLOSED_LOOP), machine("seal1"), machine("two1")
MACHINES = (
    machine("web1"),
    machine("lab1", Tier.TRUSTED),
    LOOP,
    replace(SEALED, seal_reads=True),
    replace(TWO, quorum={CommandClass.INSTALL: 2}),
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signer's keys and what it believes."""
    made = tmp_path_factory.mktemp("signer") / "keys"
    furnish(made, *MACHINES)
    return made


@pytest.fixture
def authority(directory: Path) -> Iterator[Authority]:
    """The signer, its clock at NOW."""
    made = open_authority(directory)
    yield made
    made.stop()


def why(authority: Authority, ask: SignSsh) -> str:
    """The rule that refuses it; empty where it is signed."""
    answer = authority.answer(ask)
    return "" if isinstance(answer, Signed) else answer.why if isinstance(answer, Refused) else "?"


@pytest.mark.parametrize(
    ("target", "command", "alone"),
    [
        ("web1", READ, True), ("web1", WRITE, False), ("web1", EXECUTE, False), ("web1", INSTALL, False),
        ("web1", REBOOT, False), ("web1", OPAQUE, False),
        ("lab1", READ, True), ("lab1", WRITE, True), ("lab1", EXECUTE, False), ("lab1", INSTALL, False),
        ("lab1", REBOOT, False), ("lab1", OPAQUE, False),
        ("loop1", READ, True), ("loop1", WRITE, False), ("loop1", INSTALL, False), ("loop1", REBOOT, False),
    ],
)  # fmt: skip
def test_the_tier_table_says_what_needs_a_person(
    authority: Authority, target: str, command: bytes, *, alone: bool
) -> None:
    """The signer's own tier decides, whatever tier the record claims; with a person all of it is signed."""
    for claimed in Tier:
        record = ASK.record(command, target, tier=claimed)
        told = why(authority, ASK.ask(record))
        # a stricter claim may ask for a person where the signer would not; a looser one loosens nothing
        wanted = alone and (command == READ or claimed is Tier.TRUSTED)
        assert told == ("" if wanted else "certificate refused: approved by a person")
        assert why(authority, ASK.ask(ASK.record(command, target, tier=claimed), MANAGER)) == ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One thing that a broker which was taken over tries, and the rule that says no."""

    name: str
    rule: str
    make: Callable[[], SignSsh]


def _forced(command: bytes) -> str:
    return force_command(command, cwd="", env={}, seconds=60)


def _other(record_command: bytes, runs: bytes, *signers: object) -> SignSsh:
    record = ASK.record(record_command)
    spec = replace(ASK.spec(record), force_command=_forced(runs))
    return ASK.ask(record, *signers, spec=spec)  # type: ignore[arg-type]


def _moved(**changes: object) -> SignSsh:
    """The record of another place under a specification for web1."""
    honest = ASK.record()
    return ASK.ask(replace(honest, **changes), MANAGER, spec=ASK.spec(honest))  # type: ignore[arg-type]


def _over_another() -> SignSsh:
    ask, other = ASK.ask(ASK.record(), MANAGER), ASK.ask(ASK.record(), MANAGER)
    return replace(ask, signatures=other.signatures)


def _forward(*flags: str, granted_by: tuple[object, ...] = (), **changes: object) -> SignSsh:
    record = ASK.record(b"grantd-forward db1 5432")
    access = ASK.access(record, *flags, **changes)
    return ASK.ask(record, access=access, granted_by=granted_by)  # type: ignore[arg-type]


def _undecided(command: bytes) -> SignSsh:
    record = replace(ASK.record(), command=command)
    return ASK.ask(record, MANAGER, spec=ASK.spec(ASK.record()))


def _signed_as(namespace: str, *, deny: bool = False) -> SignSsh:
    ask = ASK.ask(ASK.record())
    message = denial_record(ask.record) if deny else ask.record
    return replace(ask, signatures=(MANAGER.sign(message, namespace),))


def _in_tenant(tenant: str) -> SignSsh:
    record = ASK.record(tenant=tenant)
    principal = principal_of(TenantId(tenant), TargetId(record.target_id), record.login)
    return ASK.ask(record, MANAGER, spec=replace(ASK.spec(record), principals=(principal,)))


def _long() -> SignSsh:
    record = ASK.record(not_after=NOW + timedelta(seconds=70))
    text = force_command(record.command, cwd="", env={}, seconds=3_600)
    return ASK.ask(record, MANAGER, spec=replace(ASK.spec(record), force_command=text))


TRIES = (
    Try(name="no signature", rule="approved by a person", make=lambda: ASK.ask(ASK.record())),
    Try(name="no record", rule="the record of an action", make=lambda: replace(ASK.ask(ASK.record()), record=b"")),
    Try(name="a stranger's key", rule="signed over this record", make=lambda: ASK.ask(ASK.record(), STRANGER)),
    Try(name="one good, one stranger", rule="signed over this record",
        make=lambda: ASK.ask(ASK.record(), MANAGER, STRANGER)),
    Try(name="over another record", rule="signed over this record", make=_over_another),
    Try(name="in another namespace", rule="signed over this record",
        make=lambda: _signed_as("grantd-change@v1")),
    Try(name="a denial", rule="signed over this record", make=lambda: _signed_as("grantd-approval@v1", deny=True)),
    Try(name="by a viewer", rule="approved by those who decide", make=lambda: ASK.ask(ASK.record(), VIEWER)),
    Try(name="by who asked", rule="approved by another than who asked",
        make=lambda: ASK.ask(ASK.record(requester=MANAGER.id), MANAGER)),
    Try(name="one person twice for a quorum", rule="approved by as many as the target wants",
        make=lambda: ASK.ask(ASK.record(target="two1"), MANAGER, MANAGER)),
    Try(name="asked too long ago", rule="asked a short while ago",
        make=lambda: ASK.ask(ASK.record(nonce=timed_nonce(NOW - timedelta(minutes=21), bytes(12))), MANAGER)),
    Try(name="asked in the future", rule="asked a short while ago",
        make=lambda: ASK.ask(ASK.record(nonce=timed_nonce(NOW + timedelta(minutes=2), bytes(12))), MANAGER)),
    Try(name="a class that is too low", rule="the class that its command has",
        make=lambda: ASK.ask(ASK.record(command_class="read", login="reader"))),
    Try(name="not opaque", rule="the class that its command has",
        make=lambda: ASK.ask(ASK.record(OPAQUE, opaque=False), MANAGER)),
    Try(name="another command is forced", rule="the command of its record",
        make=lambda: _other(WRITE, INSTALL, MANAGER)),
    Try(name="a bare command is forced", rule="the command of its record",
        make=lambda: ASK.ask(ASK.record(), MANAGER, spec=replace(ASK.spec(ASK.record()), force_command="id"))),
    Try(name="a read's record, an install forced", rule="the command of its record",
        make=lambda: _other(READ, INSTALL)),
    Try(name="another environment", rule="the command of its record",
        make=lambda: _moved(env={"LANG": "C"}, login="deploy")),
    Try(name="another directory", rule="the command of its record", make=lambda: _moved(cwd="/root")),
    Try(name="no force-command", rule="its one command, as it is no read",
        make=lambda: ASK.ask(ASK.record(), MANAGER, sealed=False)),
    Try(name="no force-command on the privileged login", rule="the login that reads are for",
        make=lambda: ASK.ask(ASK.record(READ, login="deploy"), sealed=False)),
    Try(name="no force-command where reads are sealed", rule="its one command, on this login",
        make=lambda: ASK.ask(ASK.record(READ, "seal1"), sealed=False)),
    Try(name="a terminal on an open connection", rule="its one command, as it is no read",
        make=lambda: ASK.ask(ASK.record(READ, pty=True), sealed=False)),
    Try(name="another target", rule="the target of its record", make=lambda: _moved(target_id=target_id("lab1"))),
    Try(name="another login", rule="the target of its record", make=lambda: _moved(login="app")),
    Try(name="another tenant", rule="the target of its record", make=lambda: _moved(tenant="t2")),
    Try(name="a tenant of its own", rule="a target that an owner named",
        make=lambda: _in_tenant("evil")),
    Try(name="a target that nobody named", rule="a target that an owner named",
        make=lambda: ASK.ask(ASK.record(target="prod9"), MANAGER)),
    Try(name="a login that is none", rule="a login that the target has",
        make=lambda: ASK.ask(ASK.record(login="root"), MANAGER)),
    Try(name="another host key", rule="the host key that the target has",
        make=lambda: ASK.ask(ASK.record(host_key=HOST_KEY[::-1]), MANAGER)),
    Try(name="a life beyond its record", rule="the end of its record",
        make=lambda: ASK.ask(ASK.record(not_after=NOW + timedelta(seconds=5)), MANAGER,
                             spec=ASK.spec(ASK.record()))),
    Try(name="seconds beyond its record", rule="the end of its record", make=_long),
    Try(name="a record that is over", rule="the end of its record",
        make=lambda: ASK.ask(ASK.record(not_after=NOW), MANAGER, spec=ASK.spec(ASK.record()))),
    Try(name="a forward that nobody granted", rule="approved by a person",
        make=lambda: ASK.ask(ASK.record(b"grantd-forward db1 5432"))),
    Try(name="a forward to elsewhere", rule="approved by a person",
        make=lambda: _forward("forward=db2:5432", granted_by=(MANAGER,))),
    Try(name="a forward, unsigned", rule="approved by as many",
        make=lambda: _forward("forward=db1:5432")),
    Try(name="a forward of another request", rule="the access that its record names",
        make=lambda: _forward("forward=db1:5432", granted_by=(MANAGER,), request_id=render("request", b"1" * 16))),
    Try(name="a forward granted long ago", rule="asked a short while ago",
        make=lambda: _forward("forward=db1:5432", granted_by=(MANAGER,),
                              nonce=timed_nonce(NOW - timedelta(hours=2), bytes(12)))),
    Try(name="a nonce without a time in it", rule="asked a short while ago",
        make=lambda: ASK.ask(ASK.record(nonce=b"short"), MANAGER)),
    Try(name="an access that is none", rule="the access that its record names",
        make=lambda: replace(_forward("forward=db1:5432", granted_by=(MANAGER,)), access=b"no record")),
    Try(name="a command that no classifier can read", rule="a command that can be decided",
        make=lambda: _undecided(b"\xff\xfe")),
    Try(name="a keyboard for a read that it could leave", rule="approved by a person",
        make=lambda: ASK.ask(ASK.record(b"git log", pty=True, stdin_mode="stream"))),
)  # fmt: skip


@pytest.mark.parametrize("attempt", TRIES, ids=lambda attempt: attempt.name)
def test_what_is_not_proven_is_not_signed(authority: Authority, attempt: Try) -> None:
    """Each is refused by its own rule; the honest question beside it is signed."""
    assert attempt.rule in why(authority, attempt.make())
    assert why(authority, ASK.ask(ASK.record(), MANAGER)) == ""


@pytest.mark.parametrize(("age_s", "rule"), [(20 * 60 + 29, ""), (20 * 60 + 31, "asked a short while ago")])
def test_an_approval_is_old_to_the_second(authority: Authority, age_s: int, rule: str) -> None:
    """I-13: ten minutes to decide, ten to start and the clocks' slack after it was asked, and no more."""
    asked = timed_nonce(NOW - timedelta(seconds=age_s), bytes(12))
    told = why(authority, ASK.ask(ASK.record(nonce=asked), MANAGER))
    assert told.endswith(rule) if rule else told == ""


def test_an_approval_is_good_for_one_certificate(directory: Path) -> None:
    """I-13, I-63: not twice, not after the signer has started again, and not in two questions at a time."""
    first = open_authority(directory)
    ask = ASK.ask(ASK.record(), MANAGER)
    assert why(first, ask) == ""
    again = replace(ask, spec=replace(ask.spec, serial=ask.spec.serial ^ 2))
    assert "not used yet" in why(first, again)
    first.stop()
    second = open_authority(directory)
    assert "not used yet" in why(second, again)
    second.stop()


def test_what_is_honest_is_signed(authority: Authority) -> None:
    """A sealed and an open read, a file session, a forward, a keyboard, a quorum: all that the product does."""
    forward = _forward("forward=db1:5432", granted_by=(MANAGER,))
    keyed = ASK.record(b"git log", pty=True, stdin_mode="stream")
    files = ASK.record(sftp.WRITING)
    text = force_command(sftp.program(sftp.WRITING), cwd="", env={}, seconds=60)
    honest = (
        ASK.ask(ASK.record(READ)),
        ASK.ask(ASK.record(READ), sealed=False),
        ASK.ask(ASK.record(READ, login="app"), sealed=False),
        ASK.ask(ASK.record(READ, "seal1")),
        forward,
        ASK.ask(keyed, access=ASK.access(keyed, "shell"), granted_by=(OWNER,)),
        ASK.ask(files, MANAGER, spec=replace(ASK.spec(files), force_command=text)),
        ASK.ask(ASK.record(target="two1"), MANAGER, SECOND),
        ASK.ask(ASK.record(cwd="/srv", env={"LANG": "C.UTF-8"}), OWNER),
        ASK.ask(ASK.record(WRITE, command_class="install"), MANAGER),  # a site says worse than the catalogue
    )
    for ask in honest:
        assert why(authority, ask) == "", ask.record
