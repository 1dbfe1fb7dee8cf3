"""The row that is written over: seen on a terminal of pyte's, in windows of any size."""

from __future__ import annotations

import pyte
import pytest

from broker.proxy.shell.cells import Styled
from broker.proxy.shell.plain import Look, canvas_of, look_of
from broker.proxy.shell.strip import Strip

LONG = (Styled(text="grantd: waiting for a person to allow this (K7QX), 9:41 left; Ctrl-C takes it back", style="33"),)
SHORT = (Styled(text="waiting 9:40", style="33"),)


class Terminal:
    """A strip on a screen below one row of text."""

    def __init__(self, look: Look = Look.COLOURED, *, columns: int = 100) -> None:
        self.screen = pyte.Screen(columns, 12)
        self.stream = pyte.ByteStream(self.screen)
        self.strip = Strip(canvas_of(look, columns=columns, lines=12))
        self.sent = b""
        self.feed(b"before\r\n")

    def feed(self, data: bytes) -> None:
        self.sent += data
        self.stream.feed(data)

    def rows(self) -> list[str]:
        return [row.rstrip() for row in self.screen.display if row.strip()]


def test_it_is_written_over() -> None:
    """One row, however often; nothing of it is left afterwards, and the cursor is where it was."""
    terminal = Terminal()
    for pieces in (LONG, SHORT, LONG):
        terminal.feed(terminal.strip.show(pieces))
        assert terminal.rows() == ["before", pieces[0].text]
    terminal.feed(terminal.strip.leave() + b"grantd: allowed\r\n")
    assert terminal.rows() == ["before", "grantd: allowed"]


def test_what_is_said_meanwhile_stands_above_it() -> None:
    """A warning neither breaks the row nor is written over by it."""
    terminal = Terminal()
    terminal.feed(terminal.strip.show(LONG))
    terminal.feed(terminal.strip.notice(b"grantd: access ends in 60 s\r\n"))
    assert terminal.rows() == ["before", "grantd: access ends in 60 s", LONG[0].text]


def test_a_window_that_is_made_smaller_keeps_no_rest_of_it() -> None:
    """A terminal that wraps its rows anew has three rows of it by then; the next look is one short row."""
    terminal = Terminal()
    terminal.feed(terminal.strip.show(LONG))
    wrapped = [LONG[0].text[at : at + 40] for at in range(0, len(LONG[0].text), 40)]
    terminal.screen.reset()
    terminal.screen.resize(12, 40)
    terminal.feed(b"before\r\n" + "\r\n".join(wrapped).encode())
    terminal.feed(terminal.strip.resize(columns=40, lines=12))
    terminal.feed(terminal.strip.show(SHORT))
    assert terminal.rows() == ["before", SHORT[0].text]


def test_on_a_plain_terminal_it_is_written_over_by_backspaces() -> None:
    """TERM=dumb: printable characters, blanks, backspaces and line ends, nothing else."""
    terminal = Terminal(Look.PLAIN)
    terminal.feed(terminal.strip.show(LONG))
    terminal.feed(terminal.strip.show(SHORT))
    assert terminal.rows() == ["before", SHORT[0].text]
    terminal.feed(terminal.strip.notice(b"word\r\n"))
    assert set(terminal.sent) <= {*range(32, 127), *b"\r\n\b"}


@pytest.mark.parametrize(
    ("term", "look"),
    [
        ("dumb", Look.PLAIN), ("", Look.PLAIN), ("vt220", Look.ONE_COLOUR), ("xterm-mono", Look.ONE_COLOUR),
        ("xterm-256color", Look.COLOURED), ("screen", Look.COLOURED), ("linux", Look.COLOURED),
    ],
)  # fmt: skip
def test_what_a_terminal_can_do_is_told_by_its_name(term: str, look: Look) -> None:
    """Nothing is sent to a terminal that could stand there as text."""
    assert look_of(term) is look


def test_one_colour_is_no_colour() -> None:
    """Reverse and bold stay, since they say something."""
    terminal = Terminal(Look.ONE_COLOUR)
    terminal.feed(terminal.strip.show((Styled(text="a", style="33"), Styled(text="b", style="1"))))
    assert terminal.sent == b"before\r\na\x1b[0;1mb\x1b[0m"
