"""Bytes of a keyboard to keys. Incremental, total and bounded: any bytes, cut anywhere, give keys or nothing.

A terminal also answers what programs ask of it: reports and strings (OSC, DCS, ...) are swallowed, never taken for
typing. Reads no clock: a lone Escape waits for what follows it.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from types import MappingProxyType
from typing import Final

MAX_PASTE: Final = 64 * 1024
"""Characters of one paste; a longer one is told and not taken, never cut."""
_MAX_SEQUENCE: Final = 64


class Key(StrEnum):
    """What a person asks of the editor."""

    ENTER = auto()
    NEWLINE = auto()
    TAB = auto()
    BACKSPACE = auto()
    DELETE = auto()
    LEFT = auto()
    RIGHT = auto()
    UP = auto()
    DOWN = auto()
    HOME = auto()
    END = auto()
    WORD_LEFT = auto()
    WORD_RIGHT = auto()
    FIRST = auto()
    LAST = auto()
    KILL_TO_END = auto()
    KILL_TO_START = auto()
    KILL_BLANK_WORD = auto()
    KILL_WORD_LEFT = auto()
    KILL_WORD_RIGHT = auto()
    YANK = auto()
    YANK_OLDER = auto()
    TRANSPOSE = auto()
    UNDO = auto()
    CLEAR = auto()
    SEARCH = auto()
    ABORT = auto()
    INTERRUPT = auto()
    END_OR_DELETE = auto()


@dataclass(frozen=True, slots=True)
class Typed:
    """Characters that were typed."""

    text: str


@dataclass(frozen=True, slots=True)
class Pasted:
    """Text between the marks of a bracketed paste, line ends as newlines; None: longer than MAX_PASTE."""

    text: str | None


Stroke = Key | Typed | Pasted

_CONTROLS: Final[Mapping[str, Key]] = MappingProxyType(
    {
        "\x01": Key.HOME, "\x02": Key.LEFT, "\x03": Key.INTERRUPT, "\x04": Key.END_OR_DELETE, "\x05": Key.END,
        "\x06": Key.RIGHT, "\x07": Key.ABORT, "\x08": Key.BACKSPACE, "\t": Key.TAB, "\n": Key.ENTER,
        "\x0b": Key.KILL_TO_END, "\x0c": Key.CLEAR, "\r": Key.ENTER, "\x0e": Key.DOWN, "\x10": Key.UP,
        "\x12": Key.SEARCH, "\x14": Key.TRANSPOSE, "\x15": Key.KILL_TO_START, "\x17": Key.KILL_BLANK_WORD,
        "\x19": Key.YANK, "\x1f": Key.UNDO, "\x7f": Key.BACKSPACE,
    }
)  # fmt: skip
_META: Final[Mapping[str, Key]] = MappingProxyType(
    {
        "b": Key.WORD_LEFT, "f": Key.WORD_RIGHT, "d": Key.KILL_WORD_RIGHT, "y": Key.YANK_OLDER, "<": Key.FIRST,
        ">": Key.LAST, "\x7f": Key.KILL_WORD_LEFT, "\x08": Key.KILL_WORD_LEFT, "\r": Key.NEWLINE, "\n": Key.NEWLINE,
    }
)  # fmt: skip
_FINAL: Final[Mapping[str, Key]] = MappingProxyType(
    {"A": Key.UP, "B": Key.DOWN, "C": Key.RIGHT, "D": Key.LEFT, "H": Key.HOME, "F": Key.END}
)
_TILDE: Final[Mapping[str, Key]] = MappingProxyType(
    {"1": Key.HOME, "7": Key.HOME, "4": Key.END, "8": Key.END, "3": Key.DELETE, "5": Key.FIRST, "6": Key.LAST}
)
_BY_WORD: Final[Mapping[Key, Key]] = MappingProxyType(
    {Key.LEFT: Key.WORD_LEFT, Key.RIGHT: Key.WORD_RIGHT, Key.DELETE: Key.KILL_WORD_RIGHT}
)
_PASTE_BEGINS, _PASTE_ENDS = "200", "\x1b[201~"
_STRINGS: Final = frozenset("]PX^_")
_STRING_ENDS: Final = frozenset("\a\x18\x1a\x9c")


class _In(Enum):
    TEXT = auto()
    ESCAPE = auto()
    CSI = auto()
    SS3 = auto()
    STRING = auto()
    STRING_ESCAPE = auto()
    PASTE = auto()


class Keyboard:
    """One keyboard's bytes; keeps its place between pieces."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._in = _In.TEXT
        self._held = ""

    def feed(self, data: bytes) -> Iterator[Stroke]:
        """The strokes that are complete."""
        run = ""
        for char in self._decoder.decode(data):
            if self._in is _In.TEXT and char not in _CONTROLS and char != "\x1b":
                run += char
                continue
            if run:
                yield Typed(run)
                run = ""
            if (stroke := self._next(char)) is not None:
                yield stroke
        if run:
            yield Typed(run)

    def _next(self, char: str) -> Stroke | None:
        match self._in:
            case _In.TEXT:
                return self._control(char)
            case _In.ESCAPE:
                return self._escape(char)
            case _In.CSI:
                return self._csi(char)
            case _In.SS3:
                self._in = _In.TEXT
                return _FINAL.get(char)
            case _In.STRING | _In.STRING_ESCAPE:
                return self._string(char)
            case _In.PASTE:
                return self._paste(char)

    def _control(self, char: str) -> Stroke | None:
        if char == "\x1b":
            self._in = _In.ESCAPE
            return None
        return _CONTROLS.get(char)

    def _escape(self, char: str) -> Stroke | None:
        self._held = ""
        if char == "[":
            self._in = _In.CSI
        elif char == "O":
            self._in = _In.SS3
        elif char in _STRINGS:
            self._in = _In.STRING
        elif char != "\x1b":
            self._in = _In.TEXT
            return _META.get(char)
        return None

    def _csi(self, char: str) -> Stroke | None:
        if char == "\x1b":
            self._in = _In.ESCAPE
            return None
        if not "@" <= char <= "~":
            self._held = (self._held + char)[:_MAX_SEQUENCE]
            return None
        self._in = _In.TEXT
        number, _, modifier = self._held.partition(";")
        if char == "~" and number == _PASTE_BEGINS:
            self._in, self._held = _In.PASTE, ""
            return None
        key = _TILDE.get(number) if char == "~" else _FINAL.get(char) if number in {"", "1"} else None
        if key is not None and modifier in {"3", "5"}:  # Alt, Control
            return _BY_WORD.get(key, key)
        return key

    def _string(self, char: str) -> Stroke | None:
        """What the terminal answers, up to its end."""
        if char == "\x1b":
            self._in = _In.STRING_ESCAPE
        elif char in _STRING_ENDS or (self._in is _In.STRING_ESCAPE and char == "\\"):
            self._in = _In.TEXT
        elif self._in is _In.STRING_ESCAPE:
            return self._escape(char)  # the string broke off
        return None

    def _paste(self, char: str) -> Stroke | None:
        if len(self._held) <= MAX_PASTE + len(_PASTE_ENDS):
            self._held += char
        else:  # too long: only the end mark still counts
            self._held = self._held[: MAX_PASTE + 1] + (self._held[MAX_PASTE + 1 :] + char)[-len(_PASTE_ENDS) :]
        if not self._held.endswith(_PASTE_ENDS):
            return None
        self._in = _In.TEXT
        text = self._held.removesuffix(_PASTE_ENDS)
        self._held = ""
        return Pasted(text.replace("\r\n", "\n").replace("\r", "\n") if len(text) <= MAX_PASTE else None)
