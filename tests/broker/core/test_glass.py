"""Each rule of what a sealed credential says yes to, broken one by one, beside the honest question (I-62).

The signer's own code in this process, its trust file and its journal; the whole night is tests/e2e/test_break_glass.py.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from broker.core import sftp
from broker.core.glass import NotAUse, read_use
from broker.core.ids import render
from broker.core.records import APPROVAL_NAMESPACE, timed_nonce
from broker.core.roles import Role
from broker.core.signing import SignSsh
from broker.core.statement import Glass, Statement
from broker.signer.authority import Authority
from policy.classes import CommandClass
from tests.broker.signer.sealed import (
    FIRST,
    NEXT,
    SEALED,
    SPARE,
    ask,
    record,
    sealed,
    sealed_directory,
    use,
    why,
    wide,
)
from tests.broker.signer.world import (
    INSTALL,
    MANAGER,
    OPAQUE,
    OWNER,
    SECOND,
    STRANGER,
    TENANT,
    VIEWER,
    Signatory,
    furnish,
    learn,
    machine,
    open_authority,
    statement,
    target_id,
)
from tests.broker.ssh_keys import NOW


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A signer that believes in one sealed credential, and in a spare one."""
    return sealed_directory(tmp_path / "keys")


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One thing that somebody with the broker, or with the sealed key, tries; the rule that says no; and when."""

    name: str
    rule: str
    make: Callable[[], SignSsh]
    at: datetime = NOW


HOUR, LATER = timedelta(hours=1), timedelta(days=30, seconds=1)
TRIES = (
    Try(name="another target", rule="the target of its sealed credential", make=lambda: ask(record(target="lab1"))),
    Try(name="another login", rule="the login of its sealed credential", make=lambda: ask(record(login="app"))),
    Try(name="above the ceiling", rule="the ceiling of its sealed credential", make=lambda: ask(record(INSTALL))),
    Try(name="opaque", rule="the ceiling of its sealed credential", make=lambda: ask(record(OPAQUE))),
    Try(name="a write that is said to be opaque", rule="the ceiling of its sealed credential",
        make=lambda: ask(record(opaque=True))),
    Try(name="called less than it is", rule="the class that its command has",
        make=lambda: ask(record(INSTALL, command_class="write"))),
    Try(name="after the hour", rule="the hour of its sealed credential", at=NOW + HOUR,
        make=lambda: ask(record(nonce=timed_nonce(NOW + HOUR, os.urandom(12)), not_after=NOW + 2 * HOUR))),
    Try(name="an end after the hour", rule="the hour of its sealed credential",
        make=lambda: ask(record(not_after=NOW + HOUR + timedelta(minutes=1)))),
    Try(name="opened in the future", rule="the hour of its sealed credential",
        make=lambda: ask(opening=use(at=NOW + timedelta(minutes=1)))),
    Try(name="it has run out", rule="a sealed credential that has not run out", at=NOW + LATER,
        make=lambda: ask(record(not_after=NOW + LATER + HOUR), use(at=NOW + LATER))),
    Try(name="asked long ago", rule="asked a short while ago",
        make=lambda: ask(record(nonce=timed_nonce(NOW - timedelta(minutes=21), bytes(12))))),
    Try(name="signed by the person's own key", rule="signed by its sealed credential", make=lambda: ask(by=MANAGER)),
    Try(name="signed by another sealed key", rule="signed by its sealed credential", make=lambda: ask(by=SPARE)),
    Try(name="opened by another key", rule="signed by its sealed credential",
        make=lambda: ask(opened_by=STRANGER)),
    Try(name="in the approvers' namespace", rule="signed by its sealed credential",
        make=lambda: ask(namespace=APPROVAL_NAMESPACE)),
    Try(name="one that nobody made", rule="a sealed credential that an owner made",
        make=lambda: ask(opening=use(render("glass", b"x" * 16)))),
    Try(name="under another request", rule="a sealed credential of who asked",
        make=lambda: ask(record(request_id=render("request", b"o" * 16)))),
    Try(name="for somebody else", rule="a sealed credential of who asked",
        make=lambda: ask(record(requester=OWNER.id), use(person=OWNER.id))),
    Try(name="for an agent of theirs", rule="a sealed credential of who asked",
        make=lambda: ask(record(agent_id=render("agent", bytes(16))))),
    Try(name="no signature over the action", rule="signed by its sealed credential alone",
        make=lambda: replace(ask(), signatures=())),
    Try(name="with a terminal", rule="a command by itself", make=lambda: ask(record(pty=True))),
    Try(name="with a keyboard", rule="a command by itself", make=lambda: ask(record(stdin_mode="stream"))),
    Try(name="a connection onwards", rule="a command by itself", make=lambda: wide(b"grantd-forward db 5432")),
    Try(name="a file session", rule="a command by itself", make=lambda: wide(sftp.WRITING)),
    Try(name="as an approver's yes", rule="signed over this record",
        make=lambda: replace(ask(namespace=APPROVAL_NAMESPACE), access=b"", access_signatures=())),
)  # fmt: skip


@pytest.mark.parametrize("attempt", TRIES, ids=lambda attempt: attempt.name)
def test_what_it_does_not_say_yes_to(directory: Path, attempt: Try) -> None:
    """Each is refused by its own rule and spends nothing; the honest question beside it is signed."""
    before = directory.with_name("before") if attempt.at != NOW else directory
    if before != directory:
        shutil.copytree(directory, before)
    authority = open_authority(directory, lambda: attempt.at)
    made, late = attempt.make(), attempt.at - NOW
    spec = replace(
        made.spec, valid_after=made.spec.valid_after + late, valid_before=made.spec.valid_before + late
    )  # fmt: skip
    question = replace(made, spec=spec)
    assert attempt.rule in why(authority, question)
    authority.stop()
    honest = open_authority(before)
    assert why(honest, ask()) == ""
    honest.stop()


def test_it_is_opened_once(directory: Path) -> None:
    """Every action of the hour under the one use, none under a second use, also after the signer started again."""
    first = open_authority(directory)
    again = use(at=NOW + timedelta(seconds=1))
    assert why(first, ask()) == ""
    assert why(first, ask(record(b"touch /tmp/y"))) == ""
    assert "a sealed credential that was not used yet" in why(first, ask(opening=again))
    first.stop()
    second = open_authority(directory)
    assert "a sealed credential that was not used yet" in why(second, ask(opening=again))
    assert why(second, ask()) == ""
    second.stop()


def test_each_action_once(directory: Path) -> None:
    """The sealed key's yes is good for one certificate, as an approver's is."""
    authority = open_authority(directory)
    asked = ask()
    assert why(authority, asked) == ""
    more = replace(asked, spec=replace(asked.spec, serial=asked.spec.serial ^ 2))
    assert "an approval that was not used yet" in why(authority, more)
    authority.stop()


def test_of_somebody_who_left(directory: Path) -> None:
    """A sealed credential dies with the one it is for."""
    authority = open_authority(directory)
    before = _current(authority, MANAGER.id)
    gone = statement(MANAGER.id, MANAGER.person(Role.MANAGER, active=False), before=before)
    assert why(authority, learn(gone, OWNER)) == ""
    assert "a sealed credential of who asked" in why(authority, ask())
    authority.stop()


def _current(authority: Authority, subject: str) -> Statement:
    found = authority._prover._trust.book.current(TENANT, subject)  # noqa: SLF001  what it believes
    assert found is not None
    return found


UNTRUE = {
    "one owner alone": (sealed(SPARE), (OWNER,), "signed by a second person"),
    "a manager": (sealed(SPARE), (MANAGER,), "signed by somebody who may change it"),
    "an owner for themselves": (sealed(SPARE, person=OWNER.id), (OWNER,), "signed by somebody who may change it"),
    "nobody the signer knows": (sealed(SPARE), (STRANGER,), "signed by people whom the signer knows"),
    "a person's own key": (sealed(VIEWER), (OWNER, SECOND), "key is nobody's"),
    "the key of another one": (sealed(SEALED), (OWNER, SECOND), "key is nobody's"),
    "a login that is none": (sealed(STRANGER, login="root"), (OWNER, SECOND), "a login that the target has"),
    "a target that is none": (sealed(STRANGER, target=target_id("x")), (OWNER, SECOND), "a login that the target has"),
    "somebody unknown": (sealed(STRANGER, person=STRANGER.id), (OWNER, SECOND), "for somebody who is known"),
    "for ever": (sealed(STRANGER, until=NOW + timedelta(days=367)), (OWNER, SECOND), "that runs out"),
    "run out already": (sealed(STRANGER, until=NOW), (OWNER, SECOND), "that runs out"),
}


@pytest.mark.parametrize("case", UNTRUE.values(), ids=UNTRUE.keys())
def test_what_is_not_believed(tmp_path: Path, case: tuple[Glass, tuple[Signatory, ...], str]) -> None:
    """Owners alone make one, two where two others could, never for themselves; of a key that is nobody's."""
    furnish(tmp_path / "keys", machine("web1"), machine("lab1"))
    authority = open_authority(tmp_path / "keys")
    content, signers, rule = case
    assert why(authority, learn(statement(FIRST, sealed()), OWNER, SECOND)) == ""
    assert rule in why(authority, learn(statement(NEXT, content), *signers))
    authority.stop()


def test_the_other_owner_alone_makes_an_owners(tmp_path: Path) -> None:
    """Where the one it is for is one of two owners, the other one's signature is all there can be."""
    furnish(tmp_path / "keys", machine("web1"))
    authority = open_authority(tmp_path / "keys")
    assert why(authority, learn(statement(FIRST, sealed(person=OWNER.id)), SECOND)) == ""
    authority.stop()


def test_it_is_said_once(directory: Path) -> None:
    """A later revision cannot widen it, and its key cannot become a person's."""
    authority = open_authority(directory)
    before = _current(authority, FIRST)
    wider = statement(FIRST, sealed(ceiling=CommandClass.REBOOT), before=before)
    assert "said once" in why(authority, learn(wider, OWNER, SECOND))
    taken = replace(VIEWER.person(Role.VIEWER), keys=(SEALED.line,))
    stolen = statement(VIEWER.id, taken, before=_current(authority, VIEWER.id))
    assert "a key is one person's" in why(authority, learn(stolen, OWNER, SECOND))
    authority.stop()


def test_a_use_has_one_spelling() -> None:
    """What opens a credential is read back as it was written, and nothing else is."""
    honest = use()
    assert read_use(honest.encoded()) == honest
    for wrong in (b"", honest.encoded() + b"x", replace(honest, glass=MANAGER.id).encoded(),
                  replace(honest, nonce=b"short").encoded()):  # fmt: skip
        with pytest.raises(NotAUse):
            read_use(wrong)
