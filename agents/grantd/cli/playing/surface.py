"""What is shown of a recording: the screen of its terminal, or the lines of its streams. Rows of cells, and no more."""

from __future__ import annotations

import codecs
import re
import struct
from typing import Final, Protocol

from grantd.cli.drawing import TerminalFilter
from grantd.cli.playing.emulator import Emulator
from grantd.cli.playing.grid import Cell
from grantd.cli.visible import exact, readable
from grantd.v1.session_pb2 import PlayRecordingResponse

OUT: Final = 1
ERR: Final = 2
IN: Final = 3
RESIZE: Final = 4
_NOTED: Final = {5: "exec", 6: "exit", 7: "sftp", 8: "fwd", 9: "mark", 10: "lost"}
_STREAMS: Final = {OUT: ("out", ""), ERR: ("err", "31"), IN: ("in", "36")}
_NOTE_STYLE: Final = "2"
_SIZE: Final = struct.Struct(">HH")
_SEQUENCE: Final = re.compile(r"\x1b(?:\[[\d;:?]*[@-~]|[()][0AB]|[78DEM])|[\x00-\x08\x0b-\x1f]")
_KEPT_LINES: Final = 1000
_MAX_LINE: Final = 4096


class Surface(Protocol):
    """Takes events, shows rows."""

    def feed(self, event: PlayRecordingResponse) -> None: ...

    def rows(self, columns: int, count: int) -> list[list[Cell]]:
        """At most `count` rows of at most `columns` cells."""
        ...

    @property
    def cursor(self) -> tuple[int, int] | None:
        """Column and row from 0, where one is to be seen."""
        ...


class TerminalSurface:
    """The recorded terminal."""

    def __init__(self, columns: int, rows: int, drawing: bytes) -> None:
        self._emulator = Emulator(columns, rows)
        self._emulator.feed(drawing)
        self._skipped = 0

    def feed(self, event: PlayRecordingResponse) -> None:
        if event.kind in (OUT, ERR):
            self._emulator.feed(event.payload)
        elif event.kind == RESIZE and len(event.payload) == _SIZE.size:
            self._emulator.resize(*_SIZE.unpack(event.payload))

    def rows(self, columns: int, count: int) -> list[list[Cell]]:
        """The top left of the screen; where that cuts off the cursor, the rows around it."""
        lines = self._emulator.lines()
        self._skipped = max(0, min(self._emulator.grid.y - count + 1, len(lines) - count))
        return [line[:columns] for line in lines[self._skipped : self._skipped + count]]

    @property
    def cursor(self) -> tuple[int, int] | None:
        grid = self._emulator.grid
        return (grid.x, grid.y - self._skipped) if self._emulator.cursor_shown else None


class LineSurface:
    """The streams of a command as lines with their marks, newest last; every unsafe byte escaped."""

    cursor = None

    def __init__(self) -> None:
        self._lines: list[tuple[str, str, str]] = []
        self._open: dict[tuple[int, int], tuple[codecs.IncrementalDecoder, str]] = {}

    def feed(self, event: PlayRecordingResponse) -> None:
        if event.kind in _STREAMS:
            self._stream(event)
        elif event.kind in _NOTED:
            self._lines.append((_NOTED[event.kind], exact(event.payload)[:_MAX_LINE], _NOTE_STYLE))
        del self._lines[:-_KEPT_LINES]

    def _stream(self, event: PlayRecordingResponse) -> None:
        key = (event.channel, event.kind)
        fresh = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        decoder, begun = self._open.get(key, (fresh, ""))
        *whole, rest = (begun + decoder.decode(event.payload)).replace("\r\n", "\n").split("\n")
        label, style = _STREAMS[event.kind]
        if len(rest) > _MAX_LINE:  # a line without end is shown in lines of our own
            whole, rest = [*whole, rest], ""
        self._lines += [(label, readable(piece), style) for line in whole for piece in _pieces(line)]
        self._open[key] = (decoder, rest)

    def rows(self, columns: int, count: int) -> list[list[Cell]]:
        begun = [(*_STREAMS[kind], readable(text)) for (_, kind), (_, text) in self._open.items() if text]
        lines = [*self._lines[-count:], *((label, text, style) for label, style, text in begun)]
        found: list[list[Cell]] = []
        for label, text, style in lines:
            cells = [Cell(char, _NOTE_STYLE) for char in f"{label:>4} "] + [Cell(char, style) for char in text]
            found += [cells[at : at + columns] for at in range(0, len(cells), columns)]
        return found[-count:]


class Words:
    """Finds a word in output as a person would read it, across colours and pieces, in any case."""

    def __init__(self, word: str) -> None:
        self._word = word.casefold()
        self._filter = TerminalFilter()
        self._tail = ""

    def found_in(self, payload: bytes) -> bool:
        """Whether the word ends in this piece of output."""
        text = self._tail + _SEQUENCE.sub("", self._filter.feed(payload)).casefold()
        self._tail = text[-len(self._word) + 1 :] if len(self._word) > 1 else ""
        return self._word in text


def _pieces(line: str) -> list[str]:
    return [line[at : at + _MAX_LINE] for at in range(0, len(line), _MAX_LINE)] or [""]
