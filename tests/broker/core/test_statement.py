"""The statement that an owner signs is the same bytes on both sides, though neither knows the other's code."""

from __future__ import annotations

import pytest

from broker.core.identity import Login
from broker.core.roles import Role
from broker.core.sshwire import parse_line
from broker.core.statement import Machine, NotAStatement, Person, Programs, content_bytes, read_statement
from grantd import statements
from grantd.errors import Invalid
from policy.classes import CommandClass, Tier
from tests.broker.signer.world import OWNER, SECOND, TENANT, statement, target_id
from tests.broker.ssh_keys import NOW


def test_both_sides_say_the_same() -> None:
    """Person, target and programs, byte for byte."""
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


@pytest.mark.parametrize("cut", [0, 3, 20, -1])
def test_damage_is_no_statement(cut: int) -> None:
    """Neither side reads what is cut, prolonged or of another kind."""
    whole = statement(target_id("web1"), Person(name="x", role=Role.OWNER, active=True, keys=(OWNER.line,))).encoded()
    for data in (whole[:cut], whole + b"\0", whole):
        with pytest.raises(NotAStatement):
            read_statement(data)
    with pytest.raises(Invalid):
        statements.Statement.parse(whole[:cut])
