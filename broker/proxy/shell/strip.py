"""One row of the gateway's own that is written over, such as what is waited for. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from broker.proxy.shell.canvas import Canvas, laid_out
from broker.proxy.shell.cells import Styled, cells_of


class Strip:
    """As console.Desk: what others say stands above it, also in a window that was made smaller meanwhile."""

    def __init__(self, canvas: Canvas) -> None:
        self._canvas = canvas
        self._pieces: Sequence[Styled] = ()

    @property
    def columns(self) -> int:
        """Of the terminal."""
        return self._canvas.columns

    def show(self, pieces: Sequence[Styled]) -> bytes:
        """This instead of what it showed."""
        self._pieces = pieces
        row = [cell for piece in pieces for cell in cells_of(piece.text, piece.style)]
        return self._canvas.draw(laid_out([row], at=(0, len(row)), columns=self._canvas.columns))

    def notice(self, text: bytes) -> bytes:
        """As console.Desk."""
        return self._canvas.erase() + text + self.show(self._pieces)

    def resize(self, *, columns: int, lines: int) -> bytes:
        """The terminal's new size."""
        return self._canvas.resize(columns=columns, lines=lines) + self.show(self._pieces)

    def leave(self) -> bytes:
        """Takes it away; the cursor is where it was before there was one."""
        self._pieces = ()
        return self._canvas.erase()
