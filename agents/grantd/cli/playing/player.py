"""Playing: what a key does, what time does, what is to be seen. Reads no clock and touches no terminal.

Two clocks: the recording's time, which the status line shows, and the watcher's, which runs faster or slower and passes
over stretches in which nothing happens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from grantd.cli.playing.grid import SPACE, Cell
from grantd.cli.playing.surface import ERR, OUT, LineSurface, Surface, TerminalSurface, Words
from grantd.cli.playing.tape import Redraw, Tape
from grantd.cli.visible import one_line

SPEEDS: Final = (0.25, 0.5, 1.0, 1.5, 2.0, 4.0, 8.0, 16.0, 32.0)
STEP_US: Final = 5_000_000
_EVENTS_AT_ONCE: Final = 2_000
"""Drawn before keys are looked at again."""
_MAX_WORD: Final = 80
_HOUR_S: Final = 3600
_STATUS: Final = "7"
_FOUND: Final = "30;43"
HELP: Final = "space pause  \u2190\u2192 5 s  +- speed  n p decision  / search  q quit"


class Player:
    """One viewing.

    Args:
        idle_limit_us: the longest stretch without an event, in the recording's time; the rest of it is passed over.
    """

    def __init__(self, tape: Tape, *, speed: float, idle_limit_us: int) -> None:
        self._tape = tape
        self._speed = min(SPEEDS, key=lambda each: abs(each - speed))
        self._idle_limit_us = idle_limit_us
        self._surface: Surface = LineSurface()
        self.position_us = tape.base_us
        self.playing = True
        self.quit = False
        self._quiet_us = 0
        """How long nothing has happened, in the recording's time."""
        self._coming = True
        """The screen of a time that was sought is on its way."""
        self._typed: str | None = None
        self._word = ""
        self._looking: Words | None = None
        self._looked_from_us = 0
        self._said = HELP
        self._deeds: dict[str, Callable[[], None]] = {
            " ": self._pause,
            "right": lambda: self.seek(self.position_us + STEP_US),
            "left": lambda: self.seek(self.position_us - STEP_US),
            "home": lambda: self.seek(0),
            "+": lambda: self._faster(1),
            "=": lambda: self._faster(1),
            "up": lambda: self._faster(1),
            "-": lambda: self._faster(-1),
            "down": lambda: self._faster(-1),
            "n": lambda: self._to_marker(1),
            "p": lambda: self._to_marker(-1),
            "/": self._ask,
            "?": lambda: self._say(HELP),
            "h": lambda: self._say(HELP),
            "q": self._leave,
            "interrupt": self._leave,
        }

    # ---- keys
    def key(self, name: str) -> None:
        """A key by its name, or a character."""
        if self._typed is not None:
            self._type(name)
        elif self._looking is not None:
            self._stop_looking("search ended")
            if name in ("q", "interrupt"):
                self._leave()
        elif deed := self._deeds.get(name):
            self._say("")
            deed()

    def _pause(self) -> None:
        if not self.playing and self.position_us >= self._duration_us() and self._at_end():
            self.seek(0)
        self.playing = not self.playing

    def _leave(self) -> None:
        self.quit = True

    def _say(self, text: str) -> None:
        self._said = text

    def _faster(self, steps: int) -> None:
        place = SPEEDS.index(self._speed) + steps
        self._speed = SPEEDS[min(max(place, 0), len(SPEEDS) - 1)]

    def _to_marker(self, direction: int) -> None:
        markers = self._tape.outline.markers if self._tape.outline else ()
        times = [marker.t_us for marker in markers]
        # a step back within the first second of a marker's play goes to the one before
        back = [t_us for t_us in times if t_us < self.position_us - 1_000_000]
        ahead = [t_us for t_us in times if t_us > self.position_us]
        if direction > 0 and ahead:
            self.seek(ahead[0])
        elif direction < 0 and (back or times):
            self.seek(back[-1] if back else times[0])
        else:
            self._say("no further decision" if times else "no decisions in this recording")

    def seek(self, t_us: int) -> None:
        """Go to a time of the recording; what is before or after it, is its beginning or end."""
        t_us = min(max(t_us, 0), self._duration_us() + 1)  # just behind the last event, too
        self._tape.seek(t_us)
        self.position_us, self._quiet_us, self._coming = t_us, 0, True
        self._redraw()

    # ---- search
    def _ask(self) -> None:
        self._typed = ""

    def _type(self, name: str) -> None:
        typed = self._typed or ""
        if name in ("escape", "interrupt"):
            self._typed = None
        elif name == "rubout":
            self._typed = typed[:-1]
        elif name == "enter":
            self._typed = None
            self._look(typed or self._word)
        elif len(name) == 1 and len(typed) < _MAX_WORD:
            self._typed = typed + name

    def _look(self, word: str) -> None:
        self._word = word
        if word:
            self._looking, self._looked_from_us = Words(word), self.position_us

    def _look_on(self, words: Words) -> None:
        """Through what has come; each call a bounded number of events."""
        for _ in range(_EVENTS_AT_ONCE):
            t_us = self._tape.next_us()
            if t_us is None:
                if self._tape.complete:
                    self._stop_looking(f"not found after this: {self._word}")
                return
            event = self._tape.pop()
            if event.kind in (OUT, ERR) and words.found_in(event.payload):
                self._looking = None
                self.playing = False
                self.seek(t_us + 1)
                self._say(f"found: {self._word}")
                return

    def _stop_looking(self, said: str) -> None:
        self._looking = None
        self.seek(self._looked_from_us)
        self._say(said)

    # ---- time
    def advance(self, seconds: float) -> None:
        """So much of the watcher's time has passed."""
        self._tape.fill()
        if self._coming:
            self._redraw()
        elif self._looking is not None:
            self._look_on(self._looking)
        elif self.playing:
            self._play(int(seconds * 1_000_000 * self._speed))

    def _redraw(self) -> None:
        shown = self._tape.redraw()
        if shown is None:
            return
        self._coming = False
        self._surface = self._fresh(shown)
        for event in shown.events:
            self._surface.feed(event)

    def _fresh(self, shown: Redraw) -> Surface:
        if self._tape.outline is not None and not self._tape.outline.terminal:
            return LineSurface()
        return TerminalSurface(shown.screen.columns, shown.screen.rows, shown.screen.drawing)

    def _play(self, left_us: int) -> None:
        for _ in range(_EVENTS_AT_ONCE):
            next_us = self._tape.next_us()
            if next_us is None and not self._at_end():
                return  # it has not come yet: time waits for it
            until_us = self._duration_us() if next_us is None else next_us
            wait_us = min(until_us - self.position_us, max(0, self._idle_limit_us - self._quiet_us))
            if wait_us > left_us:
                self.position_us += left_us
                self._quiet_us += left_us
                return
            left_us -= max(wait_us, 0)
            self.position_us, self._quiet_us = max(until_us, self.position_us), 0
            if next_us is None:
                self._end()
                return
            self._surface.feed(self._tape.pop())

    def _end(self) -> None:
        self.playing = False
        self._say("the end  (space plays it again, q leaves)")

    def _at_end(self) -> bool:
        return self._tape.complete and self._tape.next_us() is None

    def _duration_us(self) -> int:
        return max(self._tape.outline.duration_us if self._tape.outline else 0, self.position_us)

    # ---- what is to be seen
    @property
    def busy(self) -> bool:
        """Whether something changes without a key."""
        return self.playing or self._coming or self._looking is not None

    @property
    def cursor(self) -> tuple[int, int] | None:
        """Where the recorded cursor is, if it is to be seen."""
        return self._surface.cursor

    def rows(self, columns: int, count: int) -> list[list[Cell]]:
        """`count` rows: the recording, and the status line last."""
        shown = [self._lit(row) for row in self._surface.rows(columns, count - 1)]
        shown += [[] for _ in range(count - 1 - len(shown))]
        return [*shown, [Cell(char, _STATUS) for char in self._status(columns)]]

    def _lit(self, row: list[Cell]) -> list[Cell]:
        """The row with the word that was searched for."""
        text = "".join(cell.text[:1] or SPACE for cell in row).casefold()
        word = self._word.casefold()
        if not word or len(text) != len(row) or word not in text:
            return row
        lit, at = list(row), text.find(word)
        while at >= 0:
            lit[at : at + len(word)] = [Cell(cell.text, _FOUND) for cell in lit[at : at + len(word)]]
            at = text.find(word, at + len(word))
        return lit

    def _status(self, columns: int) -> str:
        if self._typed is not None:
            return f"/{one_line(self._typed)}\u2588".ljust(columns)[:columns]
        state = "searching" if self._looking else "loading" if self._coming else "playing" if self.playing else "paused"
        whole = f"{_clock(self.position_us)} / {_clock(self._duration_us())}  {self._speed:g}x  {state}"
        said = self._said or self._marker()
        return f" {whole}  {one_line(said)}".ljust(columns)[:columns]

    def _marker(self) -> str:
        """The decision under which what is shown happened."""
        markers = self._tape.outline.markers if self._tape.outline else ()
        before = [marker.label for marker in markers if marker.t_us <= self.position_us]
        return before[-1] if before else ""


def _clock(t_us: int) -> str:
    seconds = t_us // 1_000_000
    hours = f"{seconds // 3600}:" if seconds >= _HOUR_S else ""
    return f"{hours}{seconds // 60 % 60:02d}:{seconds % 60:02d}"
