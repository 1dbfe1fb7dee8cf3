"""Where a typed line goes on in another row, by the classifier's own parser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.shell.outline import outline, unfinished

OPEN = [
    "echo 'x", 'echo "x', "ls |", "ls &&", "ls ||", "if true; then", "if true; then ls; else", "for i in 1 2; do echo",
    "for i in 1 2", "while true", "while true; do ls;", "case x in", "case x in a) ls ;;", "{ ls", "( ls", "echo $(ls",
    "f() {", "cat <<EOF", "cat <<EOF\nabc", "cat <<-'E'\nx", "ls \\", 'echo "a\\', "echo ${x",
    "echo $'a", "ls -l \\\n -a \\", "[[ a",
]  # fmt: skip


@pytest.mark.parametrize("line", OPEN)
def test_the_beginning_of_a_line_is_unfinished(line: str) -> None:
    """What bash asks more of."""
    assert unfinished(line.encode())


@pytest.mark.parametrize(
    "line",
    ["ls", "echo 'x'", "ls \\\\", "echo 'a\\'", "if true; then ls; fi", "cat <<EOF\nx\nEOF", "ls )", "fi", "done", "",
     " ", "a;;b", "echo # don't",
     "ls > > x", "\x01", "{ ls; }", "( ls )", "case x in a) ls ;; esac", "x" * 20_000],
)  # fmt: skip
def test_a_whole_line_or_a_wrong_one_is_not(line: str) -> None:
    """A line that nothing could complete goes to the gate, which refuses it with a reason."""
    assert not unfinished(line.encode())


@given(st.binary(max_size=60))
def test_any_bytes(line: bytes) -> None:
    """Total."""
    unfinished(line)
    outline(line)
