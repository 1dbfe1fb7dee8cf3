"""Whom the signer believes, and what it takes to change that (I-12, I-17, I-43)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from broker.core.errors import Fault
from broker.core.ids import TenantId
from broker.core.records import CHANGE_NAMESPACE
from broker.core.roles import Role
from broker.core.signing import AskTrust, Learn, Refused, Signed
from broker.core.statement import PROGRAMS, TRUST_NAMESPACE, Machine, Programs, Statement, read_statement
from broker.signer.authority import Authority
from broker.signer.trust import NAME, TrustFault, TrustFile
from policy.classes import CommandClass, Tier
from tests.broker.signer.world import (
    MANAGER,
    OWNER,
    PEOPLE,
    SECOND,
    STRANGER,
    TENANT,
    VIEWER,
    Signatory,
    furnish,
    learn,
    machine,
    open_authority,
    signed,
    statement,
    target_id,
)
from tests.broker.ssh_keys import NOW

WEB = machine("web1", Tier.TRUSTED)
NEW = Signatory.named("nora")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A signer that believes PEOPLE and one target."""
    furnish(tmp_path / "keys", WEB)
    return open_authority(tmp_path / "keys")


def current(authority: Authority, subject: str) -> Statement:
    """What it believes of a subject."""
    answer = authority.answer(AskTrust(tenant=TENANT, subject=subject))
    assert isinstance(answer, Signed)
    return read_statement(answer.blob)


def why(authority: Authority, ask: Learn) -> str:
    """The rule that refuses it; empty where it is believed."""
    answer = authority.answer(ask)
    return answer.why if isinstance(answer, Refused) else ""


def of_web(authority: Authority, changed: Machine) -> Statement:
    """The next statement about web1."""
    return statement(target_id("web1"), changed, before=current(authority, target_id("web1")))


@pytest.mark.parametrize(
    ("changed", "alone"),
    [
        (replace(WEB, tier=Tier.APPROVAL), True),
        (replace(WEB, seal_reads=True), True),
        (replace(WEB, quorum={CommandClass.INSTALL: 2}), True),
        (replace(WEB, tier=Tier.CLOSED_LOOP), False),
        (replace(WEB, logins=WEB.logins[:1]), False),
        (replace(WEB, logins=(*WEB.logins[:1], replace(WEB.logins[1], name="root"))), False),
    ],
    ids=["stricter tier", "sealed reads", "more people", "looser tier", "fewer logins", "another login"],
)
def test_lowering_takes_one_and_raising_two(authority: Authority, changed: Machine, *, alone: bool) -> None:
    """I-17, I-43: lowering is quick, raising is nobody's alone."""
    said = of_web(authority, changed)
    first = why(authority, learn(said, OWNER))
    assert ("second person" in first) is not alone
    if not alone:
        assert why(authority, learn(said, OWNER, SECOND)) == ""
        back = statement(said.subject, WEB, before=said)
        if changed.tier is Tier.CLOSED_LOOP:
            assert why(authority, learn(back, OWNER)) == ""
    assert current(authority, said.subject).content in (changed, WEB)


def _person(who: Signatory, role: Role, **changes: object) -> Callable[[Authority], Learn]:
    return lambda _: learn(replace(statement(who.id, who.person(role)), **changes), OWNER)  # type: ignore[arg-type]


def _by(*signers: Signatory) -> Callable[[Authority], Learn]:
    return lambda authority: learn(of_web(authority, replace(WEB, tier=Tier.APPROVAL)), *signers)


def _old(authority: Authority) -> Learn:
    """What was said first, put back after it was changed."""
    first = current(authority, target_id("web1"))
    assert why(authority, _by(OWNER)(authority)) == ""
    return learn(first, OWNER, SECOND)


def _change(authority: Authority) -> Learn:
    said = of_web(authority, replace(WEB, tier=Tier.APPROVAL))
    return Learn(statement=said.encoded(), signatures=(OWNER.sign(said.encoded(), CHANGE_NAMESPACE),))


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (_by(), "signed by one to four people"),
        (_by(STRANGER), "signed by people whom the signer knows"),
        (_by(OWNER, STRANGER), "signed by people whom the signer knows"),
        (_by(MANAGER), "signed by somebody who may change it"),
        (_by(VIEWER, MANAGER), "signed by somebody who may change it"),
        (_change, "signed by people whom the signer knows"),
        (_old, "the next revision of its subject"),
        (_person(NEW, Role.MANAGER, revision=2, previous=bytes(32)), "the next revision of its subject"),
        (_person(NEW, Role.MANAGER, at=NOW - timedelta(minutes=12)), "signed in the last minutes"),
        (_person(NEW, Role.MANAGER, at=NOW + timedelta(minutes=2)), "signed in the last minutes"),
        (_person(NEW, Role.ADMIN), "signed by a second person"),
        (_person(NEW, Role.MANAGER, tenant=TenantId("evil")), "first owner was named at the signer"),
        (lambda _: learn(statement(NEW.id, replace(NEW.person(Role.VIEWER), keys=(MANAGER.line,))), OWNER),
         "a key is one person's"),
        (lambda _: learn(statement(NEW.id, replace(NEW.person(Role.VIEWER), name=MANAGER.name)), OWNER),
         "a name is one subject's"),
        (lambda a: learn(of_web(a, replace(WEB, name="lab9")), OWNER, SECOND), "a subject keeps its name"),
        (lambda _: learn(statement(target_id("twin"), machine("web1")), OWNER), "a name is one subject's"),
        (lambda _: Learn(statement=b"", signatures=()), "not a statement"),
        (lambda _: learn(statement(PROGRAMS, Programs(texts={"t.toml": "[x"})), OWNER, SECOND), "programs that load"),
        (lambda _: learn(statement(PROGRAMS, Programs(texts={})), OWNER), "signed by a second person"),
    ],
    ids=["nobody", "a stranger", "one good, one stranger", "a manager", "no writer", "another namespace", "an old one",
         "a gap", "too late", "too early", "an admin alone", "another tenant", "another's key", "another's name",
         "another name", "a twin", "nothing", "bad programs", "programs alone"],
)  # fmt: skip
def test_what_breaks_a_rule_is_not_believed(
    authority: Authority, make: Callable[[Authority], Learn], rule: str
) -> None:
    """Each by its own rule, and nothing changes."""
    assert rule in why(authority, make(authority))
    assert why(authority, _person(NEW, Role.MANAGER)(authority)) == ""


def test_nobody_takes_the_second_person_away_alone(authority: Authority) -> None:
    """Of two owners one may go by the other's signature, of three none; a suspended one's signature counts no more."""
    third = statement(NEW.id, NEW.person(Role.OWNER))
    assert why(authority, learn(third, OWNER, SECOND)) == ""
    gone = statement(SECOND.id, SECOND.person(Role.OWNER, active=False), before=current(authority, SECOND.id))
    assert "second person" in why(authority, learn(gone, OWNER))
    assert "second person" in why(authority, learn(gone, OWNER, SECOND))
    assert why(authority, learn(gone, OWNER, NEW)) == ""
    assert "whom the signer knows" in why(authority, learn(of_web(authority, WEB), SECOND))
    manager = statement(MANAGER.id, MANAGER.person(Role.MANAGER, active=False), before=current(authority, MANAGER.id))
    assert why(authority, learn(manager, OWNER)) == ""


def test_the_same_again_is_harmless(authority: Authority, tmp_path: Path) -> None:
    """A retry is believed already, and adds no line."""
    ask = _person(NEW, Role.MANAGER)(authority)
    assert why(authority, ask) == ""
    size = (tmp_path / "keys" / NAME).stat().st_size
    assert why(authority, ask) == ""
    assert (tmp_path / "keys" / NAME).stat().st_size == size


@pytest.mark.parametrize("spoil", ["byte", "drop", "swap", "own", "mode"])
def test_a_file_that_the_signer_did_not_write_stops_the_start(tmp_path: Path, spoil: str) -> None:
    """Changed, left out, moved, added or readable: the signer does not start (I-54)."""
    directory = tmp_path / "keys"
    furnish(directory, WEB)
    file = directory / NAME
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == len(PEOPLE) + 1
    match spoil:
        case "byte":
            file.write_bytes(file.read_bytes().replace(b'"n":1', b'"n":7', 1))
        case "drop":
            file.write_bytes(b"".join(lines[:1] + lines[2:]))
        case "swap":
            file.write_bytes(b"".join([lines[0], lines[2], lines[1], *lines[3:]]))
        case "own":
            forged = statement(NEW.id, NEW.person(Role.OWNER))
            trust = TrustFile(directory)
            trust.learn(forged, (NEW.sign(forged.encoded(), TRUST_NAMESPACE),), now=NOW)
            trust.close()
        case _:
            file.chmod(0o640)
    with pytest.raises(TrustFault):
        TrustFile(directory)


def test_half_a_line_is_forgotten(tmp_path: Path) -> None:
    """A power cut inside a write: nobody was told that it counts."""
    directory = tmp_path / "keys"
    furnish(directory, WEB)
    file = directory / NAME
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"n":')
    trust = TrustFile(directory)
    assert trust.book.machine(TENANT, target_id("web1")) == WEB
    trust.close()
    assert file.read_bytes() == whole


def test_a_tenant_begins_once_and_with_its_own_owner(tmp_path: Path) -> None:
    """The first line is an Owner's, by their own key; there is no second first line, nor two openers."""
    directory = tmp_path / "keys"
    directory.mkdir(mode=0o700)
    trust = TrustFile(directory)
    with pytest.raises(TrustFault):
        TrustFile(directory)
    for said, by in (
        (statement(MANAGER.id, MANAGER.person(Role.MANAGER)), MANAGER),
        (statement(OWNER.id, OWNER.person(Role.OWNER)), STRANGER),
        (statement(OWNER.id, OWNER.person(Role.OWNER, active=False)), OWNER),
    ):
        with pytest.raises(Fault):
            trust.begin(said, signed(said, by), now=NOW)
    first = statement(OWNER.id, OWNER.person(Role.OWNER))
    trust.begin(first, signed(first, OWNER), now=NOW)
    with pytest.raises(Fault):
        trust.begin(first, signed(first, OWNER), now=NOW)
    trust.close()
    assert (directory / NAME).stat().st_mode & 0o777 == 0o600
