"""Lets through what a full-screen program draws with, and nothing that makes the viewer's terminal act or answer.

Whoever owns a terminal examines what reaches it, so this is grantctl's own; the broker's exports have theirs, and a
test holds the two together. An allow-list: printable text, cursor movement, erasing, scrolling, colours, alternate
screen. Everything else (OSC, DCS and other strings, reports and queries, mouse and keyboard modes, window operations,
unknown sequences) is held back and counted. Whatever was not understood is never passed on.
"""

from __future__ import annotations

import codecs
import re
from enum import Enum, auto

ESC = "\x1b"
_SINGLE = frozenset("\b\t\n\v\f\r\x0e\x0f")  # what moves the cursor or shifts the character set
_ESCAPES = frozenset("78DEM")  # save, restore, index, next line, reverse index
_CHARSETS = re.compile(r"[()][0AB]")
# most of what comes, passed on in one piece: plain text, and whole sequences that `_CSI` would let through
_RUN = re.compile(r"(?:[ -~\b\t\n\v\f\r\x0e\x0f]|\x1b\[\d{0,5}(?:;\d{0,5}){0,9}[ABCDEFGHJKLMPSX@`abdefmr])+")
_INTERMEDIATES = frozenset(" !\"#$%&'()*+,-./")
_STRINGS = frozenset("]PX^_")  # OSC, DCS, SOS, PM, APC
_C1_STRINGS = frozenset("\x90\x98\x9d\x9e\x9f")
_CSI = re.compile(r"\d{0,5}(?:[;:]\d{0,5}){0,31}[ABCDEFGHJKLMPSX@`abdefmr]|\d{0,5}T|[su]")
_MODES = re.compile(r"\?(?:1|7|12|25|47|1047|1048|1049)(?:;(?:1|7|12|25|47|1047|1048|1049)){0,8}[hl]")
_ALTERNATE = re.compile(r"\?.*(?:47|1047|1049).*h")
_MAX_CSI = 128  # characters; longer ones are held back
_RESTORE = f"{ESC}[0m\x0f{ESC}(B{ESC}7{ESC}[r{ESC}8{ESC}[?1l{ESC}[?7h{ESC}[?25h"


class _In(Enum):
    TEXT = auto()
    ESCAPE = auto()
    INTERMEDIATE = auto()
    CSI = auto()
    STRING = auto()
    STRING_ESCAPE = auto()


class TerminalFilter:
    """A filter for one output stream. Keeps its place between pieces, in bounded memory."""

    __slots__ = ("_alternate", "_decoder", "_held", "_in", "held_back")

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._in = _In.TEXT
        self._held = ""  # the sequence so far
        self._alternate = False
        self.held_back = 0  # sequences and characters that were not passed on

    def feed(self, data: bytes) -> str:
        """What of this may reach a terminal."""
        text, at, passed = self._decoder.decode(data), 0, list[str]()
        while at < len(text):
            run = _RUN.match(text, at) if self._in is _In.TEXT else None
            passed.append(run[0] if run else self._next(text[at]))
            at = run.end() if run else at + 1
        return "".join(passed)

    def end(self) -> str:
        """Puts the terminal back as it was: colours, character set, margins, cursor, main screen."""
        return _RESTORE + (f"{ESC}[?1049l" if self._alternate else "")

    def _next(self, char: str) -> str:
        match self._in:
            case _In.TEXT:
                return self._text(char)
            case _In.ESCAPE:
                return self._escape(char)
            case _In.INTERMEDIATE:
                return self._intermediate(char)
            case _In.CSI:
                return self._csi(char)
            case _In.STRING:
                return self._string(char)
            case _In.STRING_ESCAPE:
                return self._string_escape(char)

    def _text(self, char: str) -> str:
        if char.isprintable() or char in _SINGLE:
            return char
        if char == ESC:
            self._in = _In.ESCAPE
        elif char == "\x9b":
            self._in, self._held = _In.CSI, ""
        elif char in _C1_STRINGS:
            self._in = _In.STRING
        else:
            return self._drop("\ufffd" if char > "\x9f" else "")
        return ""

    def _escape(self, char: str) -> str:
        self._in = _In.TEXT
        if char in _ESCAPES:
            return ESC + char
        if char == "[":
            self._in, self._held = _In.CSI, ""
        elif char in _INTERMEDIATES:
            self._in, self._held = _In.INTERMEDIATE, char
        elif char in _STRINGS:
            self._in = _In.STRING
        elif char == ESC:
            self._in = _In.ESCAPE
            self.held_back += 1
        else:
            return self._drop()
        return ""

    def _intermediate(self, char: str) -> str:
        if char == ESC:
            self._in = _In.ESCAPE
            return self._drop()
        if len(self._held) < _MAX_CSI:
            self._held += char
        if char in _INTERMEDIATES:
            return ""
        self._in = _In.TEXT
        return f"{ESC}{self._held}" if _CHARSETS.fullmatch(self._held) else self._drop()

    def _csi(self, char: str) -> str:
        if char in "\x18\x1a":
            self._in = _In.TEXT
            return self._drop()
        if char == ESC:
            self._in = _In.ESCAPE
            return self._drop()
        if len(self._held) < _MAX_CSI:
            self._held += char
        if not "@" <= char <= "~":
            return ""
        self._in = _In.TEXT
        if _CSI.fullmatch(self._held):
            return f"{ESC}[{self._held}"
        if _MODES.fullmatch(self._held):
            self._alternate = self._alternate or _ALTERNATE.fullmatch(self._held) is not None
            return f"{ESC}[{self._held}"
        return self._drop()

    def _string(self, char: str) -> str:
        if char == ESC:
            self._in = _In.STRING_ESCAPE
        elif char in "\a\x18\x1a\x9c":
            self._in = _In.TEXT
            return self._drop()
        return ""

    def _string_escape(self, char: str) -> str:
        if char == "\\":
            self._in = _In.TEXT
            return self._drop()
        self.held_back += 1  # the string broke off; what follows is a sequence of its own
        return self._escape(char)

    def _drop(self, instead: str = "") -> str:
        self.held_back += 1
        return instead
