"""`grantctl sessions play` on a real terminal: it plays, obeys its keys, and shields the terminal (I-27; F38)."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

from broker.rpc.convert.session import event_out
from recorder.events import Event, Kind
from tests.agents.console import on_terminal
from tests.recorder.export.events import said

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.agents.conftest import Person
    from tests.agents.console import Console
    from tests.agents.fake_broker import FakeBroker

SECOND = 1_000_000
HOSTILE = (
    b"\x1b]52;c;cm0gLXJmIC8=\x07\x1b]0;owned\x07\x1b[6n\x1b[21t\x1bP+q544e\x1b\\\x1b[?1003h\x1bc\x9b6n\x05\xe2\x80\xae"
)
# all that may ever be written: our own few sequences, in front of printable text
OURS = re.compile(rb"\x1b\[(?:\d+;\d+H|0?(?:;?\d+)*m|K|2J|\?25[hl]|\?1049[hl])")


@pytest.fixture
def console(broker: FakeBroker, person: Person) -> Iterator[Console]:
    """The player, with a hostile recording of an hour."""
    events = [
        said(0, Kind.EXEC, argv="vim", pty=True),
        Event(0, Kind.RESIZE, 0, b"\0\x50\0\x18"),
        Event(0, Kind.OUT, 0, b"\x1b[?1049h\x1b[2J\x1b[1;31mbegin" + HOSTILE + b" of it\x1b[0m"),
        said(1800 * SECOND, Kind.MARK, label="write: approved (1) \x1b]0;x\x07"),
        Event(1800 * SECOND, Kind.OUT, 0, b"\x1b[2J\x1b[Hmiddle" + HOSTILE),
        Event(3600 * SECOND, Kind.OUT, 0, b"\r\nneedle in it"),
    ]
    broker.played = [event_out(event) for event in events]
    asked = ("sessions", "play", "se_1", "--reason", "look", "--idle-limit", "1h")
    with on_terminal(person.profile.directory, *asked, columns=90, rows=26) as found:
        yield found


def test_a_person_plays_a_session(console: Console, broker: FakeBroker) -> None:
    """Screen, status line, pause, next decision, search, steps, leaving; then the terminal is as it was."""
    console.expect("begin")
    assert console.screen.display[0].startswith("begin")
    assert "\u202e" not in "".join(console.screen.display)
    console.expect("1:00:00  1x  playing")
    console.write(b" ")
    console.expect("paused")
    console.write(b"n")
    console.expect("30:00 / 1:00:00")
    console.expect("write: approved (1) \\x1b]0;x\\x07")
    console.write(b" ")
    console.expect("middle")
    console.write(b"/NEEDLE\r")
    console.expect("found: NEEDLE")
    assert console.screen.display[1].startswith("needle in it")
    console.write(b"\x1b[D")
    console.expect("59:55")
    assert "needle in it" not in console.text()
    console.resize(60, 10)
    console.expect("59:55")
    console.write(b"q")
    assert console.wait() == 0
    assert not console.is_raw()
    assert broker.openings == [0]
    shielded(console.raw)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(console: Console, number: signal.Signals) -> None:
    """Whatever ends the player, the screen and the cursor come back."""
    console.expect("begin")
    console.signal(number)
    assert console.wait() == 128 + number
    assert not console.is_raw()
    shielded(console.raw)


def shielded(raw: bytes) -> None:
    """Nothing but our own sequences and text was written, and the screen was given back."""
    assert b"\x1b" not in OURS.sub(b"", raw)
    left = OURS.sub(b"", raw).decode()
    assert [char for char in left if not char.isprintable()] == []
    assert raw.index(b"\x1b[?1049h") < raw.rindex(b"\x1b[?25h") < raw.rindex(b"\x1b[?1049l")
