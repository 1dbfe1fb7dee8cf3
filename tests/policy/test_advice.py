"""Advice is computed: each piece, followed, gives exactly the class it claims, and there is a bound to the search."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy import advice
from policy.advice import Advice, advise
from policy.catalog import Catalogue, shipped_alone
from policy.shell import MAX_COMMAND_BYTES, Classified, Verdict, classify, classify_by

WORDS = [
    *["ls", "sort", "rm", "find", "curl", "sudo", "env", "systemctl", "restart", "apt-get", "install", "sed", "./cat"],
    *["-o", "out.txt", "-i", "-so", "--output=x", "*", "$x", '"$x"', "`date`", "$(id)", "> out", "2>&1", ">> 'a b'"],
    *[
        "|",
        ";",
        "&&",
        "\n",
        "A=b",
        "LD_PRELOAD=x",
        "-exec",
        "{}",
        r"\;",
        "\\\n",
        "'\u00e4 b'",
        "[",
        "]",
        "(",
        ")",
        "sh",
    ],
]
lines = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)


def _advice(line: str) -> list[Advice]:
    return list(advise(shipped_alone(), line.encode(), classify(line.encode())))


def _first(line: str) -> tuple[str, str, str]:
    piece = _advice(line)[0]
    return piece.say, piece.applied(line.encode()).decode(), piece.command_class.word


@pytest.mark.parametrize(
    ("line", "say", "after"),
    [
        ("sort -o out.txt x", "drop `-o out.txt`", "sort x"),
        ("sort -no out.txt x", "drop the `o` of `-no` and its value", "sort -n x"),
        ("sort -n\\\no out.txt x", "drop the `o` of `-no` and its value", "sort -n\\\n x"),
        ("curl -so x http://a.example", "drop the `o` of `-so` and its value", "curl -s http://a.example"),
        ("ls > out.log", "drop `> out.log`", "ls"),
        ("echo `date`", "write `$( )` for the backticks", "echo $(date)"),
        ("[ $x = 1 ]", "quote `$x`", '[ "$x" = 1 ]'),
        ("[ $x = ${y} ]", "quote every unquoted `$`", '[ "$x" = "${y}" ]'),
        ("sort *", "write `./*` for `*`", "sort ./*"),
        ('sort "$@"', 'write `--` before `"$@"`', 'sort -- "$@"'),
        ("./cat x", "write `cat` for `./cat`", "cat x"),
        ("LD_PRELOAD=x ls", "drop `LD_PRELOAD=x`", "ls"),
        ("A=1 LD_PRELOAD=x ls", "drop `A=1 LD_PRELOAD=x`", "ls"),
        ("id; rm x", "without `rm x`", "id"),
        ("(id; rm a; rm b; ls)", "without `rm a; rm b`", "(id; ls)"),
        ("ps aux | sh", "without `sh`", "ps aux"),
        ("env A=b ls", "run `ls` without `env A=b`", "ls"),
        ("sudo find . -name a -delete", "drop `-delete`", "sudo find . -name a"),
        (r"find . -name a -exec rm {} \;", r"drop `-exec rm {} \;`", "find . -name a"),
        ("uniq in out", "drop `out`", "uniq in"),
        ("systemctl restart nginx", "use `systemctl status`", "systemctl status nginx"),
        ("apt-get install jq", "add `--dry-run`", "apt-get install --dry-run jq"),
    ],
)
def test_the_smallest_edit_that_helps_comes_first(line: str, say: str, after: str) -> None:
    """Each shape of a needless rise has its own words, and the line that they lead to is a read."""
    assert _first(line) == (say, after, "read")


@pytest.mark.parametrize("line", ["ls -la", "rm x", "reboot", "ls '", "", "frobnicate", "rm a; rm b"])
def test_no_advice_where_nothing_helps(line: str) -> None:
    """A read needs none, a refusal has no class, and what a line is for is not advised away."""
    assert _advice(line) == []


@given(lines)
@settings(max_examples=300, deadline=None)
def test_every_piece_of_advice_is_true(line: str) -> None:
    """I-16: followed to the byte, advice gives exactly the class it claims, which is less and in nothing more."""
    command = line.encode()
    before = classify(command)
    for piece in advise(shipped_alone(), command, before):
        after = classify(piece.applied(command))
        assert isinstance(before, Classified)
        assert isinstance(after, Classified)
        assert (after.command_class, after.opaque) == (piece.command_class, piece.opaque)
        assert after.command_class < before.command_class or (before.opaque and not after.opaque)
        assert after.egress <= before.egress
        assert after.outlives <= before.outlives
        assert 0 <= piece.span[0] <= piece.span[1] <= len(command)


@given(st.binary(max_size=200))
def test_any_bytes_get_an_answer(data: bytes) -> None:
    """Total over bytes."""
    assert len(advise(shipped_alone(), data, classify(data))) <= advice.MAX_ADVICE


@pytest.mark.parametrize("unit", ["rm x;", "a=`b` ", "$x ", "-o ", "x>y ", "((", "rm -rf $(rm x);", "a|", "'a"])
def test_the_search_is_bounded(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long or odd the line, the lines that are classified are few and together short."""
    seen: list[int] = []

    def counted(catalogue: Catalogue, command: bytes) -> Verdict:
        seen.append(len(command))
        return classify_by(catalogue, command)

    monkeypatch.setattr(advice, "classify_by", counted)
    for size in (300, MAX_COMMAND_BYTES):
        command = ("ls " + unit * (size // len(unit)))[:size].encode()
        seen.clear()
        started = time.process_time()
        advise(shipped_alone(), command, classify(command))
        assert time.process_time() - started < 0.5
        assert len(seen) <= advice.MAX_TRIES
        assert sum(seen) <= advice.MAX_BYTES + advice.MAX_TRIES * len(unit) * 4
