"""What a line typed in the gated shell asks for (I-16, I-18): what runs is what is proposed, byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.shell_line import (
    Asked,
    ChangeDirectory,
    Command,
    Drop,
    Help,
    Keep,
    Leave,
    ListKept,
    Nothing,
    NotKept,
    ShowHistory,
    literal,
    quoted,
    read_line,
)
from policy.shell import Classified, classify


def asked(text: str, *, kept: dict[str, str] | None = None, before: str = "") -> Asked:
    """What a line asks for, where nothing was kept."""
    return read_line(text, kept=kept or {}, before=before)


@pytest.mark.parametrize(
    "line", ["ls -l", "a | b", "for i in 1 2; do echo $i; done", "(cd /x; ls)", "exit 1; ls", "help me"]
)
def test_a_command_runs_as_it_was_typed(line: str) -> None:
    """Nothing is added, trimmed or rewritten where nothing is kept."""
    found = asked(line)
    assert isinstance(found, Command)
    assert found.line == line.encode()


def test_what_the_classifier_refuses_is_still_proposed() -> None:
    """The gate says no, in its own words, and writes it down."""
    assert asked("echo 'x") == Command(line=b"echo 'x")
    assert asked("a\u200bb") == Command(line="a\u200bb".encode())
    assert asked("\udcff") == Command(line=b"\xff")


@pytest.mark.parametrize("line", ["", "  ", "# a note", "\n"])
def test_blanks_and_comments_ask_nothing(line: str) -> None:
    """No action for an empty line."""
    assert asked(line) == Nothing()


@pytest.mark.parametrize(
    ("line", "runs"),
    [
        ("cd", "cd -P && pwd -P"),
        ("cd /tmp", "cd -P -- /tmp && pwd -P"),
        ("  cd   ~/x ", "cd -P -- ~/x && pwd -P"),
        ("cd -P -- 'a b'", "cd -P -- 'a b' && pwd -P"),
        ("cd -", "cd -P -- '/it'\\''s' && pwd -P"),
    ],
)
def test_changing_directory_is_a_read(line: str, runs: str) -> None:
    """It is an action like any other, with one word as it was typed."""
    found = asked(line, before="/it's", kept={"A": "1"})
    assert found == ChangeDirectory(line=runs.encode())
    seen = classify(runs.encode())
    assert isinstance(seen, Classified)
    assert (seen.command_class.word, seen.opaque) == ("read", False)


def test_cd_sees_what_is_kept_only_where_it_asks() -> None:
    """A variable in the word has the value that the person gave it."""
    assert asked("cd $A", kept={"A": "/x"}) == ChangeDirectory(line=b"export A='/x'; cd -P -- $A && pwd -P")


def test_a_directory_inside_a_longer_line_is_told_not_to_stay() -> None:
    """Nobody is left to believe that they are elsewhere."""
    found = asked("cd /tmp && ls")
    assert isinstance(found, Command)
    assert found.note


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("export A=1", Keep(variables={"A": "1"})),
        ("export A='x y' B=\"z\" C=", Keep(variables={"A": "x y", "B": "z", "C": ""})),
        ("export", ListKept()),
        ("unset A B", Drop(names=("A", "B"))),
        ("exit", Leave(status=None)),
        ("exit 300", Leave(status=255)),
        ("logout", Leave(status=None)),
        ("help", Help()),
        ("history", ShowHistory()),
    ],
)
def test_what_the_gateway_keeps(line: str, found: Asked) -> None:
    """Answered without an action: nothing reaches the target."""
    assert asked(line) == found


@pytest.mark.parametrize(
    "line",
    ["A=1", "export A=$(id)", "export A=$B", "export A", "declare -x A=1", "alias l=ls", "set -e", "f() { ls; }",
     "sleep 9 &", "sleep 9; sleep 9 &", "trap x EXIT", "pushd /", "cd -", "umask 0"],
)  # fmt: skip
def test_what_would_not_stay_is_told_and_not_run(line: str) -> None:
    """An alias that silently does nothing would make people believe in it."""
    assert isinstance(asked(line), NotKept)


def test_kept_variables_are_seen_by_the_classifier() -> None:
    """F16: a PATH that was set lines ago raises the class of every later line; nothing is hidden in an environment."""
    found = asked("ls", kept={"B": "it's", "PATH": "/x"})
    assert found == Command(line=b"export B='it'\\''s' PATH='/x'; ls")
    seen = classify(found.line)
    assert isinstance(seen, Classified)
    assert seen.opaque


def test_a_terminal_for_one_line() -> None:
    """Full-screen programs get one, and what the person asks it for; `tty` with an option is the program itself."""
    for line in ("less /etc/hosts", "sudo -u x /usr/bin/vim a", "git log | less"):
        found = asked(line)
        assert isinstance(found, Command), line
        assert found.terminal, line
    assert asked("tty apt install x") == Command(line=b"apt install x", terminal=True)
    found = asked("apt install vim")
    assert isinstance(found, Command)
    assert not found.terminal
    assert asked("tty") == Command(line=b"tty")
    assert asked("tty -s") == Command(line=b"tty -s")


@given(st.text(max_size=40))
def test_any_text_is_something(text: str) -> None:
    """Total: no text fails, and what would run classifies or is refused."""
    read_line(text, kept={"A": text.replace("\0", "")}, before="/x")


@given(st.text(max_size=40))
def test_quoting_is_undone_by_reading(value: str) -> None:
    """A value without a quote comes back as it went."""
    if "'" not in value:
        assert literal(quoted(value)) == value
