"""A CA's key changes because an owner said so, of that key and step, once; never because a broker asks (I-06, I-17)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from broker.core.cert import X509_LIFE, Ca
from broker.core.generation import Stage, Step
from broker.core.ids import TenantId
from broker.core.roles import Role
from broker.core.signing import Ask, AskGenerations, AskTrust, Refused, Signed, Told
from broker.core.statement import Statement, read_statement
from broker.signer.authority import Authority
from broker.signer.keys import load_keys
from broker.signer.trust import NAME, TrustFile
from tests.broker.signer.world import (
    MANAGER,
    OWNER,
    SECOND,
    STRANGER,
    TENANT,
    Signatory,
    furnish,
    learn,
    open_authority,
    rotate,
    rotation,
    signed,
    statement,
)
from tests.broker.ssh_keys import NOW

ADMIN = Signatory.named("adam")
OTHERS, OTHER_OWNER = TenantId("t2"), Signatory.named("otto")


class Signer:
    """A signer over its own directory, whose clock a test moves."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.now = directory, NOW
        self._authority = self._open()

    def answer(self, ask: Ask) -> object:
        return self._authority.answer(ask)

    def why(self, ask: Ask) -> str:
        """The rule that refuses; empty where it is done."""
        answer = self.answer(ask)
        return answer.why if isinstance(answer, Refused) else ""

    def stages(self, ca: Ca) -> list[Stage]:
        told = self.answer(AskGenerations(ca=ca))
        assert isinstance(told, Told)
        return [each.stage for each in told.generations]

    def before(self, ca: Ca) -> Statement | None:
        """What was said last of a CA."""
        told = self.answer(AskTrust(tenant=TENANT, subject=f"ca-{ca}"))
        assert isinstance(told, Signed)
        return read_statement(told.blob) if told.blob else None

    def said(self, ca: Ca, step: Step, number: int, *, forced: bool = False) -> Statement:
        """What an owner would sign now."""
        return rotation(ca, step, number, forced=forced, before=self.before(ca), at=self.now)

    def restart(self) -> None:
        """Another process over the same files: every statement is admitted again."""
        self._authority.stop()
        self._authority = self._open()

    def stop(self) -> None:
        self._authority.stop()

    def _open(self) -> Authority:
        def now() -> datetime:
            return self.now

        return open_authority(self.directory, now)


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[Signer]:
    """PEOPLE and an admin are believed; a second tenant was begun after the first."""
    furnish(tmp_path / "keys")
    trust = TrustFile(tmp_path / "keys")
    other = replace(statement(OTHER_OWNER.id, OTHER_OWNER.person(Role.OWNER)), tenant=OTHERS)
    trust.begin(other, signed(other, OTHER_OWNER), now=NOW)
    trust.close()
    made = Signer(tmp_path / "keys")
    admin = statement(ADMIN.id, ADMIN.person(Role.ADMIN))
    assert made.why(learn(admin, OWNER, SECOND)) == ""
    yield made
    made.stop()


@pytest.mark.parametrize("ca", list(Ca))
def test_one_owner_takes_each_step_in_its_time(signer: Signer, ca: Ca) -> None:
    """No power is raised by it, so one owner is enough; each step is on disk when it is answered."""
    for step, number, stages in (
        (Step.START, 2, [Stage.SIGNING, Stage.NEXT]),
        (Step.SWITCH, 2, [Stage.OLD, Stage.SIGNING]),
        (Step.FINISH, 1, [Stage.SIGNING]),
    ):
        assert signer.why(rotate(signer.said(ca, step, number), OWNER)) == ""
        signer.restart()
        assert signer.stages(ca) == stages
        signer.now += timedelta(days=1)


Ways = dict[str, tuple[Callable[[Signer], Ask], str]]
START: Ways = {
    "nobody signed": (lambda s: rotate(s.said(Ca.EGRESS, Step.START, 2)), "signed by one to four people"),
    "a stranger": (lambda s: rotate(s.said(Ca.EGRESS, Step.START, 2), STRANGER), "people whom the signer knows"),
    "a manager": (lambda s: rotate(s.said(Ca.EGRESS, Step.START, 2), MANAGER), "somebody who may change it"),
    "an admin": (lambda s: rotate(s.said(Ca.EGRESS, Step.START, 2), ADMIN), "somebody who may change it"),
    "another tenant's owner": (
        lambda s: rotate(replace(s.said(Ca.EGRESS, Step.START, 2), tenant=OTHERS), OTHER_OWNER), "the first tenant's",
    ),
    "an owner of no tenant known": (
        lambda s: rotate(replace(s.said(Ca.EGRESS, Step.START, 2), tenant=TenantId("t3")), OWNER), "first owner",
    ),
    "another key's number": (lambda s: rotate(s.said(Ca.EGRESS, Step.START, 3), OWNER), "another key"),
    "a step that is not the next": (lambda s: rotate(s.said(Ca.EGRESS, Step.SWITCH, 1), OWNER), "the next step"),
    "signed too long ago": (
        lambda s: rotate(replace(s.said(Ca.EGRESS, Step.START, 2), at=NOW - timedelta(minutes=12)), OWNER),
        "signed in the last minutes",
    ),
    "signed for tomorrow": (
        lambda s: rotate(replace(s.said(Ca.EGRESS, Step.START, 2), at=NOW + timedelta(minutes=2)), OWNER),
        "signed in the last minutes",
    ),
    "a signature of another step": (
        lambda s: replace(
            rotate(s.said(Ca.EGRESS, Step.START, 2), OWNER),
            signatures=signed(s.said(Ca.HOST, Step.START, 2), OWNER),
        ),
        "people whom the signer knows",
    ),
    "a person's statement": (lambda _: _as_rotation(OWNER.person(Role.OWNER, active=False)), "not of a rotation"),
    "told as something to learn": (lambda s: learn(s.said(Ca.EGRESS, Step.START, 2), OWNER), "asked for as one"),
}  # fmt: skip


def _as_rotation(content: object) -> Ask:
    return rotate(statement(SECOND.id, content), OWNER)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", START)
def test_nobody_else_and_nothing_else_starts_one(signer: Signer, name: str) -> None:
    """Refused by its own rule, and neither a key nor a statement is there afterwards."""
    ask, rule = START[name]
    before = _files(signer.directory)
    assert rule in signer.why(ask(signer))
    assert _files(signer.directory) == before


def test_a_statement_takes_its_step_once(signer: Signer) -> None:
    """Said again at once, or after the whole turn when the same step is next: another revision is wanted."""
    first = rotate(signer.said(Ca.HOST, Step.START, 2, forced=True), OWNER)
    assert signer.why(first) == ""
    assert "the next revision" in signer.why(first)
    for step, number in ((Step.SWITCH, 2), (Step.FINISH, 1)):
        assert signer.why(rotate(signer.said(Ca.HOST, step, number, forced=True), OWNER)) == ""
    signer.restart()
    assert "the next revision" in signer.why(first)
    assert signer.stages(Ca.HOST) == [Stage.SIGNING]


def test_what_was_not_forced_waits_for_its_time(signer: Signer) -> None:
    """A broker that hands an owner's patient step over at once gets nothing for it, nor a second before its time."""
    assert signer.why(rotate(signer.said(Ca.X509, Step.START, 2), OWNER)) == ""
    assert "did not say to force it" in signer.why(rotate(signer.said(Ca.X509, Step.SWITCH, 2), OWNER))
    signer.now += X509_LIFE - timedelta(seconds=1)
    assert "did not say to force it" in signer.why(rotate(signer.said(Ca.X509, Step.SWITCH, 2), OWNER))
    signer.now += timedelta(seconds=1)
    assert signer.why(rotate(signer.said(Ca.X509, Step.SWITCH, 2), OWNER)) == ""
    assert "did not say to force it" in signer.why(rotate(signer.said(Ca.X509, Step.FINISH, 1), OWNER))
    assert signer.why(rotate(signer.said(Ca.X509, Step.FINISH, 1, forced=True), OWNER)) == ""


def test_a_step_whose_keys_could_not_be_written_is_said_anew(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statement is used up, the key is as it was, and the next statement takes the step."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    said = rotate(signer.said(Ca.EGRESS, Step.START, 2), OWNER)
    with monkeypatch.context() as patched:
        patched.setattr("broker.signer.rotation.write_table", full)
        assert signer.why(said)
    assert signer.stages(Ca.EGRESS) == [Stage.SIGNING]
    signer.restart()
    assert "the next revision" in signer.why(said)
    assert signer.why(rotate(signer.said(Ca.EGRESS, Step.START, 2), OWNER)) == ""
    assert signer.stages(Ca.EGRESS) == [Stage.SIGNING, Stage.NEXT]


def _files(directory: Path) -> dict[str, bytes]:
    """Keys and trust, as they lie there."""
    load_keys(directory, owner=os.geteuid())  # still whole
    names = (NAME, *(path.name for path in directory.glob("*.key") if path.name != "journal.key"))
    return {name: (directory / name).read_bytes() for name in names}
