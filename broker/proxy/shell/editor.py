"""The line editor: keys in, drawn bytes and entered lines out. Pure: no clock, no input, no output of its own.

Only Enter typed alone, or at the end of what was typed, runs a line: a pasted line end is text, also where the terminal
knows no bracketed paste and sends several lines at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from broker.proxy.shell.canvas import Canvas, Picture, laid_out
from broker.proxy.shell.cells import Cell, Styled, cells_of
from broker.proxy.shell.history import History
from broker.proxy.shell.keys import Key, Keyboard, Pasted, Stroke, Typed
from broker.proxy.shell.line import KillRing, Line

BELL: Final = b"\a"
PASTE_ON, PASTE_OFF = b"\x1b[?2004h", b"\x1b[?2004l"
MAX_AHEAD: Final = 4 * 1024
_MORE: Final = Styled(text="> ", style="2")
_SEVERAL_LINES: Final = re.compile(rb"[\r\n][^\x00-\x1f\x7f]")
"""A line end with text behind it in one piece: nobody types so."""


@dataclass(frozen=True, slots=True)
class Entered:
    """A line to run. The cursor stands on a row of its own below it."""

    text: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Ctrl-C: the line is given up."""


@dataclass(frozen=True, slots=True)
class Left:
    """Ctrl-D on an empty line."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Tab: what could go on here?"""

    text: str
    cursor: int


Asked = Entered | Interrupted | Left | Wanted


class Editor:
    """One session's editor.

    Args:
        canvas: what it draws on.
        hint: what stands behind a text while it is typed; empty for nothing.
        unfinished: whether Enter begins another row instead of running it.
        pastes: whether the terminal may be asked to say what is pasted.
    """

    def __init__(
        self, canvas: Canvas, *, hint: Callable[[str], Styled], unfinished: Callable[[str], bool], pastes: bool = True
    ) -> None:
        self.history = History()
        self._hint, self._unfinished = hint, unfinished
        self._canvas = canvas
        self._paste_on, self._paste_off = (PASTE_ON, PASTE_OFF) if pastes else (b"", b"")
        self._kills = KillRing()
        self._keyboard = Keyboard()
        self._line = Line(self._kills)
        self._prompt: Sequence[Styled] = ()
        self._search: _Search | None = None
        self._open = False
        self._out = bytearray()

    @property
    def text(self) -> str:
        """What stands in the line."""
        return self._line.text

    @property
    def cursor(self) -> int:
        """Where the cursor stands in it."""
        return self._line.cursor

    @property
    def is_open(self) -> bool:
        """Whether a line is being typed."""
        return self._open

    @property
    def columns(self) -> int:
        """Of the terminal."""
        return self._canvas.columns

    @property
    def lines(self) -> int:
        """Of the terminal."""
        return self._canvas.lines

    # ---- what its session tells --------------------------------------------------------------------------------------
    def begin(self, prompt: Sequence[Styled], *, ahead: bytes = b"") -> bytes:
        """A new line; `ahead` was typed before there was a prompt: it is put in as text and runs nothing."""
        self._line, self._search, self._prompt, self._open = Line(self._kills), None, prompt, True
        self._keyboard = Keyboard()
        self._canvas.forget()
        self.history.leave()
        if text := _as_text(ahead):
            self._line.insert(text)
        self._out += self._paste_on
        self._draw()
        return self._taken()

    def feed(self, data: bytes, *, more: bool = False) -> tuple[bytes, Sequence[Asked]]:
        """What to send to the terminal, and what the person asked for. Nothing is taken while no line is open.

        `more`: the next piece is there already, so that this one need not be shown.
        """
        asked: list[Asked] = []
        if not self._open:
            return b"", asked
        strokes = list(self._keyboard.feed(data))
        several = _SEVERAL_LINES.search(data) is not None or any(isinstance(stroke, Pasted) for stroke in strokes)
        for stroke in strokes:
            if several and stroke is Key.ENTER and not self._search:
                self._insert("\n")
                continue
            if (answer := self._obey(stroke)) is not None:
                asked.append(answer)
                if not isinstance(answer, Wanted):  # the line is closed
                    return self._taken(), asked
        if not more or asked:
            self._draw()
        return self._taken(), asked

    def rested(self) -> bytes:
        """The hand rests: now the hint is of use. Half a word would have one that says nothing."""
        if self._open:
            self._draw(hint=self._hint(self._line.text))
        return self._taken()

    def notice(self, text: bytes, prompt: Sequence[Styled] = ()) -> bytes:
        """Whole rows of the gateway's own, put above the line; `prompt`: as it is by now."""
        if not self._open:
            return text
        self._prompt = prompt or self._prompt
        self._out += self._canvas.erase() + text
        self._draw()
        return self._taken()

    def complete(self, start: int, end: int, text: str) -> bytes:
        """Puts a completion in place of a stretch."""
        self._line.replace(start, end, text)
        self._draw()
        return self._taken()

    def bell(self) -> bytes:
        """Nothing to do."""
        return BELL

    def resize(self, *, columns: int, lines: int, prompt: Sequence[Styled] = ()) -> bytes:
        """The terminal's new size, and the prompt that fits it."""
        taken = self._canvas.resize(columns=columns, lines=lines)
        if self._open:
            self._prompt = prompt or self._prompt
            self._out += taken
            self._draw()
        return self._taken()

    def close(self) -> bytes:
        """Leaves the line as it stands; nothing is taken until the next one begins."""
        if not self._open:
            return b""
        self._draw()
        return self._left_behind()

    # ---- strokes -----------------------------------------------------------------------------------------------------
    def _obey(self, stroke: Stroke) -> Asked | None:
        if self._search is not None and not self._searched(stroke):
            return None
        match stroke:
            case Typed(text):
                self._insert(text)
            case Pasted(pasted) if pasted is not None:
                self._insert(pasted.rstrip("\n"))
            case Pasted():
                self._out += BELL
            case Key.ENTER:
                return self._enter()
            case Key.INTERRUPT:
                return self._interrupt()
            case Key.END_OR_DELETE if not self._line.text:
                self._draw()
                self._out += self._left_behind()
                return Left()
            case Key.TAB:
                return Wanted(self._line.text, self._line.cursor)
            case Key():
                self._key(stroke)
        return None

    def _key(self, key: Key) -> None:
        match key:
            case Key.UP:
                self._up()
            case Key.DOWN:
                self._down()
            case Key.FIRST:
                self._recall(self.history.oldest(self._line.text))
            case Key.LAST:
                self._recall(self.history.newest(self._line.text))
            case Key.NEWLINE:
                self._insert("\n")
            case Key.YANK if not self._line.yank():
                self._out += BELL
            case Key.CLEAR:
                self._out += self._canvas.clear()
            case Key.SEARCH:
                self._search = _Search(part="", at=None, before=self._line.text)
            case _:
                _EDITS.get(key, _nothing)(self._line)

    def _insert(self, text: str) -> None:
        if text and not self._line.insert(text):
            self._out += BELL

    def _enter(self) -> Asked | None:
        text = self._line.text
        if text.strip() and self._unfinished(text):
            self._line.move(len(text))
            self._insert("\n")
            return None
        self._line.move(len(text))
        self._draw()
        self._out += self._left_behind()
        self.history.add(text)
        return Entered(text)

    def _interrupt(self) -> Asked:
        self._line.move(len(self._line.text))
        self._draw(behind=Styled(text="^C"))
        self._out += self._left_behind()
        return Interrupted()

    def _left_behind(self) -> bytes:
        self._open = False
        self._out += self._canvas.leave() + self._paste_off
        return self._taken()

    def _recall(self, found: str | None) -> None:
        if found is None:
            self._out += BELL
        else:
            self._line.set(found)

    def _up(self) -> None:
        above = self._line.row_above()
        if above is None:
            self._recall(self.history.older(self._line.text))
        else:
            self._line.move(above)

    def _down(self) -> None:
        below = self._line.row_below()
        if below is None:
            self._recall(self.history.newer(self._line.text))
        else:
            self._line.move(below)

    # ---- the search --------------------------------------------------------------------------------------------------
    def _searched(self, stroke: Stroke) -> bool:
        """Whether the stroke is also the line's: it ends the search, and what was found stays."""
        search = self._search
        if search is None:
            return True
        match stroke:
            case Typed(text):
                self._find(search, search.part + text, older=False)
            case Key.SEARCH:
                self._find(search, search.part, older=True)
            case Key.BACKSPACE:
                self._find(search, search.part[:-1], older=False)
            case Key.ABORT | Key.INTERRUPT:
                self._line.set(search.before)
                self._search = None
            case _:
                self._search = None
                return True
        return False

    def _find(self, search: _Search, part: str, *, older: bool) -> None:
        at = self.history.find(part, before=search.at if older else None) if part else None
        if at is None:
            self._out += BELL if part else b""
            self._search = _Search(part=part, at=search.at, before=search.before)
            return
        self._search = _Search(part=part, at=at, before=search.before)
        found = self.history.lines[at]
        self._line.set(found, found.index(part))

    # ---- drawing -----------------------------------------------------------------------------------------------------
    def _draw(self, *, hint: Styled | None = None, behind: Styled | None = None) -> None:
        """`hint`: some blanks behind the text. `behind`: right behind it."""
        self._out += self._canvas.draw(self._picture(hint or behind or Styled(text=""), gap=hint is not None))

    def _picture(self, hint: Styled, *, gap: bool) -> Picture:
        before = self._line.text[: self._line.cursor]
        rows = [list(cells_of(text)) for text in self._line.text.split("\n")]
        at_row = before.count("\n")
        at = len(list(cells_of(before.rpartition("\n")[2])))
        heads = [_cells(self._head()), *([*cells_of(_MORE.text, _MORE.style)] for _ in rows[1:])]
        whole = [head + row for head, row in zip(heads, rows, strict=True)]
        column = len(heads[at_row]) + at
        if hint.text:
            whole[-1] += self._behind(whole[-1], hint, gap=gap)
        return laid_out(whole, at=(at_row, column), columns=self._canvas.columns)

    def _head(self) -> Sequence[Styled]:
        if self._search is None:
            return self._prompt
        return (Styled(text="search "), Styled(text=self._search.part, style="1"), Styled(text=": "))

    def _behind(self, row: Sequence[Cell], hint: Styled, *, gap: bool) -> list[Cell]:
        """The hint where it fits into the row; a half one would say something else."""
        cells = [*cells_of("  " if gap else ""), *cells_of(hint.text, hint.style)]
        used = sum(cell.width for cell in row) % self._canvas.columns
        room = self._canvas.columns - used - 1
        return cells if sum(cell.width for cell in cells) <= room else []

    def _taken(self) -> bytes:
        out = bytes(self._out)
        self._out.clear()
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    part: str
    at: int | None
    before: str


def _cells(pieces: Sequence[Styled]) -> list[Cell]:
    return [cell for piece in pieces for cell in cells_of(piece.text, piece.style)]


def _nothing(_line: Line) -> None:
    """A key that means nothing here."""


def _as_text(ahead: bytes) -> str:
    """What was typed with no prompt to type at, as one text: line ends are part of it, other keys are dropped."""
    text = ""
    for stroke in Keyboard().feed(ahead[:MAX_AHEAD]):
        match stroke:
            case Typed(more) | Pasted(str(more)):
                text += more
            case Key.ENTER | Key.NEWLINE:
                text += "\n"
            case Key.BACKSPACE:
                text = text[:-1]
            case Key.INTERRUPT:
                text = ""
            case _:
                pass
    return text.strip("\n ")


_EDITS: Final[Mapping[Key, Callable[[Line], object]]] = MappingProxyType(
    {
        Key.BACKSPACE: lambda line: line.delete(line.left(), line.cursor),
        Key.DELETE: lambda line: line.delete(line.cursor, line.right()),
        Key.END_OR_DELETE: lambda line: line.delete(line.cursor, line.right()),
        Key.LEFT: lambda line: line.move(line.left()),
        Key.RIGHT: lambda line: line.move(line.right()),
        Key.HOME: lambda line: line.move(line.row_start()),
        Key.END: lambda line: line.move(line.row_end()),
        Key.WORD_LEFT: lambda line: line.move(line.word_left()),
        Key.WORD_RIGHT: lambda line: line.move(line.word_right()),
        Key.KILL_TO_END: lambda line: line.kill(line.cursor, line.row_end()),
        Key.KILL_TO_START: lambda line: line.kill(line.row_start(), line.cursor),
        Key.KILL_BLANK_WORD: lambda line: line.kill(line.blank_word_left(), line.cursor),
        Key.KILL_WORD_LEFT: lambda line: line.kill(line.word_left(), line.cursor),
        Key.KILL_WORD_RIGHT: lambda line: line.kill(line.cursor, line.word_right()),
        Key.YANK_OLDER: Line.yank_older,
        Key.TRANSPOSE: Line.transpose,
        Key.UNDO: Line.undo,
    }
)
