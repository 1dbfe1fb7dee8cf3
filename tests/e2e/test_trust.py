"""An installation from before the signer had a file of its own: nothing is let in until an owner said whom it believes.

Real broker, signer, sshd and grantctl (I-06, I-12, I-17).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import asyncssh
import pytest

from grantd import GrantdError, statements, trust
from grantd.enrolment import micros
from grantd.v1 import admin_pb2
from grantd.v1.action_pb2 import ActionState
from tests import peers
from tests.e2e.stage import AGENTS, ASKS, FREE, PEOPLE, House

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-trust")]
OWNER = "owner"
BEGIN = ("trust", "begin")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house whose signer has no trust file; the tests below set it up again, in their order."""
    for program in ("sshd", "ssh", "ssh-keygen"):
        peers.require(program)
    house = House.build(tmp_path_factory.mktemp("old"))
    try:
        house.stop()
        (house.data / "signer" / "trust.jsonl").unlink()
        house.serve()
        yield house
    finally:
        house.close()


def states(house: House) -> dict[str, str]:
    """Name -> same, other or unknown, as the SDK hears it."""
    return {
        each.name: "same" if each.same else "other" if each.statement else "unknown"
        for each in trust.known(house.client(OWNER), ())
        if each.statement or each.content != statements.programs({})
    }


def listed(house: House) -> dict[str, str]:
    """The same, as `grantctl trust list` says it; exit 1 where anything differs."""
    said = house.ctl(OWNER, "trust", "list")
    rows = [line.split() for line in said.out.splitlines() if line and not line.startswith("NAME")]
    found = {name: state for name, state, *_ in rows}
    assert said.status == (0 if set(found.values()) == {"same"} else 1)
    return found


def begin(house: House, owner: str = OWNER, key: Path | None = None) -> tuple[int, str]:
    """`grantd trust begin`: exit status and what it said."""
    said = house.grantd(
        *BEGIN,
        "--config",
        str(house.config),
        "--owner",
        owner,
        "--owner-key",
        str(key or house.data / "owner/approval_key.pub"),
    )
    return said.status, said.out + said.err


def put(house: House, who: str, data: bytes) -> str:
    """The code that PutTrust refuses a statement with; empty where the signer believes it."""
    client = house.client(who)
    message = admin_pb2.PutTrustRequest(trust=data)
    try:
        house.signed(message, by=(who,))
        client.call(client.admin.PutTrust, message)
    except GrantdError as refused:
        return refused.code
    return ""


def said_of(house: House, name: str, content: bytes | None = None, **changed: str) -> bytes:
    """The next statement about what has this name, as the broker has it unless other content is given."""
    client = house.client(OWNER)
    (entry,) = [each for each in trust.known(client, ()) if each.name == name]
    tenant, subject = changed.get("tenant", client.whoami().tenant), changed.get("subject", entry.subject)
    told = statements.following(
        entry.statement, tenant=tenant, subject=subject, content=content or entry.content,
        at_us=micros(datetime.now(UTC)),
    )  # fmt: skip
    return told.encoded()


def test_nothing_is_let_in_and_each_way_says_so_at_once(old: House) -> None:
    """A list of what is unknown; requests, adoption and rotation are refused by name, with a way out."""
    assert set(listed(old).items()) >= {(name, "unknown") for name in (OWNER, *PEOPLE, ASKS, FREE)}
    asked = old.ctl("builder", "request", FREE, old.sshd.login, "--ttl", "5m", "--reason", "a test")
    assert asked.status != 0
    assert "the signer knows no such target" in asked.err
    assert f"grantctl trust adopt {FREE}" in asked.err
    adopted = old.ctl(OWNER, "trust", "adopt", "--yes")
    rotated = old.ctl(OWNER, "ca", "rotate", "host", "--start")
    for refused in (adopted, rotated):
        assert refused.status != 0
        assert "first owner was named at the signer (grantd trust)" in refused.err


def test_only_an_owner_at_the_signers_own_directory_begins(old: House) -> None:
    """Not while a signer has the file, not for somebody who is no Owner, not with another key, and once."""
    other = old.folder / "approver_key.pub"
    other.write_bytes(asyncssh.read_private_key(str(old.folder / "approver_key")).export_public_key())
    status, said = begin(old)
    assert status != 0
    assert "stop the broker and its signer first" in said
    old.stop()
    for owner, key in (("approver", other), (OWNER, other)):
        status, said = begin(old, owner, key)
        assert status != 0, owner
    status, said = begin(old)
    assert (status, "grantctl trust adopt" in said) == (0, True), said
    file = old.data / "signer" / "trust.jsonl"
    before = file.read_bytes()
    assert begin(old)[0] != 0
    assert file.read_bytes() == before
    assert (file.stat().st_mode & 0o777, file.stat().st_uid) == (0o600, os.geteuid())
    old.serve()
    assert states(old)[OWNER] == "same"


def test_an_owner_adopts_by_name_and_a_yes_counts_only_then(old: House) -> None:
    """A target alone first: whoever approves there is told early that the signer would not count it."""
    missing = old.ctl(OWNER, "trust", "adopt", "nowhere", "--yes")
    assert (missing.status != 0, "nothing to adopt" in missing.err) == (True, True)
    asked = old.ctl(OWNER, "trust", "adopt", ASKS)
    assert "--yes if you have read it" in asked.err
    said = old.ctl(OWNER, "trust", "adopt", ASKS, "--yes")
    assert said.status == 0, said.err
    assert "tier  approval" in said.err + said.out
    assert states(old)[ASKS] == "same"
    running = old.run(old.grant(ASKS), "touch /tmp/grantd-trust-test; rm /tmp/grantd-trust-test")
    action = running.until(ActionState.ACTION_STATE_AWAITING).id
    with pytest.raises(GrantdError) as refused:
        old.decide(action)
    assert refused.value.code == "approver_not_signed"
    assert old.ctl("approver", "trust", "adopt", "approver", "--yes").status != 0
    assert states(old)["approver"] == "unknown"
    said = old.ctl(OWNER, "trust", "adopt", "approver", "--yes")
    assert said.status == 0, said.err
    old.decide(action)
    assert running.finished().exit_status == 0


def test_everything_else_is_adopted_in_one_go_and_the_list_is_clean(old: House) -> None:
    """People first, then targets; afterwards nothing is left to adopt, also after a restart."""
    said = old.ctl(OWNER, "trust", "adopt", "--yes")
    assert said.status == 0, said.err
    assert set(listed(old).values()) == {"same"}
    assert not set(AGENTS) & set(states(old))
    old.stop()
    old.serve()
    assert set(states(old).values()) == {"same"}
    assert old.run(old.grant(FREE), "uname").finished().exit_status == 0
    assert old.audited("trust.stated", bool)


def test_a_statement_is_taken_for_what_it_says_alone(old: House) -> None:
    """PutTrust: a manager's, another tenant's, a damaged one, one of another change, an old one: refused."""
    client = old.client(OWNER)
    (entry,) = [each for each in trust.known(client, ()) if each.name == FREE]
    rotation = statements.rotation(ca="egress", step="start", number=2, forced=True)
    assert put(old, "approver", said_of(old, FREE)) == "not_permitted"
    assert put(old, OWNER, said_of(old, FREE, tenant="elsewhere")) == "not_permitted"
    assert put(old, OWNER, said_of(old, FREE, subject="ca-egress", content=rotation)) == "bad_statement"
    assert put(old, OWNER, said_of(old, FREE)[:-1]) == "bad_statement"
    assert put(old, OWNER, said_of(old, FREE, subject=client.whoami().identity_id)) == "bad_statement"
    assert put(old, OWNER, entry.statement) == ""  # said already: nothing changes by it
    (after,) = [each for each in trust.known(client, ()) if each.name == FREE]
    assert after == entry
    late = statements.following(
        entry.statement, tenant=client.whoami().tenant, subject=entry.subject, content=entry.content,
        at_us=micros(datetime.now(UTC)) - 12 * 60 * 1_000_000,
    )  # fmt: skip
    assert put(old, OWNER, late.encoded()) == "trust_refused"
    assert put(old, OWNER, said_of(old, FREE)) == ""
    assert states(old)[FREE] == "same"
