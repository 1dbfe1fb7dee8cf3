"""Playback shows what happened and lets nothing act on the viewer's terminal (I-11, I-27; F38)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.escape import Decoder, visible
from recorder.export.text import transcript
from recorder.grec import Event, Kind
from recorder.terminal import TerminalFilter

SAFE = re.compile(
    r"\x1b(?:[78DEM]|[()][0AB]|\[\d{0,5}(?:[;:]\d{0,5})*[ABCDEFGHJKLMPSTX@`abdefmrsu]"
    r"|\[\?(?:1|7|12|25|47|1047|1048|1049)(?:;(?:1|7|12|25|47|1047|1048|1049))*[hl])|[\b\t\n\v\f\r\x0e\x0f]"
)


def drawn(*pieces: bytes) -> tuple[str, int]:
    """What reaches the terminal, and how much was held back."""
    screen = TerminalFilter()
    return "".join(map(screen.feed, pieces)), screen.held_back


@pytest.mark.parametrize(
    "data",
    [
        b"plain text\r\n\ttab\b",
        b"\x1b[31;1mred\x1b[0m",
        b"\x1b[38:2:1:2:3m",
        b"\x1b[2J\x1b[H\x1b[10;20H\x1b[K\x1b[5A\x1b[3@\x1b[2L\x1b[1;24r\x1b[2T\x1b[s\x1b[u",
        b"\x1b[?1049h\x1b[?25l\x1b[?7;25h\x1b[?1049l",
        b"\x1b7\x1b8\x1bM\x1b(0lqk\x1b(B\x0e\x0f",
        "caf\u00e9 \u4f60\u597d \U0001f600 e\u0301".encode(),
    ],
)
def test_drawing_passes(data: bytes) -> None:
    """What full-screen programs draw with is passed on unchanged, in one piece or byte by byte."""
    assert drawn(data) == (data.decode(), 0)
    assert drawn(*(bytes([byte]) for byte in data)) == (data.decode(), 0)


@pytest.mark.parametrize(
    "data",
    [
        b"\x1b]52;c;cm0gLXJmIC8=\x07",
        b"\x1b]0;title\x1b\\",
        b"\x1b]8;;https://evil.example\x1b\\",
        b"\x1b]1337;File=:AAAA\x07",
        b'\x1bP$q"p\x1b\\',
        b"\x1bP+q544e\x1b\\",
        b"\x1b_Gf=100;AAAA\x1b\\",
        b"\x1b^private\x1b\\",
        b"\x1bXstring\x1b\\",
        b"\x1b[21t",
        b"\x1b[20t",
        b"\x1b[8;1;1t",
        b"\x1b[c",
        b"\x1b[>c",
        b"\x1b[6n",
        b"\x1b[?6n",
        b"\x1b[x",
        b"\x1b[?1000h",
        b"\x1b[?1006h",
        b"\x1b[?1004h",
        b"\x1b[?2004h",
        b"\x1b[?25;1003h",
        b"\x1b[4h",
        b"\x1b[>4;2m",
        b"\x1b[>1u",
        b"\x1b[1;2;3;4;5T",
        b"\x1b[0q",
        b"\x1b[2 q",
        b"\x1b[!p",
        b"\x1b[5i",
        b"\x1b[999999b",
        b"\x1b[" + b"1;" * 200 + b"m",
        b"\x1b[" + b"1" * 127 + b"!m",
        b"\x1bc",
        b"\x1b#8",
        b"\x1b%G",
        b"\x1b#!8",
        b"\x1b" + b"#" * 200 + b"8",
        b"\x1b=",
        b"\x1bZ",
        b"\x05",
        b"\x07",
        b"\x00",
        b"\x7f",
        "\u009b21t".encode(),
        "\u009d52;c;AAAA\u009c".encode(),
        "\u0090q\u009c".encode(),
        "\u0085".encode(),
        b"\x1b[3\x18",
        b"\x1b]0;broken\x18",
    ],
)
def test_commands_to_the_terminal_are_held_back(data: bytes) -> None:
    """Clipboard, titles, links, queries, reports, mouse, keyboard, printing, reset: none passes, whole or in pieces."""
    assert drawn(b"a", data, b"b") == ("ab", drawn(data)[1])
    assert drawn(data)[1] >= 1
    assert drawn(b"a", *(bytes([byte]) for byte in data), b"b")[0] == "ab"


def test_a_terminal_is_left_as_it_was() -> None:
    """The end restores colours, character set, margins, cursor, and the main screen where it was left."""
    screen = TerminalFilter()
    assert "\x1b[0m" in screen.end()
    assert "\x1b[?25h" in screen.end()
    assert "\x1b[?1049l" not in screen.end()
    screen.feed(b"\x1b[?1049hvim")
    assert screen.end().endswith("\x1b[?1049l")


def test_broken_sequences_hide_nothing_else() -> None:
    """A sequence that breaks off ends where a new one begins."""
    assert drawn(b"\x1b[3\x1b[31mx") == ("\x1b[31mx", 1)
    assert drawn(b"\x1b]0;t\x1b[31mx") == ("\x1b[31mx", 1)
    assert drawn(b"\x1b\x1b[1mx") == ("\x1b[1mx", 1)
    assert drawn(b"\x1b(\x1b[1mx") == ("\x1b[1mx", 1)


def test_invisible_characters_show_a_place_holder() -> None:
    """Bidirectional and zero-width characters, and bytes that are not UTF-8, cannot rearrange what is seen."""
    assert drawn("a\u202eb\u200bc".encode()) == ("a\ufffdb\ufffdc", 2)
    assert drawn(b"a\xffb") == ("a\ufffdb", 1)


PIECES = st.sampled_from([b"\x1b", b"\x1b[", b"\x1b]", b"?", b"1049h", b"\x9b", b"m", b"\x07", b"(", b"B"])


@given(st.lists(st.binary(max_size=40) | PIECES, max_size=12))
def test_whatever_comes_only_drawing_leaves(pieces: list[bytes]) -> None:
    """Any bytes: what leaves is printable text and allowed sequences, nothing else."""
    text, _ = drawn(*pieces)
    assert all(char.isprintable() or char == "\ufffd" for char in SAFE.sub("", text))


COMMAND = [
    Event(0, Kind.EXEC, 0, b'{"argv":"cat x"}'),
    Event(1_000, Kind.OUT, 0, b"first li"),
    Event(2_000, Kind.ERR, 0, b"warn\x1b[31m\n"),
    Event(3_000, Kind.OUT, 0, b"ne\nsecond \xe2\x82"),
    Event(4_000, Kind.OUT, 0, b"\xac \xff \\ \x1b]0;t\x07\r\n"),
    Event(5_000, Kind.IN, 2, b"typed"),
    Event(6_000, Kind.RESIZE, 0, b"\0\x50\0\x18"),
    Event(6_000, Kind.RESIZE, 0, b"odd"),
    Event(6_000, Kind.HIDDEN, 0, b"\x01"),
    Event(6_000, 200, 0, b"later"),
    Event(7_000, Kind.EXIT, 0, b'{"status":0}'),
]
LINES = [
    '     0.000 --- exec {"argv":"cat x"}',
    "     0.002 err warn\\x1b[31m",
    "     0.001 out first line",
    "     0.003 out second \u20ac \\xff \\\\ \\x1b]0;t\\x07\\x0d",
    "     0.006 --- resize 80x24",
    "     0.006 --- resize odd",
    "     0.006 --- input, not shown",
    "     0.006 --- event of kind 200, 5 bytes",
    '     0.007 --- exit {"status":0}',
    "     0.005 in #2 typed",
]


def test_a_command_is_shown_line_by_line() -> None:
    """Streams stay apart, split characters come out whole, every escape is visible."""
    assert list(transcript(COMMAND)) == LINES


def test_endless_lines_are_cut_visibly() -> None:
    """A line without end costs bounded memory and loses nothing."""
    events = [Event(n, Kind.OUT, 0, b"%04d" % n * 1000) for n in range(10)]
    events.append(Event(10, Kind.OUT, 0, b"z" * 5000 + b"\nend"))
    lines = [line.split(" ", 6)[-1].split(" ", 1)[-1] for line in transcript(events)]
    joined = "".join(line.removesuffix("+") if line.endswith("+") else line + "\n" for line in lines)
    assert joined == "".join(f"{n:04d}" * 1000 for n in range(10)) + "z" * 5000 + "\nend\n"
    assert max(map(len, lines)) <= 4097


@given(st.binary(max_size=200))
def test_visible_text_is_printable_and_one_to_one(data: bytes) -> None:
    """Escaped text holds no control character, and different bytes never look equal."""
    text = data.decode("utf-8", "surrogateescape") + "\U000e0001\u202e"
    shown = visible(text)
    assert all(char.isprintable() or char == "\t" for char in shown)
    back = re.sub(
        r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})",
        lambda found: _unescape(found[1]),
        shown,
    )
    assert back == text
    decoder = Decoder()
    assert "".join(decoder.feed(bytes([byte])) for byte in data) + decoder.end() == text[:-2]


def _unescape(code: str) -> str:
    if code == "\\":
        return code
    value = int(code[1:], 16)
    return chr(value + 0xDC00) if code[0] == "x" and value >= 0x80 else chr(value)
