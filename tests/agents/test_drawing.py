"""What grantctl draws is what the broker's exports draw: one allow-list, written twice (I-27; F38)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grantd.cli.drawing import TerminalFilter
from recorder import terminal

PIECES = st.sampled_from(
    [b"\x1b", b"\x1b[", b"\x1b]", b"?", b"1049h", b"25l", b"\xc2\x9b", b"\xc2\x9d", b"m", b"\x07", b"\x18", b"(", b"B"]
)


@given(st.lists(st.binary(max_size=40) | PIECES, max_size=12))
def test_both_filters_agree(pieces: list[bytes]) -> None:
    """Any bytes in any pieces: the same text, the same count, the same end."""
    ours, exports = TerminalFilter(), terminal.TerminalFilter()
    assert list(map(ours.feed, pieces)) == list(map(exports.feed, pieces))
    assert (ours.held_back, ours.end()) == (exports.held_back, exports.end())


@pytest.mark.parametrize("data", [b"\x1b]52;c;cm0gLXJmIC8=\x07", b"\x1b[21t", b"\x1b[6n", b"\x1bP+q544e\x1b\\"])
def test_nothing_acts_on_the_terminal(data: bytes) -> None:
    """Clipboard, window and query sequences are held back and counted."""
    ours = TerminalFilter()
    assert (ours.feed(b"a" + data + b"b"), ours.held_back) == ("ab", 1)
