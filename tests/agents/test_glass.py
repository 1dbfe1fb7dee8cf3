"""What grantctl lets the sealed key sign: the line that was typed, and nothing that a broker puts beside it (I-62)."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from grantd.cli.glass import is_typed
from grantd.cli.sealed import Sealed, seal
from grantd.errors import Invalid
from grantd.profile import replace_file
from grantd.v1 import approval_pb2

LINE = b"systemctl restart shop"


def sealed() -> tuple[Sealed, str]:
    """A credential and its passphrase."""
    return seal(
        tenant="t1", glass_id="bg_" + "a" * 26, person="pe_" + "a" * 26, target="tg_" + "a" * 26, login="deploy",
        ceiling="write", until=datetime(2027, 1, 1, tzinfo=UTC),
    )  # fmt: skip


def asked(of: Sealed, beside: approval_pb2.ActionRecord | None = None) -> approval_pb2.ActionRecord:
    """The record of the line, as an honest broker makes it; with something beside it."""
    made = approval_pb2.ActionRecord(
        tenant=of.tenant, request_id="rq_x", action_id="ac_x", requester=of.person, agent_key=b"k" * 32,
        target_id=of.target, host_key=b"h" * 32, login="deploy", command=LINE, stdin_mode="none",
        command_class="execute", tier="approval", not_after_us=7, policy_version="p", nonce=b"n" * 16,
    )  # fmt: skip
    made.MergeFrom(beside or approval_pb2.ActionRecord())
    return made


Record = approval_pb2.ActionRecord
BESIDE: dict[str, approval_pb2.ActionRecord] = {
    "another command": Record(command=LINE + b" x"),
    "input that is streamed": Record(stdin_mode="stream"),
    "input of the broker's": Record(stdin_mode="declared", stdin_sha256=bytes(32)),
    "a terminal": Record(pty=True),
    "another folder": Record(cwd="/srv"),
    "a variable": Record(env={"LANG": "C"}),
    "another target": Record(target_id="tg_" + "b" * 26),
    "another tenant": Record(tenant="t2"),
    "somebody else": Record(requester="pe_" + "b" * 26),
    "an agent": Record(agent_id="ag_" + "a" * 26),
    "a rollback": Record(rollback=[b"id"]),
    "a verification": Record(verification=approval_pb2.VerificationRecord(command=b"id")),
}


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE.keys())
def test_what_was_not_typed_is_not_signed(beside: approval_pb2.ActionRecord) -> None:
    """A broker in other hands shows a record with more in it than the line: no yes. The honest one gets it."""
    mine, _ = sealed()
    assert is_typed(asked(mine), mine, LINE)
    assert not is_typed(asked(mine, beside), mine, LINE)


def test_the_file_alone_opens_nothing(tmp_path: Path) -> None:
    """The key is in the file under the passphrase alone; what else the file says is bound to it; nobody reads it."""
    mine, words = sealed()
    place = tmp_path / "sealed.json"
    before = os.umask(0)
    try:
        replace_file(place, mine.render())
    finally:
        os.umask(before)
    assert place.stat().st_mode & 0o777 == 0o600
    key = mine.open(words).key.private_bytes_raw()
    raw = place.read_bytes()
    assert key not in raw
    assert key.hex().encode() not in raw
    assert Sealed.parse(raw).open(words.upper()).key.private_bytes_raw() == key
    for old, new in ((b'"write"', b'"reboot"'), (b'"deploy"', b'"root"'), (b'"t1"', b'"t2"'), (b"tg_a", b"tg_b")):
        with pytest.raises(Invalid, match="another passphrase, or the file was changed"):
            Sealed.parse(raw.replace(old, new)).open(words)


def test_a_passphrase_is_125_bits_of_chance() -> None:
    """Five groups of five base32 letters, never twice the same."""
    words = {sealed()[1] for _ in range(3)}
    assert len(words) == 3
    assert all(len(one) == 29 and set(one) <= set("abcdefghijklmnopqrstuvwxyz234567-") for one in words)
