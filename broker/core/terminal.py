"""A terminal as an SSH client asks for one (RFC 4254, sections 6.2, 6.7, 6.9 and 8), and what it says of it later.

Values only, bounded: whatever a client sends becomes one of these or is refused. What is typed is no part of it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from broker.core.errors import invalid

MAX_CELLS: Final = 1_000
"""Columns or rows: wider than any screen, and no program draws itself to death."""
MAX_MODES_BYTES: Final = 1_024
INTERRUPT: Final = 3
"""The byte of Ctrl-C."""
_END, _INTERRUPT_MODE, _SIGNALS_MODE = 0, 1, 50
_OFF: Final = 0xFF
"""A special character that is switched off."""
_PAIR: Final = struct.Struct(">BI")
# the modes of RFC 4254 section 8 and IUTF8 of RFC 8160: characters, flags, speeds
_MODES: Final = frozenset({*range(1, 19), *range(30, 43), *range(50, 63), *range(70, 76), *range(90, 94), 128, 129})


class Signal(StrEnum):
    """What a client may send a command. Those that leave a core file are not here: a read writes none."""

    HUP = "HUP"
    INT = "INT"
    KILL = "KILL"
    TERM = "TERM"
    USR1 = "USR1"
    USR2 = "USR2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of a screen, in characters."""

    columns: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """What a pty is made with. Its type is an environment variable (TERM), and in the digest as one."""

    size: Size = field(default_factory=lambda: Size(columns=80, rows=24))
    modes: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def interrupt(self) -> bytes:
        """What its owner types to interrupt a command; empty where the terminal has no such character."""
        byte = self.modes.get(_INTERRUPT_MODE, INTERRUPT)
        return bytes([byte]) if byte < _OFF else b""

    def without_keyboard(self) -> Terminal:
        """The same, where nothing typed is passed on: Ctrl-C is Ctrl-C, and interrupts."""
        return replace(self, modes=MappingProxyType({**self.modes, _INTERRUPT_MODE: INTERRUPT, _SIGNALS_MODE: 1}))

    def encoded_modes(self) -> bytes:
        """As a pty request carries them."""
        return b"".join(_PAIR.pack(*mode) for mode in sorted(self.modes.items())) + bytes([_END])


def checked_size(columns: int, rows: int) -> Size:
    """A size within bounds; a client that does not know its own (0) gets the usual one."""
    return Size(columns=min(columns or 80, MAX_CELLS), rows=min(rows or 24, MAX_CELLS))


def read_modes(encoded: bytes) -> Mapping[int, int]:
    """The modes that the standard knows; others are dropped.

    Raises:
        Refusal: `bad_terminal`: too long, or cut off.
    """
    modes: dict[int, int] = {}
    offset = 0
    while offset < len(encoded) <= MAX_MODES_BYTES:
        if encoded[offset] == _END:
            return MappingProxyType(modes)
        if offset + _PAIR.size > len(encoded):
            break
        mode, value = _PAIR.unpack_from(encoded, offset)
        if mode in _MODES:
            modes[mode] = value
        offset += _PAIR.size
    if offset == len(encoded):  # OpenSSH ends the list, others just stop
        return MappingProxyType(modes)
    raise invalid("bad_terminal", "the terminal's modes are not a list of modes", "ask for a terminal without modes")
