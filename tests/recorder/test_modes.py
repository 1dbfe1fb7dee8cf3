"""What a terminal must be told beside the last output: found in any split, bounded, and never output itself."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.modes import TerminalModes

_PIECES = st.sampled_from(
    [b"\x1b[?1049h", b"\x1b[?25l", b"\x1b[?25;7h", b"\x1b[2;9r", b"\x1b[r", b"\x1b(0", b"\x1b(B", b"\x0e", b"\x0f",
     b"\x1bc", b"text", "ü€😀".encode(), b"\x1b]0;title\x07", b"\x1b[31m", b"\x1b", b"\xff", b"\x1b]8;;"]
)  # fmt: skip


def after(*pieces: bytes) -> bytes:
    """The state behind these bytes."""
    modes = TerminalModes()
    for piece in pieces:
        modes.feed(piece)
    return modes.restore()


@given(pieces=st.lists(_PIECES, max_size=12), cuts=st.lists(st.integers(0, 80), max_size=6))
def test_where_the_stream_is_split_does_not_matter(pieces: list[bytes], cuts: list[int]) -> None:
    """formats.md 1.5: events end anywhere, also inside a sequence or a character."""
    whole = b"".join(pieces)
    at = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    assert after(*(whole[a:b] for a, b in itertools.pairwise(at))) == after(whole)


@pytest.mark.parametrize(
    ("written", "restored"),
    [
        (b"ls\r\n", b""),
        (b"\x1b[?25l\x1b[?1049h\x1b[1;5r", b"\x1b[?1049h\x1b[?25l\x1b[1;5r"),
        (b"\x1b[?1049h\x1b[?1049l", b"\x1b[?1049l"),
        (b"\x1b[?25l\x1b(0\x0e\x1bc", b""),
        (b"\x1b[?1000h\x1b[?2004h\x1b[6n", b""),
        (b"\x1b[?25", b"\x1b[?25"),
        ("€".encode()[:2], "€".encode()[:2]),
        ("€".encode(), b""),
        (b"\x1b]52;c;c2VjcmV0", b"\x1b]"),
    ],
    ids=["text", "full screen", "left again", "reset", "mouse, paste, query", "half a sequence", "half a character",
         "a character", "half a string"],
)  # fmt: skip
def test_the_state_behind_some_output(written: bytes, restored: bytes) -> None:
    """The alternate screen first; what asks or reports is forgotten; a string's words are not kept."""
    assert after(written) == restored


@given(st.binary(max_size=2_000))
def test_it_stays_small(data: bytes) -> None:
    """I-27: a target cannot make the broker's memory grow."""
    assert len(after(data, data)) < 200
