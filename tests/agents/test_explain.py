"""`grantctl explain` in a pipe and on a real terminal: the same words, marks for colours, nothing unescaped."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import click
import pytest

from broker.rpc.convert.action import classification_out
from grantd.cli.explain import explanation
from grantd.v1.action_pb2 import Alternative, PreviewResponse
from policy.advice import advise
from policy.catalog import shipped_alone
from policy.shell import classify
from tests.agents.console import GRANTCTL, Console, on_terminal
from tests.agents.fake_broker import FakeBroker


def _ran(home: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    command = [GRANTCTL, "--profile", str(home), "explain", *words]
    return subprocess.run(command, capture_output=True, check=False, timeout=30)


def _shown(line: bytes, columns: int = 1000) -> list[str]:
    verdict = classify(line)
    told = classification_out(verdict, advise(shipped_alone(), line, verdict))
    return click.unstyle(explanation(line, told, columns=columns)).splitlines()


def test_marks_say_what_colours_say(home: Path) -> None:
    """Without a terminal: the line, a letter for the class of each byte, each part under its place, the advice."""
    ran = _ran(home, "sort a > b; ./x | tee c")
    lines = ran.stdout.decode().splitlines()
    assert lines[:2] == ["  sort a > b; ./x | tee c", "  rrrrrr www  XXX   wwwww"]
    assert "class execute, not inspectable" in lines
    assert lines[lines.index("         www") + 1] == "  write   [>] [b]"
    assert "          redirect: writes the file b" in lines
    assert "what would lower it" in lines
    assert "  without `./x`: write" in lines
    assert "\x1b" not in ran.stdout.decode(), "no colour without a terminal"


def test_json_has_everything(home: Path) -> None:
    """-o json: the message itself."""
    told = json.loads(_ran(home, "-o", "json", "ls > out").stdout)
    assert [part["rule"] for part in told["parts"]] == ["redirect", "ls"]
    assert told["advice"][0]["say"] == "drop `> out`"
    assert told["advice"][0]["command_class"] == "COMMAND_CLASS_READ"


def test_a_preview_says_who_could_approve_and_what_would_change_it(broker: FakeBroker, home: Path) -> None:
    """With --grant: the decision, its rules, the people, the ways out."""
    broker.preview = PreviewResponse(
        decision="needs_approval", reasons=["run.team"], quorum=2, approver_roles=["admin", "owner"],
        approvers=["anna", "b\x1b[31m"], alternatives=[Alternative(what="drop `> a\x1b`", decision="permit")],
    )  # fmt: skip
    said = _ran(home, "--grant", "gr_1", "ls > out").stdout.decode()
    assert "decision asks a person (run.team)\n  2 of: admin, owner\n  who could: anna, b\\x1b[31m\n" in said
    assert "what would change it\n  drop `> a\\x1b`: runs at once\n" in said
    assert "\x1b" not in said
    assert json.loads(_ran(home, "--grant", "gr_1", "ls", "-o", "json").stdout)["quorum"] == 2


def test_a_refused_line_is_shown_escaped() -> None:
    """I-11, I-27: what hides or reorders text is shown as what it is."""
    (line, why) = _shown("ls \u202e\x1b]0;x\x07".encode())
    assert line == "ls \\u202e\\x1b]0;x\\x07"
    assert why.startswith("refused (gate.character): ")


@pytest.mark.parametrize("columns", [1, 22, 40, 79])
def test_long_lines_wrap_with_their_marks(columns: int) -> None:
    """Marks stand under their bytes in every row, and an escape is never cut in two."""
    line = "echo 'é\u4e2d\\\n' > out; rm -rf /srv/a/long/path/that/does/not/fit".encode()
    shown = _shown(line, columns)
    rows = shown[: shown.index("")]
    texts, marks = rows[::2], rows[1::2]
    assert "".join(text.removeprefix("  ") for text in texts).startswith("echo '\\u00e9\\u4e2d\\\\\\n' > out; rm")
    assert all(len(text) <= max(columns, 22) for text in texts)
    assert all(len(mark) <= len(text) for text, mark in zip(texts, marks, strict=True))


def test_every_shape_of_part_is_escaped() -> None:
    """I-11: rule, reason, words and advice come out as printable ASCII."""
    for line in ("rm é > ü", "é", "ls | é", "cat <<'A'\n\u4e2d\nA", "X='é' ls", "sort -é"):
        assert all(text.isascii() and text.isprintable() for text in _shown(line.encode()))


def test_on_a_terminal_classes_have_colours(home: Path) -> None:
    """Green for read, yellow for write; the words and marks stay the same."""
    with on_terminal(home, "explain", "ls > out", columns=60) as console:
        assert console.wait() == 0
        assert "  rr www" in console.text()
        assert b"\x1b[32mls\x1b[0m" in console.raw
        assert b"\x1b[33m> out\x1b[0m" in console.raw


def test_no_colour_where_it_is_not_wanted(home: Path) -> None:
    """NO_COLOR: marks alone."""
    with Console([GRANTCTL, "--profile", str(home), "explain", "ls > out"], env={"NO_COLOR": "1"}) as console:
        assert console.wait() == 0
        assert "  rr www" in console.text()
        assert b"\x1b[3" not in console.raw
