"""The events of a recording as what a player shows: text to draw, sizes, marks, the end. Knows no file format.

Every byte of the target passes the terminal filter first, so that an export is as harmless in a stranger's terminal as
playback is in ours (I-27, F38). The exact bytes are in the sealed recording and nowhere else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from recorder.escape import visible
from recorder.events import Event, Kind
from recorder.outline import Command, Commands, document_of, label_of
from recorder.screen import COLUMNS, ROWS
from recorder.terminal import TerminalFilter

_SIZE = struct.Struct(">HH")
_MAX_SIDE = 1000
_DRAWN = frozenset({Kind.OUT, Kind.ERR})
_SAID = frozenset({Kind.SFTP, Kind.FWD})


class Code(Enum):
    """What a frame is, by the letter that asciicast has for it."""

    OUTPUT = "o"
    INPUT = "i"
    RESIZE = "r"
    MARK = "m"
    EXIT = "x"


@dataclass(frozen=True, slots=True)
class Frame:
    """One thing to show at `t_us`. `data`: text, `80x24`, a label, or an exit status."""

    t_us: int
    code: Code
    data: str


class Frames:
    """Turns events into frames as they come. Memory: one filter a stream, and the commands.

    Args:
        asked: as for `Commands`.
        with_input: whether recorded keystrokes are frames too.
    """

    def __init__(self, asked: Mapping[str, str], *, with_input: bool) -> None:
        self._with_input = with_input
        self._filters: dict[tuple[int, int], TerminalFilter] = {}
        self._commands = Commands(asked)

    @property
    def commands(self) -> list[Command]:
        """What was asked for and decided so far."""
        return self._commands.found

    @property
    def held_back(self) -> int:
        """Control sequences that were not passed on."""
        return sum(each.held_back for each in self._filters.values())

    def feed(self, event: Event) -> Iterator[Frame]:
        """What this event shows."""
        self._commands.feed(event)
        if event.kind in _DRAWN or (event.kind == Kind.IN and self._with_input):
            if text := self._filtered(event):
                yield Frame(event.t_us, Code.INPUT if event.kind == Kind.IN else Code.OUTPUT, text)
        elif event.kind == Kind.RESIZE:
            yield from self._resize(event)
        elif event.kind in _SAID:
            yield Frame(event.t_us, Code.OUTPUT, f"{visible(event.payload.decode(errors='surrogateescape'))}\r\n")
        else:
            yield from self._told(event, document_of(event))

    def _filtered(self, event: Event) -> str:
        screen = self._filters.setdefault((event.chan, event.kind), TerminalFilter())
        text = screen.feed(event.payload)
        return (
            text
            if self._commands.terminal or event.kind == Kind.IN
            else text.replace("\r\n", "\n").replace("\n", "\r\n")
        )

    def _resize(self, event: Event) -> Iterator[Frame]:
        if len(event.payload) != _SIZE.size:
            return
        columns, rows = (min(max(side, 1), _MAX_SIDE) for side in _SIZE.unpack(event.payload))
        yield Frame(event.t_us, Code.RESIZE, f"{columns}x{rows}")

    def _told(self, event: Event, document: dict[str, Any]) -> Iterator[Frame]:
        match event.kind:
            case Kind.MARK:
                yield Frame(event.t_us, Code.MARK, label_of(document.get("label", "")))
            case Kind.GAP:
                yield Frame(event.t_us, Code.MARK, label_of(f"recording lost {document.get('bytes', 'some')} bytes"))
            case Kind.EXIT:
                yield from self._exit(event.t_us, document)
            case _:
                pass  # nothing that a screen could show

    def _exit(self, t_us: int, document: dict[str, Any]) -> Iterator[Frame]:
        status = document.get("status")
        if type(status) is int:
            yield Frame(t_us, Code.EXIT, str(status))
        else:
            ending = document.get("signal") or document.get("reason") or "unknown"
            yield Frame(t_us, Code.MARK, label_of(f"ended: {ending}"))


def opening_size(frames: Iterable[Frame]) -> tuple[str, Iterator[Frame]]:
    """The size before anything is drawn, and all frames again. Holds back only what comes before the first output."""
    source, held = iter(frames), list[Frame]()
    for frame in source:
        if frame.code is Code.RESIZE:
            return frame.data, _chained(held, source)
        held.append(frame)
        if frame.code is Code.OUTPUT:
            break
    return f"{COLUMNS}x{ROWS}", _chained(held, source)


def _chained(held: list[Frame], rest: Iterator[Frame]) -> Iterator[Frame]:
    yield from held
    yield from rest
