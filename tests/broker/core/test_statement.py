"""The statement that an owner signs is the same bytes on both sides, though neither knows the other's code."""

from __future__ import annotations

import pytest

from broker.core.cert import Ca
from broker.core.generation import Step
from broker.core.identity import Login
from broker.core.ids import render
from broker.core.records import pae
from broker.core.roles import Role
from broker.core.sshwire import parse_line
from broker.core.statement import (
    MAX_STATEMENT_BYTES,
    TRUST,
    Machine,
    NotAStatement,
    Person,
    Programs,
    Rotation,
    content_bytes,
    read_statement,
)
from grantd import statements
from grantd.errors import Invalid
from policy.classes import CommandClass, Tier
from tests.broker.signer.world import OWNER, SECOND, TENANT, statement, target_id
from tests.broker.ssh_keys import NOW, SoftwareToken


def test_both_sides_say_the_same() -> None:
    """Person, target, programs and a step of a rotation, byte for byte."""
    keys = (OWNER.line, SECOND.line)
    person = Person(name="olga", role=Role.OWNER, active=True, keys=keys)
    assert content_bytes(person) == statements.person(
        name="olga", role="owner", active=True, keys=[f"{line} a comment" for line in keys]
    )
    logins = (Login(name="deploy", read_login="reader"), Login(name="app", read_login=""))
    machine = Machine(
        name="web1", tier=Tier.CLOSED_LOOP, host_key=parse_line(OWNER.line).sha256(), logins=logins, seal_reads=True,
        quorum={CommandClass.REBOOT: 3, CommandClass.INSTALL: 2},
    )  # fmt: skip
    assert content_bytes(machine) == statements.target(
        name="web1", tier="closed_loop", host_key=OWNER.line, logins=[(one.name, one.read_login) for one in logins],
        seal_reads=True, quorum=statements.quorum({"install": 2, "reboot": 3}),
    )  # fmt: skip
    texts = {"b.toml": "[b]\n", "a.toml": "[a]\n"}
    assert content_bytes(Programs(texts=texts)) == statements.programs(texts)
    for forced in (True, False):
        step = Rotation(ca=Ca.EGRESS, step=Step.FINISH, number=11, forced=forced)
        packed = statements.rotation(ca="egress", step="finish", number=11, forced=forced)
        assert content_bytes(step) == packed
        assert statements.rotated_number(packed) == 11
        assert dict(statements.told(packed)) == {
            "ca": "egress", "step": "finish", "key": "11", "forced": "yes" if forced else "no"
        }  # fmt: skip


def test_one_statement_follows_the_other() -> None:
    """Revision, previous hash and time; and back."""
    first = statement(OWNER.id, OWNER.person(Role.OWNER))
    second = statement(OWNER.id, OWNER.person(Role.OWNER, active=False), before=first)
    made = statements.following(
        first.encoded(), tenant=TENANT, subject=OWNER.id, content=content_bytes(second.content),
        at_us=int(NOW.timestamp() * 1_000_000),
    )  # fmt: skip
    assert made.encoded() == second.encoded()
    assert statements.Statement.parse(second.encoded()) == made
    assert statements.suspended(content_bytes(first.content)) == content_bytes(second.content)
    assert read_statement(second.encoded()) == second


def packed(subject: str, *content: bytes, **changes: bytes) -> bytes:
    """A statement by hand: the one spelling of everything but what a test puts in."""
    parts = {"head": TRUST, "tenant": b"t1", "subject": subject.encode(), "revision": b"1", "previous": b""}
    parts |= {"content": pae(content), "at": b"1760000000000000"} | changes
    return pae(parts.values())


LINE, HASH = OWNER.line.encode(), bytes(32)
WEB, GLASS = target_id("web1"), render("glass", bytes(16))
PERSON = (b"person", b"olga", b"owner", b"1", pae([LINE]))
TARGET = (b"target", b"web1", b"approval", HASH, pae([b"deploy", b"reader"]), b"0", pae([b"install", b"2"]))
SEALED = (b"break-glass", OWNER.id.encode(), WEB.encode(), b"deploy", b"write", LINE, b"1770000000000000")


def changed(content: tuple[bytes, ...], place: int, part: bytes) -> tuple[bytes, ...]:
    """The content with one part of it changed."""
    return (*content[:place], part, *content[place + 1 :])


@pytest.mark.parametrize(
    ("subject", "content"),
    [(OWNER.id, PERSON), (WEB, TARGET), ("programs", (b"programs", b"a.toml", b"[a]")), (GLASS, SEALED)],
)
def test_an_honest_statement_is_read(subject: str, content: tuple[bytes, ...]) -> None:
    """So that what the next test refuses, it refuses for the one thing it changed."""
    whole = packed(subject, *content)
    assert read_statement(whole).encoded() == whole
    second = packed(subject, *content, revision=b"2", previous=HASH)
    assert read_statement(second).revision == 2


WRONG = {
    "another's head": packed(OWNER.id, *PERSON, head=b"grantd/trust/v2"),
    "no tenant": packed(OWNER.id, *PERSON, tenant=b"T 1"),
    "revision 0": packed(OWNER.id, *PERSON, revision=b"0"),
    "a revision spelled twice": packed(OWNER.id, *PERSON, revision=b"01"),
    "a first revision after another": packed(OWNER.id, *PERSON, previous=HASH),
    "a second revision after none": packed(OWNER.id, *PERSON, revision=b"2"),
    "half a hash": packed(OWNER.id, *PERSON, revision=b"2", previous=HASH[:16]),
    "no time": packed(OWNER.id, *PERSON, at=b"now"),
    "a time after all time": packed(OWNER.id, *PERSON, at=b"9" * 30),
    "another kind": packed(OWNER.id, b"agent", *PERSON[1:]),
    "a person under a target's id": packed(WEB, *PERSON),
    "a target under a person's id": packed(OWNER.id, *TARGET),
    "programs under a person's id": packed(OWNER.id, b"programs", b"a.toml", b"[a]"),
    "programs, one without text": packed("programs", b"programs", b"a.toml"),
    "programs, unsorted": packed("programs", b"programs", b"b.toml", b"", b"a.toml", b""),
    "a person without a name": packed(OWNER.id, *changed(PERSON, 1, b"")),
    "no role": packed(OWNER.id, *changed(PERSON, 2, b"king")),
    "no flag": packed(OWNER.id, *changed(PERSON, 3, b"yes")),
    "no key": packed(OWNER.id, *changed(PERSON, 4, pae([]))),
    "a key twice": packed(OWNER.id, *changed(PERSON, 4, pae([LINE, LINE]))),
    "a key with a comment": packed(OWNER.id, *changed(PERSON, 4, pae([LINE + b" me"]))),
    "no key line": packed(OWNER.id, *changed(PERSON, 4, pae([b"ssh-ed25519 AAAA"]))),
    "too many keys": packed(OWNER.id, *changed(PERSON, 4, pae([LINE] * 9))),
    "no tier": packed(WEB, *changed(TARGET, 2, b"free")),
    "no host key": packed(WEB, *changed(TARGET, 3, b"")),
    "no login": packed(WEB, *changed(TARGET, 4, pae([]))),
    "half a login": packed(WEB, *changed(TARGET, 4, pae([b"deploy"]))),
    "a login that is an option": packed(WEB, *changed(TARGET, 4, pae([b"-oProxyCommand=x", b""]))),
    "too many logins": packed(WEB, *changed(TARGET, 4, pae([b"deploy", b""] * 17))),
    "a quorum of one": packed(WEB, *changed(TARGET, 6, pae([b"install", b"1"]))),
    "a quorum of ten": packed(WEB, *changed(TARGET, 6, pae([b"install", b"10"]))),
    "a quorum of no class": packed(WEB, *changed(TARGET, 6, pae([b"delete", b"2"]))),
    "a quorum twice": packed(WEB, *changed(TARGET, 6, pae([b"install", b"2", b"install", b"3"]))),
    "glass for nobody": packed(GLASS, *changed(SEALED, 1, WEB.encode())),
    "glass for no target": packed(GLASS, *changed(SEALED, 2, OWNER.id.encode())),
    "glass for no login": packed(GLASS, *changed(SEALED, 3, b"-x")),
    "glass for no class": packed(GLASS, *changed(SEALED, 4, b"all")),
    "glass of a key with a comment": packed(GLASS, *changed(SEALED, 5, LINE + b" me")),
    "glass of a hardware key": packed(GLASS, *changed(SEALED, 5, SoftwareToken(key=OWNER.key).line().encode())),
    "glass for ever": packed(GLASS, *changed(SEALED, 6, b"never")),
    "no UTF-8": packed(OWNER.id, *changed(PERSON, 1, b"\xff")),
}


@pytest.mark.parametrize("why", WRONG)
def test_each_rule_of_a_statement_refuses_alone(why: str) -> None:
    """I-10: what an owner would be shown and what the signer keeps can never differ."""
    with pytest.raises(NotAStatement):
        read_statement(WRONG[why])


def test_an_endless_statement_is_not_looked_at() -> None:
    """More bytes than any honest statement has."""
    with pytest.raises(NotAStatement):
        read_statement(packed("programs", b"programs", b"a.toml", bytes(MAX_STATEMENT_BYTES)))


@pytest.mark.parametrize("cut", [0, 3, 20, -1])
def test_damage_is_no_statement(cut: int) -> None:
    """Neither side reads what is cut, prolonged or of another kind."""
    whole = statement(target_id("web1"), Person(name="x", role=Role.OWNER, active=True, keys=(OWNER.line,))).encoded()
    for data in (whole[:cut], whole + b"\0", whole):
        with pytest.raises(NotAStatement):
            read_statement(data)
    with pytest.raises(Invalid):
        statements.Statement.parse(whole[:cut])
