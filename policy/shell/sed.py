"""What a sed script does, read by a strict lexer of GNU sed's commands.

Runs nothing; what it cannot read it does not guess.
"""

from __future__ import annotations

import re

from policy.classes import CommandClass

_ADDRESS = re.compile(r"\d+~\d+|\d+|\$")
_STEP = re.compile(r"[+~]\d+")
_LABEL = re.compile(r"[ \t]*[^\s;{}]*")
_LABEL_END = re.compile(r"[ \t}]*(?:[;\n]|\Z)")
_NUMBER = re.compile(r"[ \t]*\d*")
_REST = re.compile(r"(?:[^\n\\]|\\.)*", re.DOTALL)
_FILE = re.compile(r"[^\n]*")
_BRACKETS = re.compile(r"\\.|\[\^?+\]?+(?:\[[:.=][^][]*[:.=]\]|[^]])*+(\]|\Z)", re.DOTALL)  # or an escape
_PLAIN = frozenset("=dDgGhHnNpPxzF{}")
_STREAMS = frozenset({"/dev/stdout", "/dev/stderr"})


class _UnreadError(Exception):
    """The lexer does not know what comes here."""


def sed_class(script: str) -> CommandClass | None:
    """READ if the script only prints, WRITE if it writes a file, None if it runs a command or cannot be read."""
    lexer = _Lexer(script)
    try:
        while lexer.more():
            lexer.command()
    except _UnreadError:
        return None
    return lexer.found


class _Lexer:
    def __init__(self, script: str) -> None:
        self._script = script
        self._at = 0
        self.found = CommandClass.READ

    def more(self) -> bool:
        """Whether a command is left, past separators and comments."""
        self._skip(" \t\n;")
        while self._peek() == "#":
            self._take(_FILE)
            self._skip(" \t\n;")
        return self._at < len(self._script)

    def command(self) -> None:
        """Read one command with its addresses."""
        if self._address():
            self._skip(" \t")
            if self._peek() == ",":
                self._at += 1
                self._skip(" \t")
                if not (self._take(_STEP) or self._address()):
                    raise _UnreadError
        self._skip(" \t!")
        self._verb(self._next())

    def _verb(self, verb: str) -> None:
        if verb in _PLAIN:
            return
        if verb in "btT:":
            self._label()
        elif verb in "qQlL":
            self._take(_NUMBER)
        elif verb in "aic":
            self._take(_REST)
        elif verb in "rR":
            self._take(_FILE)
        elif verb in "wW":
            self._file()
        elif verb == "y":
            self._pair(regex=False)
        elif verb == "s":
            self._pair(regex=True)
            self._flags()
        else:  # `e` runs a command; the rest is not sed
            raise _UnreadError

    def _label(self) -> None:
        """Read a label; what follows it on its line belongs to it in one sed and not in another."""
        self._take(_LABEL)
        if not _LABEL_END.match(self._script, self._at):
            raise _UnreadError

    def _address(self) -> bool:
        if self._take(_ADDRESS):
            return True
        char = self._peek()
        if char == "\\":
            self._at += 1
        elif char != "/":
            return False
        self._expression(self._next())
        self._skip("IM")
        return True

    def _pair(self, *, regex: bool) -> None:
        end = self._next()
        if end in "\n\\":
            raise _UnreadError
        (self._expression if regex else self._until)(end)
        self._until(end)

    def _until(self, end: str) -> None:
        while True:
            char = self._next()
            if char == end:
                return
            if char == "\\":
                self._next()
            elif char == "\n":
                raise _UnreadError

    def _expression(self, end: str) -> None:
        """Read a regular expression; its end inside brackets is an end to one sed and not to another."""
        start = self._at
        self._until(end)
        if any(match[1] == "" for match in _BRACKETS.finditer(self._script, start, self._at - 1)):
            raise _UnreadError

    def _flags(self) -> None:
        while self._peek() and self._peek() in "gpiImM0123456789":
            self._at += 1
        if self._peek() == "w":
            self._at += 1
            self._file()
        self._skip(" \t")
        if self._peek() not in ("", ";", "\n", "}", "#"):
            raise _UnreadError  # the flag `e` runs the result

    def _file(self) -> None:
        if self._take(_FILE).lstrip(" \t") not in _STREAMS:
            self.found = CommandClass.WRITE

    def _skip(self, chars: str) -> None:
        while self._peek() and self._peek() in chars:
            self._at += 1

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._script, self._at)
        text = match[0] if match else ""
        self._at += len(text)
        return text

    def _peek(self) -> str:
        return self._script[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._peek()
        if not char:
            raise _UnreadError
        self._at += 1
        return char
