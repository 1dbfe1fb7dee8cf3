"""The player's screen shows what a terminal would show, and nothing can make it fail or leave its bounds (I-27)."""

from __future__ import annotations

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grantd.cli.playing.emulator import Emulator
from grantd.cli.playing.grid import width_of
from grantd.cli.playing.style import Style

COLUMNS, ROWS = 20, 6


def shown(*pieces: bytes, columns: int = COLUMNS, rows: int = ROWS) -> list[str]:
    """The rows as text."""
    emulator = Emulator(columns, rows)
    for piece in pieces:
        emulator.feed(piece)
    return text_of(emulator)


def text_of(emulator: Emulator) -> list[str]:
    """The rows of a screen, without what is blank at their ends."""
    return ["".join(cell.text for cell in line).rstrip() for line in emulator.lines()]


def real(*pieces: bytes) -> list[str]:
    """The same by an independent terminal."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    for piece in pieces:
        stream.feed(piece)
    return [line.rstrip() for line in screen.display]


NUMBER = st.integers(1, 25)
PIECE = (
    # text ends where it is moved away from: what follows the last column without a move, terminals do not agree on
    st.tuples(
        st.text("abcdefg XYZ", min_size=1, max_size=30), st.sampled_from(["\r\n", "\r", "\x1b[3G", "\x1b[2;5H"])
    ).map(lambda two: "".join(two).encode())
    | st.sampled_from([b"\r\n", b"\n", b"\r", b"\b", b"\t", b"\x1bM", b"\x1bD", b"\x1b7", b"\x1b8"])
    | st.sampled_from([b"\x1b[J", b"\x1b[1J", b"\x1b[2J", b"\x1b[K", b"\x1b[1K", b"\x1b[2K", b"\x1b[H", b"\x1b[7m"])
    | st.tuples(NUMBER, st.sampled_from("ABCDEFGPX@d")).map(lambda two: f"\x1b[{two[0]}{two[1]}".encode())
    | st.tuples(NUMBER, NUMBER).map(lambda two: f"\x1b[{two[0]};{two[1]}H".encode())
)


@given(st.lists(PIECE, max_size=25))
def test_it_draws_what_another_terminal_draws(pieces: list[bytes]) -> None:
    """Text, movement, erasing, insertion and scrolling against an implementation that is not ours."""
    assert shown(*pieces) == real(*pieces)


@given(
    st.lists(
        st.binary(max_size=30)
        | PIECE
        | st.sampled_from(
            [b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?7l", b"\x1b(0", b"\x0e", b"\x1b[99999b", b"\x1b[9999S"]
        )
        | st.text("\u4f60e\u0301\ufe0fq", max_size=6).map(str.encode),
        max_size=20,
    ),
    st.integers(1, 12),
    st.integers(1, 5),
)
def test_nothing_leaves_the_screen(pieces: list[bytes], columns: int, rows: int) -> None:
    """Any bytes, on any size: as many cells as there are, each printable, the cursor inside."""
    emulator = Emulator(columns, rows)
    for number, piece in enumerate(pieces):
        emulator.feed(piece)
        if number == 7:
            emulator.resize(rows + 3, columns)
            columns, rows = rows + 3, columns
        assert [len(line) for line in emulator.lines()] == [columns] * rows
        assert 0 <= emulator.grid.x < columns
        assert 0 <= emulator.grid.y < rows
        assert all(cell.text.isprintable() for line in emulator.lines() for cell in line)


def test_a_full_screen_program_leaves_what_was_there() -> None:
    """The alternate screen comes and goes; the cursor returns to its place."""
    assert shown(b"one\r\ntwo", b"\x1b[?1049h\x1b[2J\x1b[Hvim")[:2] == ["vim", ""]
    assert shown(b"one\r\ntwo", b"\x1b[?1049h\x1b[2J\x1b[Hvim", b"\x1b[?1049l!")[:2] == ["one", "two!"]


@pytest.mark.parametrize(
    ("sent", "rows"),
    [
        (b"\x1b[2;1H\x1b[L", "a--b-c-d-e"),
        (b"\x1b[2;1H\x1b[2M", "a-d-e-f--"),
        (b"\x1b[2;4r\x1b[3;1H\x1b[9L", "a-b---e-f"),
        (b"\x1b[2;4r\x1b[3;1H\x1b[M", "a-b-d--e-f"),
        (b"\x1b[2;4r\x1b[6;1H\x1b[M", "a-b-c-d-e-f"),
        (b"\x1b[2S", "c-d-e-f--"),
        (b"\x1b[2;4r\x1b[T", "a--b-c-e-f"),
        (b"\x1b[2;4r\x1b[4;1H\n", "a-c-d--e-f"),
        (b"\x1b[3;2r\x1b[6;1H\n", "b-c-d-e-f-"),
    ],
)
def test_lines_move_within_the_margins(sent: bytes, rows: str) -> None:
    """Inserting, deleting and scrolling lines touches what lies between the margins and nothing else."""
    assert shown(b"a\r\nb\r\nc\r\nd\r\ne\r\nf", sent) == rows.split("-")


def test_lines_and_wide_characters() -> None:
    """Line drawing, two-column characters, joining marks, also split between pieces."""
    assert shown(b"\x1b(0lqk\x1b(B ok")[0] == "┌─┐ ok"
    assert shown("a\u4f60b".encode()[:2], "a\u4f60b".encode()[2:])[0] == "a\u4f60b"
    assert shown("e\u0301x".encode())[0] == "e\u0301x"
    assert shown(b"\x1b[4G" + "\u4f60".encode(), columns=4)[:2] == ["", "\u4f60"]
    assert [width_of(char) for char in ("a", "\u4f60", "\u0301", "\ufe0f", "")] == [1, 2, 0, 0, 0]


def test_hostile_sequences_do_nothing() -> None:
    """Clipboard, title, queries and resets are not obeyed, and counted."""
    emulator = Emulator(COLUMNS, ROWS)
    emulator.feed(b"keep\x1b]52;c;AAAA\x07\x1bc\x1b[6n\x1b]0;title\x1b\\\x1b[8;1;1t!")
    assert text_of(emulator)[0] == "keep!"
    assert emulator.held_back == 5


@pytest.mark.parametrize(
    ("sent", "style"),
    [
        ("1;31", "31;1"),
        ("1;22", ""),
        ("38;5;200;48;2;1;2;3", "38;5;200;48;2;1;2;3"),
        ("38;5;999", ""),
        ("38;9;1", "1"),
        ("38", ""),
        ("97;107;0", ""),
        ("", ""),
        ("7;27;4;9;53", "4;9"),
        ("38:5:17", "38;5;17"),
    ],
)
def test_styles_have_one_form(sent: str, style: str) -> None:
    """Whatever was sent, what is drawn is one of our own sequences."""
    made = Style()
    made.apply(sent)
    assert made.text == style
