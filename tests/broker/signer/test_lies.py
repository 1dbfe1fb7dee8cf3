"""A broker that lies to the signer in one field at a time gets nothing that people or the tier did not allow."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from broker.core.records import timed_nonce
from broker.core.roles import Role
from broker.core.signing import Answer, Refused, Signed
from broker.core.wrapper import force_command
from broker.signer.authority import Authority
from policy.classes import CommandClass, Tier
from policy.shell import Classified
from tests.broker.signer.world import (
    INSTALL,
    MANAGER,
    OWNER,
    PEOPLE,
    SECOND,
    WRITE,
    Asker,
    Signatory,
    furnish,
    learn,
    machine,
    open_authority,
    statement,
)
from tests.broker.ssh_keys import NOW

TWO = replace(machine("two"), quorum={CommandClass.INSTALL: 2})
LOOP = machine("loop", Tier.CLOSED_LOOP)
THIRD = Signatory.named("theo")


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    """A signer with targets of every tier, one of them with a quorum."""
    furnish(tmp_path, machine("web1"), machine("free", Tier.TRUSTED), TWO, LOOP)
    opened = open_authority(tmp_path)
    try:
        yield opened
    finally:
        opened.stop()


def _why(answer: Answer) -> str:
    return answer.why if isinstance(answer, Refused) else ""


def test_a_worse_class_lowers_no_quorum(authority: Authority) -> None:
    """A target that wants two people for installs wants two also where the install is called a reboot (I-12)."""
    asker = Asker()
    lie = asker.record(INSTALL, "two", command_class="reboot")
    assert _why(authority.answer(asker.ask(lie, OWNER))).endswith("approved by as many as the target wants")
    assert isinstance(authority.answer(asker.ask(asker.record(INSTALL, "two"), OWNER, SECOND)), Signed)


def test_an_access_for_one_login_gives_no_keyboard_at_another(authority: Authority) -> None:
    """What was granted for `app` is no yes for `deploy` on the same target (I-04, I-10)."""
    asker = Asker()
    record = asker.record(WRITE, "free", tier=Tier.TRUSTED, pty=True, stdin_mode="stream")
    access = asker.access(record, "shell")
    other = replace(access, login="app")
    lie = asker.ask(record, access=other, granted_by=(MANAGER,))
    assert _why(authority.answer(lie)).endswith("the access that its record names")
    assert isinstance(authority.answer(asker.ask(record, access=access, granted_by=(MANAGER,))), Signed)


def test_an_access_carries_nothing_above_its_ceiling(authority: Authority) -> None:
    """An access up to reads is no yes for a keyboard in a write (I-04)."""
    asker = Asker()
    record = asker.record(WRITE, "free", tier=Tier.TRUSTED, pty=True, stdin_mode="stream")
    lie = asker.ask(record, access=replace(asker.access(record, "shell"), ceiling="read"), granted_by=(MANAGER,))
    assert _why(authority.answer(lie)).endswith("the ceiling of its access")


def test_reads_run_as_the_login_that_reads_are_for(authority: Authority) -> None:
    """Under a forced command too: a privileged login with a read login of its own reads nothing alone (I-06)."""
    asker = Asker()
    lie = asker.record(b"cat /etc/shadow", login="deploy")
    assert _why(authority.answer(asker.ask(lie))).endswith("the login that reads are for")
    for login in ("reader", "app"):
        assert isinstance(authority.answer(asker.ask(asker.record(b"cat /etc/shadow", login=login))), Signed)


def test_another_tier_lets_no_write_run_where_it_needs_a_verification(authority: Authority) -> None:
    """Closed Loop without a verification asks; calling it Trusted changes nothing."""
    asker = Asker()
    lie = asker.record(WRITE, "loop", tier=Tier.TRUSTED)
    assert _why(authority.answer(asker.ask(lie))).endswith("approved by a person")


@pytest.mark.parametrize("env", [{"LC_ALL": "/var/x"}, {"LANG": "a" * 65}, {"TERM": "a;b"}, {"PATH": "/var"}])
def test_the_environment_is_one_that_a_plan_may_set(authority: Authority, env: dict[str, str]) -> None:
    """A locale named by a path is a file of whoever can write there (I-21)."""
    asker = Asker()
    record = asker.record(b"uname -a", env=env)
    spec = asker.spec(replace(record, env={}))
    try:
        forced = force_command(record.command, cwd="", env=env, seconds=60)
    except ValueError:
        forced = spec.force_command
    assert isinstance(authority.answer(asker.ask(record, spec=replace(spec, force_command=forced))), Refused)


@pytest.mark.parametrize(
    "changes",
    [
        {"command_class": "nothing"},
        {"tier": "root"},
        {"stdin_mode": "telepathy"},
        {"cwd": "relative"},
    ],
)
def test_words_that_name_nothing_are_refused(authority: Authority, changes: dict[str, str]) -> None:
    """An answer, not an exception that ends the conversation: fails closed, and says so."""
    asker = Asker()
    assert isinstance(authority.answer(asker.ask(asker.record(INSTALL, **changes), OWNER)), Refused)


def test_times_beyond_all_time_are_refused(authority: Authority) -> None:
    """No number of a record, an access or a wrapper ends the conversation."""
    asker = Asker()
    record = asker.record(WRITE, "free", tier=Tier.TRUSTED, pty=True, stdin_mode="stream")
    forever = replace(asker.access(record, "shell"), ttl=timedelta.max)
    assert isinstance(authority.answer(asker.ask(record, access=forever, granted_by=(MANAGER,))), Refused)
    spec = asker.spec(record)
    endless = spec.force_command.replace(" 6000 ", f" {10**30} ")
    assert endless != spec.force_command
    assert isinstance(authority.answer(asker.ask(record, spec=replace(spec, force_command=endless))), Refused)
    assert isinstance(authority.answer(asker.ask(replace(record, nonce=timed_nonce(NOW, os.urandom(12))[:8]))), Refused)


def test_one_owner_takes_no_other_the_second_voice_by_a_lower_role(authority: Authority) -> None:
    """Where there are three owners, one alone lowers none of the others until nobody else is left (I-43)."""
    third = statement(THIRD.id, THIRD.person(Role.OWNER))
    assert isinstance(authority.answer(learn(third, OWNER, SECOND)), Signed)
    before = statement(SECOND.id, SECOND.person(Role.OWNER))
    lower = statement(SECOND.id, SECOND.person(Role.VIEWER), before=before)
    assert _why(authority.answer(learn(lower, OWNER))).endswith("a second person, where there are two")
    assert isinstance(authority.answer(learn(lower, OWNER, THIRD)), Signed)


def test_a_manager_is_lowered_by_one(authority: Authority) -> None:
    """What takes power from whoever was no second voice stays quick."""
    assert (MANAGER, Role.MANAGER) in PEOPLE
    before = statement(MANAGER.id, MANAGER.person(Role.MANAGER))
    lower = statement(MANAGER.id, MANAGER.person(Role.VIEWER), before=before)
    assert isinstance(authority.answer(learn(lower, OWNER)), Signed)


def test_long_commands_leave_nothing_behind(authority: Authority) -> None:
    """Whoever runs many long commands does not fill the signer's memory with verdicts over them (I-60)."""
    asker = Asker()
    spoken = [b"cat " + b" ".join(b"%d.%d" % (number, word) for word in range(1_000)) for number in range(12)]

    def verdicts() -> int:
        gc.collect()
        return sum(isinstance(each, Classified) for each in gc.get_objects())

    before = verdicts()
    for command in spoken:
        assert isinstance(authority.answer(asker.ask(asker.record(command))), Signed)
    assert verdicts() == before
