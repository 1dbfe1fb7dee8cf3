"""Verdicts as plain values, and the line protocol of `grantd classify`."""

from __future__ import annotations

import json

import pytest

from policy.explain import classify_line, explain, explain_line
from policy.shell import Classified, classify


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ('"ls -la"', "read"),
        ('"rm x"\n', "write"),
        ('"sudo systemctl restart nginx"', "execute"),
        ('"apt-get install -y jq"', "install"),
        ('"reboot"', "reboot"),
        ('"ls \\u0000"', "refused"),
        ('"ls \\udc80"', "refused"),
        ('"ls \'"', "refused"),
        ('""', "refused"),
        ("ls", "refused"),
        ("", "refused"),
        ("1", "refused"),
        ('["ls"]', "refused"),
        ("[" * 100_000, "refused"),
    ],
)
def test_one_word_a_line(line: str, word: str) -> None:
    """Every line gets one of six words, also one that is not a JSON string."""
    assert classify_line(line) == word


def test_parts_are_placed_in_the_command() -> None:
    """Each part names its bytes, argv, class, rule and reason, in the order of the text."""
    command = "cat 'ä b' | grep x >out && sudo rm -rf /tmp/y &"
    verdict = classify(command.encode())
    assert isinstance(verdict, Classified)
    parts = explain(verdict)["parts"]
    assert isinstance(parts, list)
    shown = [(command.encode()[slice(*part["span"])].decode(), part["class"]) for part in parts]
    assert shown == [
        ("cat 'ä b'", "read"),
        ("grep x", "read"),
        (">out", "write"),
        ("sudo rm -rf /tmp/y", "read"),
        ("rm -rf /tmp/y", "write"),
        ("&", "read"),
    ]
    assert parts[0]["argv"] == ["cat", "ä b"]
    assert all(part["rule"] and part["reason"] for part in parts)
    assert verdict.outlives


def test_spans_count_joined_lines() -> None:
    """A part after a joined line is still placed in the bytes as they were given."""
    command = b"ls -\\\nl; \\\nrm x; id"
    verdict = classify(command)
    assert isinstance(verdict, Classified)
    assert [command[slice(*part.span)] for part in verdict.parts] == [b"ls -\\\nl", b"rm x", b"id"]


def test_a_quoted_script_is_placed_at_its_word() -> None:
    """What stands in a quoted script is shown where the script stands."""
    command = b"sudo sh -c 'ls; rm x'"
    verdict = classify(command)
    assert isinstance(verdict, Classified)
    spans = {command[slice(*part.span)] for part in verdict.parts if part.argv in (("ls",), ("rm", "x"))}
    assert spans == {b"'ls; rm x'"}


def test_explain_line_is_json() -> None:
    """The long form is one line of JSON; a refusal has a rule and a reason."""
    assert json.loads(explain_line('"ls"'))["class"] == "read"
    advice = json.loads(explain_line('"ls > out"'))["advice"]
    assert advice == [{"span": [2, 8], "put": "", "say": "drop `> out`", "class": "read", "opaque": False}]
    refused = json.loads(explain_line('"ls |"'))
    assert (refused["class"], refused["rule"]) == ("refused", "parse.error")
    assert "\n" not in explain_line('"ls\\nid"')
