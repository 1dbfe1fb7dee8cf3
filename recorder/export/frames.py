"""The events of a recording as what a player shows: text to draw, sizes, marks, the end. Knows no file format.

Every byte of the target passes the terminal filter first, so that an export is as harmless in a stranger's terminal as
playback is in ours (I-27, F38). The exact bytes are in the sealed recording and nowhere else.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from recorder.escape import visible
from recorder.events import Event, Kind
from recorder.terminal import TerminalFilter

COLUMNS, ROWS = 80, 24
"""Where the recording does not say."""
_SIZE = struct.Struct(">HH")
_MAX_SIDE = 1000
_DRAWN = frozenset({Kind.OUT, Kind.ERR})
_SAID = frozenset({Kind.SFTP, Kind.FWD})
_MAX_LABEL = 500  # characters


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


@dataclass(frozen=True, slots=True)
class Command:
    """One line of the list beside the screen: what was asked for and what was decided, both made visible."""

    t_us: int
    text: str
    verdict: str


class Frames:
    """Turns events into frames as they come. Memory: one filter a stream, and the commands.

    Args:
        with_input: whether recorded keystrokes are frames too.
    """

    def __init__(self, *, with_input: bool) -> None:
        self._with_input = with_input
        self._filters: dict[tuple[int, int], TerminalFilter] = {}
        self._terminal = False
        self.commands: list[Command] = []
        self.end_us = 0

    @property
    def held_back(self) -> int:
        """Control sequences that were not passed on."""
        return sum(each.held_back for each in self._filters.values())

    def feed(self, event: Event) -> Iterator[Frame]:
        """What this event shows."""
        self.end_us = event.t_us
        if event.kind in _DRAWN or (event.kind == Kind.IN and self._with_input):
            if text := self._filtered(event):
                yield Frame(event.t_us, Code.INPUT if event.kind == Kind.IN else Code.OUTPUT, text)
        elif event.kind == Kind.RESIZE:
            yield from self._resize(event)
        elif event.kind in _SAID:
            yield Frame(event.t_us, Code.OUTPUT, f"{_label(event.payload.decode(errors='surrogateescape'))}\r\n")
        else:
            yield from self._told(event, _document(event.payload))

    def _filtered(self, event: Event) -> str:
        screen = self._filters.setdefault((event.chan, event.kind), TerminalFilter())
        text = screen.feed(event.payload)
        return text if self._terminal or event.kind == Kind.IN else text.replace("\r\n", "\n").replace("\n", "\r\n")

    def _resize(self, event: Event) -> Iterator[Frame]:
        if len(event.payload) != _SIZE.size:
            return
        self._terminal = True  # only terminals have a size
        columns, rows = (min(max(side, 1), _MAX_SIDE) for side in _SIZE.unpack(event.payload))
        yield Frame(event.t_us, Code.RESIZE, f"{columns}x{rows}")

    def _told(self, event: Event, document: dict[str, Any]) -> Iterator[Frame]:
        match event.kind:
            case Kind.EXEC:
                self._terminal = self._terminal or document.get("pty") is True
                if text := _label(document.get("argv") or document.get("subsystem") or ""):
                    self.commands.append(Command(event.t_us, text, ""))
            case Kind.MARK:
                label = _label(document.get("label", ""))
                self._decided(event.t_us, label)
                yield Frame(event.t_us, Code.MARK, label)
            case Kind.GAP:
                yield Frame(event.t_us, Code.MARK, _label(f"recording lost {document.get('bytes', 'some')} bytes"))
            case Kind.EXIT:
                yield from self._exit(event.t_us, document)
            case _:
                pass  # nothing that a screen could show

    def _decided(self, t_us: int, label: str) -> None:
        """The verdict belongs to the command that was just asked for; a mark without one stands for itself."""
        if self.commands and not self.commands[-1].verdict:
            last = self.commands.pop()
            self.commands.append(Command(last.t_us, last.text, label))
        else:
            self.commands.append(Command(t_us, "", label))

    def _exit(self, t_us: int, document: dict[str, Any]) -> Iterator[Frame]:
        status = document.get("status")
        if type(status) is int:
            yield Frame(t_us, Code.EXIT, str(status))
        else:
            ending = document.get("signal") or document.get("reason") or "unknown"
            yield Frame(t_us, Code.MARK, _label(f"ended: {ending}"))


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


def _document(payload: bytes) -> dict[str, Any]:
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _label(value: object) -> str:
    return visible(str(value)[:_MAX_LABEL])
