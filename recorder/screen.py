"""The screen of a recording at one moment, without a terminal emulator: what was set, then what was printed last.

Drawn on a fresh terminal this shows what full replay would show, as long as the program drew its screen within the last
64 KiB (formats.md 1.5: the same in 51 of 51 places of a session with vim, less and top). Never a full replay.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from recorder.events import Event, Kind
from recorder.modes import TerminalModes

TAIL_BYTES = 64 * 1024
LOOK_BACK_BYTES = 4 * 1024 * 1024
"""How far back modes are looked for: whatever draws on, sets them anew long before."""
COLUMNS, ROWS = 80, 24
"""Where the recording does not say."""
_SIZE = struct.Struct(">HH")
_DRAWN = frozenset({Kind.OUT, Kind.ERR})


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """`drawing` is raw output of the target: whoever draws it filters it first."""

    columns: int
    rows: int
    drawing: bytes


def screen_of(events: Iterable[Event]) -> Screen:
    """The screen after these events, the last of a recording up to one moment."""
    output, size = bytearray(), (COLUMNS, ROWS)
    for event in events:
        if event.kind in _DRAWN:
            output += event.payload
        elif event.kind == Kind.RESIZE and len(event.payload) == _SIZE.size:
            size = _SIZE.unpack(event.payload)
    drawing = bytes(output[-TAIL_BYTES:])
    if len(output) > TAIL_BYTES:
        modes = TerminalModes()
        modes.feed(bytes(output[:-TAIL_BYTES]))
        drawing = modes.restore() + drawing
    return Screen(columns=size[0], rows=size[1], drawing=drawing)
