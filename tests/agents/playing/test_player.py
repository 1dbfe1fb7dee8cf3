"""Playing without a clock or a terminal: keys, pace, seeking, search (formats.md 1.5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.rpc.convert.session import event_out, outline_out, screen_out
from grantd.cli.playing import tape as taping
from grantd.cli.playing.keys import keys_in
from grantd.cli.playing.player import Player
from grantd.cli.playing.tape import Tape
from grantd.v1.session_pb2 import PlayRecordingResponse
from recorder.events import Event, Kind
from recorder.outline import outline_of
from recorder.screen import screen_of
from tests.recorder.export.events import COMMAND, said

SECOND = 1_000_000
COLUMNS, ROWS = 60, 8


class Reading:
    """Messages that are here at once, and an end that is known when they were taken."""

    def __init__(self, messages: list[PlayRecordingResponse], failure: Exception | None) -> None:
        self._messages, self._failure = messages, failure
        self.ended = self.stopped = False

    def take(self) -> PlayRecordingResponse | None:
        if self._messages:
            return self._messages.pop(0)
        self.ended = True
        if self._failure is not None:
            raise self._failure
        return None

    def stop(self) -> None:
        self.stopped = True


class Broker:
    """Opens one recording, as often as it is asked to."""

    def __init__(self, events: list[Event], failure: Exception | None = None) -> None:
        self._events, self._failure = events, failure
        self.opened: list[int] = []

    def open_at(self, t_us: int) -> Reading:
        screen = screen_out(screen_of(event for event in self._events if event.t_us < t_us))
        rest = [event_out(event) for event in self._events if event.t_us >= t_us]
        outline = [] if self.opened else [outline_out(outline_of(self._events, {}))]
        self.opened.append(t_us)
        return Reading([*outline, screen, *rest], self._failure)


def playing(
    events: list[Event], *, speed: float = 1.0, idle_limit_us: int = 10 * SECOND, start_us: int = 0
) -> tuple[Player, Broker]:
    """A player whose first screen is there."""
    broker = Broker(events)
    player = Player(Tape(broker.open_at, start_us=start_us), speed=speed, idle_limit_us=idle_limit_us)
    player.advance(0)
    return player, broker


def seen(player: Player) -> list[str]:
    """The rows as text; the status line last."""
    return ["".join(cell.text for cell in row).rstrip() for row in player.rows(COLUMNS, ROWS)]


def press(player: Player, *keys: str) -> None:
    """Keys, and the moment after them."""
    for key in keys:
        player.key(key)
    player.advance(0)


STORY = [
    said(0, Kind.EXEC, argv="sh", pty=True),
    Event(0, Kind.RESIZE, 0, b"\0\x28\0\x06"),
    *(Event(number * SECOND, Kind.OUT, 0, b"line %d\r\n" % number) for number in range(1, 5)),
    said(5 * SECOND, Kind.MARK, label="write: approved (1)"),
    Event(6 * SECOND, Kind.OUT, 0, b"\x1b[2J\x1b[Hsecond \x1b[1mscreen\x1b[0m"),
    said(60 * SECOND, Kind.MARK, label="execute: denied"),
    Event(61 * SECOND, Kind.OUT, 0, b"\r\nlate"),
    said(62 * SECOND, Kind.EXIT, status=0),
]


def test_time_passes_at_the_recordings_pace() -> None:
    """An event is to be seen when its time has come, and not before; space stops time."""
    player, _ = playing(STORY)
    player.advance(1.5)
    assert seen(player)[:2] == ["line 1", ""]
    player.advance(1.0)
    assert seen(player)[:2] == ["line 1", "line 2"]
    press(player, " ")
    player.advance(5)
    assert player.position_us == int(2.5 * SECOND)
    assert "00:02 / 01:02  1x  paused" in seen(player)[-1]


def test_speed_and_its_bounds() -> None:
    """Plus and minus change how fast time passes, within sensible bounds."""
    player, _ = playing(STORY)
    press(player, "+", "+")
    player.advance(1)
    assert player.position_us == 2 * SECOND
    press(player, *["-"] * 20)
    assert "0.25x" in seen(player)[-1]
    press(player, *["+"] * 20)
    assert "32x" in seen(player)[-1]


def test_stretches_without_events_are_passed_over() -> None:
    """After the idle limit the next event is there; the recording's own time goes on being told."""
    player, _ = playing(STORY, idle_limit_us=2 * SECOND)
    player.advance(6.0)
    assert seen(player)[0] == "second screen"
    player.advance(1.9)
    assert player.position_us < 9 * SECOND
    player.advance(0.2)
    assert player.position_us >= 60 * SECOND
    player.advance(10)
    assert seen(player)[1] == "late"
    assert "the end" in seen(player)[-1]
    assert not player.playing


def test_arrows_go_back_and_forth_and_read_nothing_twice() -> None:
    """Small steps are served from what is kept: no second reading, so no second row in the audit log."""
    player, broker = playing(STORY)
    player.advance(6.5)
    press(player, "left")
    assert seen(player)[:2] == ["line 1", ""]
    press(player, "right")
    assert seen(player)[0] == "second screen"
    press(player, "home")
    assert seen(player)[0] == ""
    assert player.position_us == 0
    assert broker.opened == [0]


def test_decisions_are_a_key_away() -> None:
    """n and p go from decision to decision, and the status line names the one that is in force."""
    player, _ = playing(STORY)
    press(player, " ", "n")
    assert player.position_us == 5 * SECOND
    assert "write: approved (1)" in seen(player)[-1]
    press(player, "n")
    assert player.position_us == 60 * SECOND
    assert "execute: denied" in seen(player)[-1]
    press(player, "n")
    assert "no further decision" in seen(player)[-1]
    press(player, "p", "p")
    assert player.position_us == 0


def test_search_finds_what_was_shown() -> None:
    """Across colours and in any case; the screen stands at the hit, which is marked."""
    player, _ = playing(STORY)
    press(player, "/", *"SECOND SCREENX", "rubout")
    assert seen(player)[-1].startswith("/SECOND SCREEN")
    press(player, "enter")
    player.advance(0)
    assert player.position_us == 6 * SECOND + 1
    assert seen(player)[0] == "second screen"
    assert {cell.style for cell in player.rows(COLUMNS, ROWS)[0][:13]} == {"30;43"}
    press(player, "/", *"line 1", "enter")
    player.advance(0)
    assert "not found after this: line 1" in seen(player)[-1]
    assert player.position_us == 6 * SECOND + 1
    press(player, "/", *"x", "escape")
    assert "/" not in seen(player)[-1][:1]


def test_a_long_recording_is_entered_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that what is kept cannot serve opens the recording there, with its screen; hours before are not read."""
    monkeypatch.setattr(taping, "AHEAD_BYTES", 4_000)
    monkeypatch.setattr(taping, "KEPT_BYTES", 8_000)
    events = [
        said(0, Kind.EXEC, argv="sh", pty=True),
        *(Event(number * SECOND, Kind.OUT, 0, b"%d\r\n" % number) for number in range(600)),
    ]
    player, broker = playing(events)
    press(player, *["right"] * 60)
    assert broker.opened[0] == 0
    assert player.position_us == 300 * SECOND
    assert seen(player)[ROWS - 3 : ROWS - 1] == ["300", ""]
    player.advance(9.5)
    assert "309" in seen(player)
    opened = len(broker.opened)
    press(player, "left")
    assert len(broker.opened) == opened
    assert "304" in seen(player)
    assert "305" not in seen(player)
    press(player, "home")
    assert broker.opened[-1] == 0


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Playing for hours keeps the last part alone; going further back opens the recording again."""
    monkeypatch.setattr(taping, "AHEAD_BYTES", 4_000)
    monkeypatch.setattr(taping, "KEPT_BYTES", 8_000)
    events = [Event(number * SECOND, Kind.OUT, 0, b"%d\r\n" % number) for number in range(600)]
    tape = Tape((broker := Broker(events)).open_at)
    for number in range(600):
        tape.fill()
        assert tape.pop().t_us == number * SECOND
        assert len(tape._events) <= 60  # noqa: SLF001  its memory is what this is about
    tape.seek(3 * SECOND)
    assert broker.opened == [0, 3 * SECOND]


def test_a_command_without_a_terminal_is_lines() -> None:
    """Streams marked, escapes visible, the newest last; a long line goes on below."""
    player, _ = playing([*COMMAND, Event(7_000, Kind.ERR, 0, b"\x1b[31m" + b"w" * 70)])
    player.advance(1)
    rows = seen(player)
    assert rows[:2] == [" out two", 'lost {"bytes": 12, "reason": "slow"}']
    assert rows[3:7] == [
        'sftp {"op":"read","path":"\\\\u001b[31m"}',
        'exit {"signal": "KILL"}',
        " err \\x1b[31m" + "w" * 47,
        "w" * 23,
    ]


def test_leaving() -> None:
    """q and Ctrl-C leave, from a search too; in a search line q is a letter."""
    for keys in (("q",), ("interrupt",)):
        player, _ = playing(STORY)
        press(player, *keys)
        assert player.quit
    player, _ = playing(STORY)
    press(player, "/", "q")
    assert not player.quit


def test_a_broken_stream_is_told() -> None:
    """What the broker refuses comes out where the player is driven."""
    player = Player(Tape(Broker(STORY, OSError("gone")).open_at), speed=1, idle_limit_us=SECOND)
    with pytest.raises(OSError, match="gone"):
        player.advance(0)


@given(
    st.lists(
        st.sampled_from([" ", "left", "right", "n", "p", "+", "-", "home", "/", "l", "enter", "escape", "?", "up"])
        | st.floats(0, 9),
        max_size=25,
    )
)
def test_any_keys_at_any_time_show_what_replay_shows(deeds: list[str | float]) -> None:
    """Whatever was pressed, the screen is the one that the recording had at that time."""
    player, _ = playing(STORY)
    for deed in deeds:
        press(player, deed) if isinstance(deed, str) else player.advance(deed)
    press(player, "escape", "enter")
    player.advance(0)
    player.advance(0)
    fresh, _ = playing(STORY, start_us=player.position_us)
    behind = [row for row in seen(player)[:-1] if row not in seen(fresh)[:-1]]
    at_once = [event.payload for event in STORY if event.t_us == player.position_us and event.kind == Kind.OUT]
    assert not behind or at_once


def test_keys_are_read_from_bytes() -> None:
    """Arrows in both modes, letters of any script, and nothing from what is unknown."""
    assert list(keys_in(b"\x1b[C\x1bOD q\x03\x7f\r\xc3\xa9\x1b[200~\xff\x01")) == [
        *("right", "left", " ", "q", "interrupt", "rubout", "enter", "\u00e9")
    ]
