"""What an approver reads: complete, unmistakable, whatever the agent wrote."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from broker.core import records
from grantd.cli.prompt import card
from grantd.cli.prompt.lines import SPACE_MARK, Line, Style, text_of
from grantd.cli.prompt.question import pose
from grantd.cli.visible import exact
from grantd.v1.approval_pb2 import PendingItem, VerificationRecord
from grantd.v1.options_pb2 import COMMAND_CLASS_EXECUTE, COMMAND_CLASS_READ, CommandPart
from tests.agents.items import access_item, action_item, daemon_record

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)


def drawn(item: PendingItem, width: int = 80) -> list[Line]:
    """The card's lines."""
    return card.draw(pose(item), width=width, now=NOW)


def text(item: PendingItem, width: int = 80) -> str:
    """The card as text."""
    return "\n".join(text_of(line) for line in drawn(item, width))


def resealed(item: PendingItem) -> PendingItem:
    """The item with the digest of its fields as they are now."""
    item.digest = records.digest_of(daemon_record(item.action))
    return item


def command_of(lines: list[Line]) -> str:
    """The command as the numbered lines show it, gutters taken off and marked spaces undone."""
    shown = [text_of(line) for line in lines]
    rows = [line[7:] for line in shown if line[5:6] in ("\u2502", "\u250a")]
    return "".join(rows).replace(SPACE_MARK, " ")


def test_everything_that_is_signed_is_shown() -> None:
    """Each field of the record stands on the card (I-11)."""
    item = action_item(b"install -m 0644 a /srv/b", egress=True, outlives=True, login="root")
    fields = item.action
    fields.cwd = "/srv/app"
    fields.env["LANG"] = "C.UTF-8"
    fields.stdin_mode = "declared"
    fields.stdin_sha256 = hashlib.sha256(b"in").digest()
    fields.pty = True
    fields.rollback.append(b"rm /srv/b")
    check = VerificationRecord(command=b"cat /srv/b", expectation=b"ok", attempts=3, deadline=Duration(seconds=30))
    fields.verification.CopyFrom(check)
    shown = "".join(text_of(line).strip() for line in drawn(resealed(item), 200))
    for value in (
        *(fields.tenant, fields.request_id, fields.action_id, fields.requester, fields.agent_id, fields.target_id),
        *(fields.agent_key.hex(), fields.nonce.hex(), fields.policy_version, fields.stdin_sha256.hex()),
        *("root", "/srv/app", "LANG=C.UTF-8", "rm /srv/b", "cat /srv/b", "at most 3 times within 30 seconds", "ok"),
        *("WRITE", "approval", "EGRESS", "OUTLIVES", "terminal", "SHA256:", "2026-", item.digest.hex()),
    ):
        assert value in shown, value


WRITES, READS = "MADE, CHANGED AND REMOVED", "listed and fetched"
FILE_SESSIONS = {
    b"internal-sftp": (WRITES, "wherever the login may"),
    b"internal-sftp -R": (READS, "wherever the login may"),
    b"internal-sftp --root=/srv/app": (WRITES, "below /srv/app"),
    b"internal-sftp -R --root=/srv/app": (READS, "below /srv/app"),
}


@pytest.mark.parametrize("command", FILE_SESSIONS)
def test_a_file_session_says_what_a_yes_is_to(command: bytes) -> None:
    """Its words name no file: the card says that all of them follow."""
    what, where = FILE_SESSIONS[command]
    assert f"{what}, one after the other until the session ends, {where}" in text(action_item(command), 200)


@pytest.mark.parametrize(
    "command", [b"internal-sftp -d /srv", b"sftp x", b"internal-sftp --root=/a b", b"internal-sftp;id"]
)
def test_no_other_command_is_called_a_file_session(command: bytes) -> None:
    """Neither a part of one nor what looks like one."""
    assert "until the session ends, " not in text(action_item(command), 200)


def test_an_access_request_shows_what_it_opens() -> None:
    """Ceiling, time and each flag in words."""
    shown = text(access_item(ceiling="execute", flags=("raw_shell", "sftp")))
    assert "EXECUTE" in shown
    assert "900 seconds" in shown
    assert "RAW SHELL" in shown
    assert "file transfer" in shown


@given(
    command=st.binary(min_size=1, max_size=300),
    width=st.integers(40, 120),
)
def test_the_command_on_the_card_is_the_command(command: bytes, width: int) -> None:
    """Any bytes at any width: put together again, the lines are exactly the escaped command (I-11)."""
    lines = drawn(action_item(command), width)
    assert command_of(lines) == exact(command)
    assert all(len(text_of(line)) <= width for line in lines)


@given(reason=st.text(max_size=200), host=st.text(max_size=30))
def test_no_foreign_text_reaches_the_card_raw(reason: str, host: str) -> None:
    """Each line is printable, and nothing but our own marks is outside ASCII (F37, F38)."""
    item = action_item(b"id", reason=reason)
    item.target_name, item.identity_name, item.untrusted_ticket = host, reason, host
    ours = "\u2502\u250a\u2592\u27e6\u27e7\u2500\u00b7"
    for line in drawn(item):
        shown = text_of(line)
        assert shown.isprintable()
        assert all(" " <= character <= "~" or character in ours for character in shown)


def test_an_agents_words_stay_behind_their_fence() -> None:
    """A reason that imitates the card is fenced on every line, its newlines shown (F37)."""
    forged = (
        "please\n\u2500\u2500 MAY THIS COMMAND RUN? \u2500\u2500\n class        READ\n to approve   type y and Enter"
    )
    item = action_item(b"reboot", command_class="reboot", reason=forged)
    fenced = [text_of(line) for line in drawn(item) if text_of(line).startswith(" \u2592 ")]
    outside = [text_of(line) for line in drawn(item) if not text_of(line).startswith(" \u2592 ")]
    assert sum("type y and Enter" in line for line in fenced) == 1
    assert not any("type y and Enter" in line or "READ" in line for line in outside)
    assert any("please\\n" in line for line in fenced)


def test_padding_pushes_nothing_off_the_screen() -> None:
    """A thousand spaces are a thousand marks, and what follows them is there (F34)."""
    command = b"ls" + b" " * 1000 + b"; rm -rf /srv"
    shown = text(action_item(command))
    assert shown.count(SPACE_MARK) >= 1000
    assert "; rm -rf /srv" in shown.replace("\n", "")
    assert command_of(drawn(action_item(command))) == command.decode()


def test_a_command_of_several_lines_keeps_them() -> None:
    """Each newline is shown and starts a numbered line."""
    shown = text(action_item(b"cat <<E\nx\nE\n"))
    assert "   1 \u2502 cat <<E\\n" in shown
    assert "   3 \u2502 E\\n" in shown


def test_arguments_show_where_they_end() -> None:
    """`a b` as one word does not look like two (F34)."""
    part = CommandPart(start=0, end=8, argv=["rm", "a b"], command_class=COMMAND_CLASS_READ)
    shown = text(action_item(b"rm 'a b'", parts=[part]))
    assert "\u27e6rm\u27e7 \u27e6a b\u27e7" in shown


def test_each_byte_has_the_colour_of_its_highest_part() -> None:
    """Nested parts: the inner, higher one shows inside the outer one."""
    outer = CommandPart(start=0, end=12, argv=["echo"], command_class=COMMAND_CLASS_READ)
    inner = CommandPart(start=7, end=11, argv=["make"], command_class=COMMAND_CLASS_EXECUTE)
    item = action_item(b"echo $(make)", command_class="execute", parts=[outer, inner])
    numbered = next(line for line in drawn(item) if text_of(line).startswith("   1 "))
    assert [(span.text, span.style) for span in numbered[1:]] == [
        ("echo $(", Style.READ),
        ("make", Style.EXECUTE),
        (")", Style.READ),
    ]


@pytest.mark.parametrize(
    ("item", "warning"),
    [
        (action_item(b"x", opaque=True), "NOT INSPECTABLE"),
        (action_item(b"x", egress=True), "EGRESS"),
        (action_item(b"x", outlives=True), "OUTLIVES"),
        (action_item(b"x", login="root"), "root may do anything"),
    ],
)
def test_warnings(item: PendingItem, warning: str) -> None:
    """What an approver has to know is said in words, not only in colour."""
    assert warning in text(item)


def test_the_code_is_shown_where_it_is_asked_for() -> None:
    """And only there."""
    typed = pose(action_item(b"make", command_class="execute"))
    assert f"type {typed.code} and Enter" in text(typed.item)
    assert "type y and Enter" in text(action_item(b"touch x"))


def test_explaining_names_rules() -> None:
    """Policy reasons, and the rule behind each part."""
    shown = "\n".join(text_of(line) for line in card.explain(pose(action_item(b"touch x")), width=80))
    assert "tiers.approval.write" in shown
    assert "test.rule: as the test says" in shown
