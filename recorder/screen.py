"""The screen of a recording at one moment, without a terminal emulator: what was set, then what was printed last.

Drawn on a fresh terminal this shows what full replay would show, as long as the program drew its screen within the last
64 KiB (formats.md 1.5: the same in 51 of 51 places of a session with vim, less and top). Never a full replay.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from recorder.events import Event, Kind

TAIL_BYTES = 64 * 1024
LOOK_BACK_BYTES = 4 * 1024 * 1024
"""How far back modes are looked for: whatever draws on, sets them anew long before."""
COLUMNS, ROWS = 80, 24
"""Where the recording does not say."""
_SIZE = struct.Struct(">HH")
_SETTING = re.compile(rb"\x1b\[\?([\d;]{1,40})([hl])|\x1b\[(\d{0,5}(?:;\d{0,5})?)r|\x1b([()])([0AB])|([\x0e\x0f])")
_MODES = frozenset((b"1", b"7", b"12", b"25", b"47", b"1047", b"1048", b"1049"))
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
        drawing = modes_of(bytes(output[:-TAIL_BYTES])) + drawing
    return Screen(columns=size[0], rows=size[1], drawing=drawing)


def modes_of(output: bytes) -> bytes:
    """The sequences that set a fresh terminal's modes as this output left them."""
    found: dict[bytes, bytes] = {}
    for match in _SETTING.finditer(output):
        numbers, switch, margins, side, *_ = match.groups()
        if numbers is not None:
            for number in _MODES & set(numbers.split(b";")):
                found.pop(number, None)
                found[number] = b"\x1b[?" + number + switch
        else:
            key = b"r" if margins is not None else side or b"shift"
            found.pop(key, None)
            found[key] = match[0]
    return b"".join(found.values())
