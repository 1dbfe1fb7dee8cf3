"""The lines of one session, in memory alone, and the search in them. Pure."""

from __future__ import annotations

from typing import Final

_KEPT: Final = 1_000


class History:
    """What was entered, oldest first, and a place in it; the draft that was left is the newest place."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._at = 0
        self._draft = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """Oldest first."""
        return tuple(self._lines)

    def add(self, text: str) -> None:
        """One that was entered; the same twice in a row, and one behind a blank, is not kept."""
        if text.strip() and not text.startswith(" ") and text != (self._lines[-1] if self._lines else ""):
            self._lines = [*self._lines, text][-_KEPT:]
        self.leave()

    def leave(self) -> None:
        """Back to the newest place."""
        self._at, self._draft = len(self._lines), ""

    def older(self, text: str) -> str | None:
        """The line before this place, None at the oldest; `text` is kept where it is the draft."""
        return self._go(self._at - 1, text)

    def newer(self, text: str) -> str | None:
        """The line after this place, None at the draft."""
        return self._go(self._at + 1, text)

    def oldest(self, text: str) -> str | None:
        """The first line."""
        return self._go(0, text)

    def newest(self, text: str) -> str | None:
        """The draft."""
        return self._go(len(self._lines), text)

    def find(self, part: str, *, before: int | None = None) -> int | None:
        """The place of the newest line, older than `before`, that holds `part`."""
        top = len(self._lines) if before is None else before
        return next((at for at in range(top - 1, -1, -1) if part in self._lines[at]), None)

    def _go(self, to: int, text: str) -> str | None:
        if to == self._at or not 0 <= to <= len(self._lines):
            return None
        if self._at == len(self._lines):
            self._draft = text
        self._at = to
        return self._draft if to == len(self._lines) else self._lines[to]
