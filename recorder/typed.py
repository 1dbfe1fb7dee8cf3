"""What of a command's input is kept (formats.md 1.4). Pure: bytes in, events out; knows no clock and no file.

Passwords are typed where nothing is echoed, and no message of SSH says so. So nothing typed is kept by default: the
output shows what was echoed. Of a piped stdin its length and an HMAC are kept, under a key of the recording, since a
bare hash of something short can be guessed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final, Protocol

from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from recorder.events import Kind

_LABEL: Final = b"grantd/rec/v1/stdin\0"
LINE: Final = b"\x01"
"""HIDDEN: something printable was typed; never how much."""
PASTE: Final = b"\x02"
KEY: Final = b"\x03"
"""HIDDEN: a key, by the name that follows."""
_NAMES: Final = {
    b"\r": "ENTER", b"\n": "ENTER", b"\t": "TAB", b"\x7f": "BACKSPACE", b"\x08": "BACKSPACE", b"\x1b": "ESC",
    **{bytes([number]): f"^{chr(number + 64)}" for number in range(1, 27) if number not in (8, 9, 10, 13)},
    b"\x00": "^@", b"\x1c": "^\\", b"\x1d": "^]", b"\x1e": "^^", b"\x1f": "^_",
}  # fmt: skip
_MOVES: Final = {b"A": "UP", b"B": "DOWN", b"C": "RIGHT", b"D": "LEFT", b"H": "HOME", b"F": "END", b"Z": "BACKTAB"}
_SEQUENCE: Final = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[@-~])")
_BEGUN: Final = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")
_PASTED: Final = (b"\x1b[200~", b"\x1b[201~")
_MAX_BEGUN: Final = 64
_NO_HAND: Final = 1_024
"""Bytes at once that no hand types, not even one that holds a key down: a paste, whatever it says of itself. Read key
by key, a client that sends nothing but Ctrl-C would have the broker's loop to itself."""
_MAX_LINE: Final = 4_096
"""Bytes of a line that may yet be kept; a longer one is hidden."""
_MAX_APART: Final = 64
"""Bytes of output that may stand between two echoed ones: a redraw, a colour."""
_PROMPT: Final = re.compile(
    r"(?:pass(?:word|wort|phrase|code)?|kennwort|mot de passe|contrase\u00f1a|senha|parola|\u5bc6\u7801|\u5bc6\u78bc"
    r"|\u30d1\u30b9\u30ef\u30fc\u30c9|\u043f\u0430\u0440\u043e\u043b\u044c|secret|token|pin|otp|verification)[^\n]*$",
    re.IGNORECASE,
)
_SAID: Final = 512
"""Bytes of output that are looked through for a prompt."""


class InputPolicy(StrEnum):
    OFF = "off"
    """Names of control keys, and that something was typed."""
    ECHOED = "echoed"
    """Lines too that came back in the output, key by key."""
    ALL = "all"
    """Everything, passwords too."""


Piece = tuple[Kind, bytes]


class Input(Protocol):
    """One command's input on its way to the recording."""

    def typed(self, data: bytes) -> Sequence[Piece]:
        """What of these bytes is kept now."""
        ...

    def shown(self, data: bytes) -> Sequence[Piece]:
        """What is kept now that the command wrote these bytes."""
        ...

    def end(self) -> Sequence[Piece]:
        """What is kept at the end."""
        ...


def stdin_key(dek: bytes | bytearray, salt: bytes) -> bytes:
    """The key of a recording's HMACs over stdin: 32 bytes that are good for nothing else."""
    return HKDFExpand(algorithm=SHA512(), length=32, info=_LABEL + salt).derive(bytes(dek))


def input_of(policy: InputPolicy, *, terminal: bool, key: bytes) -> Input:
    """What keeps the input of a command, in a terminal or from a pipe."""
    if policy is InputPolicy.ALL:
        return _Whole(key)
    if not terminal:
        return _Counted(key)
    return _Echoed() if policy is InputPolicy.ECHOED else _Keys()


class _Counted:
    """A pipe: how much, and an HMAC of it."""

    def __init__(self, key: bytes) -> None:
        self._hmac, self._size = hmac.new(key, digestmod=hashlib.sha256), 0

    def typed(self, data: bytes) -> Sequence[Piece]:
        self._hmac.update(data)
        self._size += len(data)
        return ()

    def shown(self, data: bytes) -> Sequence[Piece]:
        del data
        return ()

    def end(self) -> Sequence[Piece]:
        told = {"type": "eof", "stream": "in", "bytes": self._size, "hmac_sha256": self._hmac.hexdigest()}
        return ((Kind.CHAN, json.dumps(told).encode()),)


class _Whole(_Counted):
    """All of it."""

    def typed(self, data: bytes) -> Sequence[Piece]:
        super().typed(data)
        return ((Kind.IN, data),)


class _Keys:
    """A keyboard: control keys by name; of everything else that it was there, once a line."""

    def __init__(self) -> None:
        self._begun = b""
        self._pasting = False

    def typed(self, data: bytes) -> Sequence[Piece]:
        if len(data) > _NO_HAND:
            return self._pasted_at_once(data)
        return tuple(self._read(self._begun + data))

    def _pasted_at_once(self, data: bytes) -> Sequence[Piece]:
        """One event, and the state as it is behind it."""
        self._begun = b""
        begin, end = (data.rfind(mark) for mark in _PASTED)
        told = () if self._pasting else ((Kind.HIDDEN, PASTE),)
        if begin != end:
            self._pasting = begin > end
        self._wrote = True
        return told

    def shown(self, data: bytes) -> Sequence[Piece]:
        del data
        return ()

    def end(self) -> Sequence[Piece]:
        return ()

    def _read(self, data: bytes) -> Iterator[Piece]:
        self._begun, at = b"", 0
        while at < len(data):
            sequence = _SEQUENCE.match(data, at)
            if sequence is None and _BEGUN.match(data, at) and len(data) - at < _MAX_BEGUN:
                self._begun = data[at:]
                return
            token = sequence[0] if sequence is not None else data[at : at + 1]
            at += len(token)
            yield from self._pasted(token) if token in _PASTED or self._pasting else self.key(token)

    def _pasted(self, token: bytes) -> Iterator[Piece]:
        if token == _PASTED[0]:
            self._pasting = True
            yield Kind.HIDDEN, PASTE
        elif token == _PASTED[1]:
            self._pasting = False

    def key(self, token: bytes) -> Iterator[Piece]:
        """What is kept of one key."""
        name = _name(token)
        if name == "ENTER":
            yield from self.line()
        if name:
            yield Kind.HIDDEN, KEY + name.encode()
        else:
            self.printable(token)

    def printable(self, token: bytes) -> None:
        """A key that writes something."""
        self._wrote = True

    _wrote = False

    def line(self) -> Iterator[Piece]:
        """A line was ended."""
        if self._wrote:
            self._wrote = False
            yield Kind.HIDDEN, LINE


class _Echoed(_Keys):
    """A keyboard, and the lines that came back.

    A line is held until Enter and until the output goes on to the next one. It is kept where every byte of it came
    back, in order and close together, and nothing that asks for a secret stood before it. A short secret can coincide
    with other output: that is why this is not the default.
    """

    def __init__(self) -> None:
        super().__init__()
        self._line, self._echo = b"", b""
        self._asked = self._spoilt = False
        self._waiting: list[bytes] = []
        self._said = b""

    def printable(self, token: bytes) -> None:
        super().printable(token)
        if not self._line:
            self._asked = _asks(self._said)
            self._echo = b""
        if len(self._line) <= _MAX_LINE:  # what goes on behind too long a line is kept nowhere
            self._line += token
        self._spoilt |= len(self._line) > _MAX_LINE

    def _pasted(self, token: bytes) -> Iterator[Piece]:
        self._spoilt = True
        yield from super()._pasted(token)

    def key(self, token: bytes) -> Iterator[Piece]:
        if _name(token) not in ("", "ENTER"):
            self._spoilt = True  # the line was edited: what came back is not what it is
        yield from super().key(token)

    def _pasted_at_once(self, data: bytes) -> Sequence[Piece]:
        self._spoilt = True  # a line that began in it is hidden
        self._line = b""
        return super()._pasted_at_once(data)

    def line(self) -> Iterator[Piece]:
        """Held until its echo is there."""
        line, spoilt, asked = self._line, self._spoilt or bool(self._waiting), self._asked
        self._line, self._spoilt, self._asked = b"", False, False
        if not self._wrote:
            return
        self._wrote = False
        if spoilt or asked or not line:
            yield Kind.HIDDEN, LINE
        elif _came_back(line, self._echo):
            yield Kind.IN, line + b"\r"
        else:
            self._waiting = [line]

    def shown(self, data: bytes) -> Sequence[Piece]:
        self._said = (self._said + data)[-_SAID:]
        self._echo = (self._echo + data)[-(_MAX_LINE * 4) :]
        if not self._waiting:
            return ()
        (line,) = self._waiting
        if _came_back(line, self._echo):
            self._waiting = []
            return ((Kind.IN, line + b"\r"),)
        if b"\n" in data:
            self._waiting = []
            return ((Kind.HIDDEN, LINE),)
        return ()

    def end(self) -> Sequence[Piece]:
        return ((Kind.HIDDEN, LINE),) if self._waiting or self._line else ()


def _name(token: bytes) -> str:
    """Of a control key; empty for one that writes something. A sequence that nobody named is one too."""
    if len(token) == 1:
        return _NAMES.get(token, "")
    return _MOVES.get(token[-1:], "SEQUENCE")


def _asks(said: bytes) -> bool:
    last = said.decode("utf-8", "replace").rpartition("\n")[2]
    return _PROMPT.search(last) is not None


def _came_back(line: bytes, echo: bytes) -> bool:
    """Whether every byte of a line stands in the output, in order, none far from the last."""
    at = -1
    for byte in line:
        found = echo.find(bytes([byte]), at + 1, None if at < 0 else at + 2 + _MAX_APART)
        if found < 0:
            return False
        at = found
    return True
