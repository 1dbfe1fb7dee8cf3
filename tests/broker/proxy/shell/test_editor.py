"""The line editor, alone: keys in, a terminal's screen out. The screen is pyte's, which was written by others."""

from __future__ import annotations

import unicodedata

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.proxy.shell.canvas import Canvas
from broker.proxy.shell.cells import Styled
from broker.proxy.shell.editor import Asked, Editor, Entered, Interrupted, Left, Wanted

PROMPT = (Styled(text="web1", style="1"), Styled(text="$ "))
HINT = Styled(text="read", style="32")


class Screen(pyte.Screen):
    """pyte's, where a mark joins the last column's character instead of going to the next row."""

    def draw(self, data: str) -> None:
        for char in data:
            if not unicodedata.combining(char):
                super().draw(char)
            elif self.cursor.x:
                row, at = self.buffer[self.cursor.y], self.cursor.x - 1
                at -= not row[at].data  # the second half of a wide character
                row[at] = row[at]._replace(data=unicodedata.normalize("NFC", row[at].data + char))


class Desk:
    """An editor before a terminal."""

    def __init__(
        self, *, columns: int = 40, lines: int = 10, unfinished: str = "\0", hint: Styled | None = None
    ) -> None:
        self.screen = Screen(columns, lines)
        self.stream = pyte.ByteStream(self.screen)
        self.editor = Editor(
            Canvas(columns=columns, lines=lines), hint=lambda _: hint or Styled(text=""),
            unfinished=lambda text: text.endswith(unfinished),
        )  # fmt: skip
        self.asked: list[Asked] = []
        self.sent = b""
        self.show(self.editor.begin(PROMPT))

    def show(self, data: bytes) -> None:
        self.sent = data
        self.stream.feed(data)

    def type(self, *pieces: bytes | str) -> Desk:
        for piece in pieces:
            out, asked = self.editor.feed(piece.encode() if isinstance(piece, str) else piece)
            self.show(out)
            self.asked += asked
        return self

    def rows(self) -> list[str]:
        """What stands on the screen."""
        return [row.rstrip() for row in self.screen.display if row.strip()]

    def cursor(self) -> tuple[int, int]:
        return self.screen.cursor.y, self.screen.cursor.x


def test_a_typed_line_is_echoed_and_entered() -> None:
    """One key costs one byte on the wire; Enter gives the line and an empty row."""
    desk = Desk().type("l")
    assert desk.sent == b"l"
    desk.type("s", "\r")
    assert desk.asked == [Entered("ls")]
    assert desk.rows() == ["web1$ ls"]
    assert desk.cursor() == (1, 0)


@pytest.mark.parametrize(
    ("keys", "text", "cursor"),
    [
        ("ab\x1b[DX", "aXb", 2),
        ("ab\x02\x02X\x06Y", "XaYb", 3),
        ("ab\x1b[HX\x1b[FY", "XabY", 4),
        ("ab\x01X\x05Y", "XabY", 4),
        ("one two\x1bbX", "one Xtwo", 5),
        ("one two\x1b[1;5D\x1b[1;5DX\x1b[1;5CY", "XoneY two", 5),
        ("one two\x17X", "one X", 5),
        ("one two\x1b\x7fX", "one X", 5),
        ("one two\x01\x1bd", " two", 0),
        ("one two\x15X\x19", "Xone two", 8),
        ("one two\x01\x0b\x19\x19", "one twoone two", 14),
        ("a b\x17\x17\x19", "a b", 3),
        ("one\x15two\x15\x19\x1by", "one", 3),
        ("ab\x14", "ba", 2),
        ("abc\x7f\x7f", "a", 1),
        ("abc\x02\x04", "ab", 2),
        ("abc\x01\x1b[3~", "bc", 0),
        ("abc\x17\x1f", "abc", 3),
        ("e\u0301x\x02\x7f", "x", 0),
        ("\u6f22x\x02\x7f", "x", 0),
    ],
)
def test_keys_do_what_they_do_elsewhere(keys: str, text: str, cursor: int) -> None:
    """Moving, killing, yanking, undoing; a combining mark goes with its base."""
    desk = Desk().type(*keys.encode("utf-8").decode("latin-1").encode("latin-1").split(b"\0"))
    assert (desk.editor.text, desk.editor.cursor) == (text, cursor)


def test_a_paste_never_runs_a_line() -> None:
    """I-15: not in brackets, not without them, not with a mark inside, whatever line ends it holds."""
    for pasted in (
        b"\x1b[200~reboot\r\x1b[201~", b"\x1b[200~a\nreboot\n\x1b[201~\r", b"reboot\rid\r", b"a\nb",
        b"\x1b[200~x\x1b[201~reboot\r\x1b[201~\r",
    ):  # fmt: skip
        desk = Desk().type(pasted)
        assert desk.asked == [], pasted
        assert desk.editor.text, pasted
        desk.type(b"\r")
        assert [type(asked) for asked in desk.asked] == [Entered]


def test_a_paste_in_pieces_is_one_paste() -> None:
    """Wherever the network cuts it."""
    whole = "\x1b[200~l\u00e4s\n-l\x1b[201~".encode()
    for at in range(1, len(whole)):
        desk = Desk().type(whole[:at], whole[at:])
        assert (desk.editor.text, desk.asked) == ("l\u00e4s\n-l", [])


def test_an_overlong_paste_is_not_cut_but_left_out() -> None:
    """A part of a command is another command."""
    desk = Desk().type(b"\x1b[200~" + b"x" * 70_000 + b"\x1b[201~", b"\x1b[200~" + b"y" * 20_000 + b"\x1b[201~", b"z")
    assert desk.editor.text == "z"


@pytest.mark.parametrize(
    "answer", [b"\x1b[5;7R", b"\x1b]l;reboot\r\x1b\\", b"\x1bP1$r0m\x1b\\", b"\x1b[?62;c", b"\x1b]11;rgb:0/0/0\x07"]
)
def test_what_a_terminal_answers_is_not_typing(answer: bytes) -> None:
    """A program can make a terminal speak: reports and strings are swallowed, also in pieces (F38)."""
    for at in range(1, len(answer)):
        desk = Desk().type(answer[:at], answer[at:])
        assert (desk.editor.text, desk.asked) == ("", [])


def test_what_was_typed_ahead_is_text() -> None:
    """It stands in the next line, runs nothing, and can be edited."""
    desk = Desk()
    desk.type("\r")
    desk.show(desk.editor.begin(PROMPT, ahead=b"make\r\x1b[Aid\x7f\r"))
    assert desk.editor.text == "make\ni"
    assert len(desk.asked) == 1


def test_unfinished_lines_go_on() -> None:
    """Enter begins another row where the line is not complete."""
    desk = Desk(unfinished="|").type("ls |", "\r", "wc", "\r")
    assert desk.asked == [Entered("ls |\nwc")]
    assert desk.rows() == ["web1$ ls |", "> wc"]


def test_history_and_search() -> None:
    """Up, down, first, last, and Ctrl-R; the draft survives."""
    desk = Desk()
    for line in ("one", "two", "two", " hidden"):
        desk.type(line, "\r")
        desk.show(desk.editor.begin(PROMPT))
    desk.type("draft", "\x1b[A")
    assert desk.editor.text == "two"
    desk.type("\x1b[A", "\x1b[A")
    assert desk.editor.text == "one"
    desk.type("\x1b>")
    assert desk.editor.text == "draft"
    desk.type("\x12", "o")
    assert desk.editor.text == "two"
    assert desk.rows()[-1] == "search o: two"
    desk.type("\x12")
    assert desk.editor.text == "one"
    desk.type("\x07")
    assert desk.editor.text == "draft"
    desk.type("\x12", "ne", "\r")
    assert desk.asked[-1] == Entered("one")


def test_control_keys_ask() -> None:
    """Ctrl-C, Ctrl-D, Tab."""
    assert Desk().type("x\x04").asked == []
    assert Desk().type("\x04").asked == [Left()]
    desk = Desk().type("abc\x03")
    assert desk.asked == [Interrupted()]
    assert desk.rows() == ["web1$ abc^C"]
    assert Desk().type("ab\t").asked == [Wanted("ab", 2)]


def test_the_hint_stands_behind_when_the_hand_rests() -> None:
    """One key costs one byte; the hint goes with the next one, and is no part of the line that stays."""
    desk = Desk(hint=HINT).type("ls")
    assert desk.rows() == ["web1$ ls"]
    desk.show(desk.editor.rested())
    assert desk.rows() == ["web1$ ls  read"]
    assert desk.cursor() == (0, 8)
    desk.type("x")
    assert desk.sent == b"x\x1b[K"
    desk.show(desk.editor.rested())
    desk.type("\r")
    assert desk.rows() == ["web1$ lsx"]


def test_pieces_that_wait_are_drawn_once() -> None:
    """A client that sends faster than it can be shown costs one picture."""
    desk = Desk()
    assert desk.editor.feed(b"l", more=True) == (b"", [])
    desk.type("s")
    assert desk.rows() == ["web1$ ls"]


def test_a_notice_stands_above_the_line() -> None:
    """What is typed stays as it was, below it."""
    desk = Desk().type("ls -l", "\x02")
    desk.show(desk.editor.notice(b"grantd: one minute\r\n"))
    assert desk.rows() == ["grantd: one minute", "web1$ ls -l"]
    assert desk.cursor() == (1, 10)


def test_hidden_characters_are_shown() -> None:
    """F38: nothing is stripped, nothing acts on the terminal."""
    desk = Desk().type(b"\x1b[200~a\x1b]0;x\x07\xe2\x80\x8bb\xff\t\x1b[201~")
    assert desk.rows() == ["web1$ a<U+001B>]0;x<U+0007><U+200B>b<FF>", "^I"]


LETTERS = st.text(st.sampled_from("ab \u00e4\u6f22\u0301\U0001f600\u200b\n\t'x"), max_size=9)
PIECES = st.one_of(
    LETTERS.map(lambda text: b"\x1b[200~" + text.encode() + b"\x1b[201~"),
    st.text("abc \u6f22", min_size=1, max_size=30).map(str.encode),
    st.sampled_from([
        b"\x01", b"\x02", b"\x05", b"\x06", b"\x0b", b"\x0e", b"\x10", b"\x14", b"\x15", b"\x17", b"\x19",
        b"\x1f", b"\x7f", b"\x1bb", b"\x1bf", b"\x1bd", b"\x1b\r", b"\x12", b"\x0c", b"\x1b[D", b"\x1b[C", b"\x1b[A",
    ]),
)  # fmt: skip


def shown_anew(desk: Desk, *, rested: bool = False) -> tuple[list[str], tuple[int, int]]:
    """The editor's picture, drawn from nothing on an empty screen."""
    screen = Screen(desk.screen.columns, desk.screen.lines)
    again = Desk(columns=desk.screen.columns, lines=desk.screen.lines, hint=HINT)
    again.screen, again.stream = screen, pyte.ByteStream(screen)
    again.editor._line, again.editor._search = desk.editor._line, desk.editor._search  # noqa: SLF001
    again.editor._canvas.forget()  # noqa: SLF001
    again.show(again.editor.resize(columns=screen.columns, lines=screen.lines))
    if rested:
        again.show(again.editor.rested())
    return again.rows(), again.cursor()


@settings(max_examples=150, deadline=None)
@given(pieces=st.lists(PIECES, max_size=12), columns=st.integers(4, 30), lines=st.integers(1, 6))
def test_the_screen_shows_the_line(pieces: list[bytes], columns: int, lines: int) -> None:
    """Drawn step by step, it looks as if it were drawn at once; the editor never fails, however narrow it is."""
    desk = Desk(columns=columns, lines=lines, hint=HINT)
    for piece in pieces:
        desk.type(piece)
    desk.type(b"\x0c")
    assert (desk.rows(), desk.cursor()) == shown_anew(desk)
    desk.show(desk.editor.rested())
    assert (desk.rows(), desk.cursor()) == shown_anew(desk, rested=True)


@settings(max_examples=100, deadline=None)
@given(pieces=st.lists(PIECES, max_size=10), columns=st.integers(4, 30), lines=st.integers(2, 8))
def test_every_step_shows_the_line(pieces: list[bytes], columns: int, lines: int) -> None:
    """After each piece, without a fresh screen in between."""
    desk = Desk(columns=columns, lines=lines, hint=HINT)
    for piece in pieces:
        desk.type(piece)
        rows, cursor = shown_anew(desk)
        shown = desk.rows()
        assert shown[len(shown) - len(rows) :] == rows
        assert desk.cursor()[1] == cursor[1]


@given(data=st.binary(max_size=300), cuts=st.integers(1, 50))
def test_any_bytes_cut_anywhere(data: bytes, cuts: int) -> None:
    """The editor never fails, and stays bounded."""
    desk = Desk()
    for at in range(0, len(data), cuts):
        desk.type(data[at : at + cuts])
        if not desk.editor.is_open:
            desk.show(desk.editor.begin(PROMPT))
