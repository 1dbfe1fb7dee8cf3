"""What keys mean: bytes and times in, effects out. Pure; the rules of I-15 live here and nowhere else.

A yes needs, after the last page was drawn and settled: each character of the expected text as a read of its own, no
faster than a hand, then Enter as a read of its own. Two characters in one read are a paste, however they got there;
escape sequences (arrow keys, a terminal's answerback, bracketed paste) are swallowed whole. Whatever is not a
deliberate key empties what was typed so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Final, TypeAlias

SETTLE_SECONDS: Final = 0.7
"""Keys that come sooner after a drawing were meant for what was there before it."""
BURST_SECONDS: Final = 0.005
"""Keys that come closer together were not typed by a hand."""
MAX_NOTE_BYTES: Final = 512
_SEQUENCE_SECONDS: Final = 0.5
_MAX_TYPED: Final = 16
_ENTER: Final = ("\r", "\n")
_ERASE: Final = ("\x7f", "\b")
_LEAVE: Final = ("\x03", "\x04")
_ESC: Final = "\x1b"


class Phase(Enum):
    """Where the dialogue stands."""

    READING = auto()
    CHOOSING = auto()
    CONFIRMING = auto()
    NOTING = auto()


@dataclass(frozen=True, slots=True)
class NextPage:
    """Draw the page after the ones drawn so far, then call `drawn`."""


@dataclass(frozen=True, slots=True)
class Redraw:
    """Draw again from the first page."""


@dataclass(frozen=True, slots=True)
class Explain:
    """Tell why a person is asked."""


@dataclass(frozen=True, slots=True)
class Approve:
    """Sign a yes."""


@dataclass(frozen=True, slots=True)
class Deny:
    """Sign a no."""

    note: str


@dataclass(frozen=True, slots=True)
class Skip:
    """Leave it to others, or for later."""


@dataclass(frozen=True, slots=True)
class Quit:
    """Leave the prompt."""


Effect: TypeAlias = NextPage | Redraw | Explain | Approve | Deny | Skip | Quit


class Hint(StrEnum):
    """What the toolbar says about the last key."""

    NONE = ""
    PASTED = "pasted text never approves: type it"
    EARLY = "too early: that key was pressed before this was shown"
    UNREAD = "read it to the end first: Space"
    WRONG = "that is not it"
    UNKNOWN = "that key does nothing here"


class _Sequence(Enum):
    """Where in an escape sequence the bytes are."""

    NONE = auto()
    STARTED = auto()
    CONTROL = auto()
    """After ESC [ or ESC O: ends with a letter."""
    STRING = auto()
    """After ESC ] P X ^ _: ends with BEL or ESC backslash."""


class Dialogue:
    """One question's keys. Make a new one whenever the card is drawn from its first page.

    Args:
        expected: what has to be typed for a yes: `y`, or the code.
        pages: how many pages the card has.
    """

    def __init__(self, *, expected: str, pages: int) -> None:
        self._expected = expected
        self._pages = pages
        self._shown = 0
        self._settled_at = float("inf")
        self._last_at = float("-inf")
        self._sequence = _Sequence.NONE
        self._parameters = ""
        self._pasting = False
        self.phase = Phase.READING
        self.hint = Hint.NONE
        self.typed = ""
        self.note = ""

    @property
    def page(self) -> int:
        """How many pages were drawn."""
        return self._shown

    @property
    def pages(self) -> int:
        return self._pages

    def drawn(self, at: float) -> None:
        """The next page stands on the screen, and what was typed before that was thrown away."""
        self._shown += 1
        self._settled_at = at + SETTLE_SECONDS
        self.typed = ""
        if self._shown >= self._pages:
            self.phase = Phase.CHOOSING

    def drawn_more(self, at: float) -> None:
        """Something was drawn below the card; keys for what was there before do not count."""
        self._settled_at = at + SETTLE_SECONDS
        self._back()

    def read(self, data: bytes, at: float) -> Effect | None:
        """One read of the terminal, `at` seconds of a monotonic clock. Empty: the terminal is gone."""
        if not data:
            return Quit()
        hand = len(data) == 1 and at - self._last_at >= BURST_SECONDS
        if at - self._last_at > _SEQUENCE_SECONDS:
            self._sequence = _Sequence.NONE
        self._last_at = at
        text = self._outside_sequences(data.decode(errors="replace"), lone=hand)
        if hand and len(text) == 1 and text in _LEAVE:
            return Quit()
        if self.phase is Phase.NOTING:
            return self._noting(text, hand=hand and not self._pasting)
        if not hand or self._pasting:
            self._forget(Hint.PASTED if text or self._pasting else Hint.NONE)
            return None
        if not text:
            return None
        if at < self._settled_at:
            self._forget(Hint.EARLY)
            return None
        self.hint = Hint.NONE
        return self._key(text)

    def _key(self, key: str) -> Effect | None:
        match self.phase:
            case Phase.CONFIRMING:
                return self._confirming(key)
            case Phase.READING | Phase.CHOOSING | Phase.NOTING:
                return self._choosing(key)

    def _choosing(self, key: str) -> Effect | None:
        read = self.phase is Phase.CHOOSING
        match key:
            case " " | "\r" | "\n" if not read:
                return NextPage()
            case "a" | "y" if not read:
                self.hint = Hint.UNREAD
            case "y" if self._expected == "y":
                self.phase, self.typed = Phase.CONFIRMING, "y"
            case "a":
                self.phase, self.typed = Phase.CONFIRMING, ""
            case "d":
                self.phase, self.note = Phase.NOTING, ""
            case "e":
                return Explain()
            case "r" | "\x0c":
                return Redraw()
            case "s":
                return Skip()
            case "q":
                return Quit()
            case _:
                self.hint = Hint.UNKNOWN
        return None

    def _confirming(self, key: str) -> Effect | None:
        if key in _ERASE:
            self.typed = self.typed[:-1]
        elif key in _ENTER:
            if self.typed.lower() == self._expected:
                return Approve()
            self._forget(Hint.WRONG)
        elif " " < key <= "~" and len(self.typed) < _MAX_TYPED:
            self.typed += key
        else:
            self._forget(Hint.UNKNOWN)
        return None

    def _noting(self, text: str, *, hand: bool) -> Effect | None:
        """A note may be pasted: it approves nothing. Only Enter as a key of its own sends it."""
        if hand and text in _ENTER:
            return Deny(self.note.strip())
        if hand and text in _ERASE:
            self.note = self.note[:-1]
            return None
        for character in text:
            plain = character if character.isprintable() else " "
            if len((self.note + plain).encode()) <= MAX_NOTE_BYTES:
                self.note += plain
        return None

    def _forget(self, hint: Hint) -> None:
        self.typed, self.hint = "", hint

    def _back(self) -> None:
        """What Escape does: to the choice, with nothing typed."""
        if self.phase in (Phase.CONFIRMING, Phase.NOTING):
            self.phase = Phase.CHOOSING if self._shown >= self._pages else Phase.READING
        self.typed = self.note = ""

    def _outside_sequences(self, text: str, *, lone: bool) -> str:
        """The characters that are not part of an escape sequence."""
        return "".join(character for character in text if self._is_outside(character, lone=lone))

    def _is_outside(self, character: str, *, lone: bool) -> bool:
        match self._sequence:
            case _Sequence.NONE:
                if character != _ESC:
                    return True
                self._sequence, self._parameters = _Sequence.STARTED, ""
                if lone:
                    self._back()
            case _Sequence.STARTED:
                self._start(character)
            case _Sequence.CONTROL:
                self._control(character)
            case _Sequence.STRING:
                if character == "\x07":
                    self._sequence = _Sequence.NONE
                elif character == _ESC:
                    self._sequence = _Sequence.STARTED
        return False

    def _start(self, character: str) -> None:
        if character in "[O":
            self._sequence = _Sequence.CONTROL
        elif character in "]PX^_":
            self._sequence = _Sequence.STRING
        elif character != _ESC:
            self._sequence = _Sequence.NONE

    def _control(self, character: str) -> None:
        if not "@" <= character <= "~":
            self._parameters = (self._parameters + character)[:_MAX_TYPED]
            return
        self._sequence = _Sequence.NONE
        if character == "~" and self._parameters in ("200", "201"):
            self._pasting = self._parameters == "200"
            self._forget(Hint.PASTED)
