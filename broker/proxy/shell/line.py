"""The text of one line and the cursor in it: moving, changing, killing, yanking, undoing. Pure; draws nothing."""

from __future__ import annotations

from collections import deque
from itertools import accumulate
from typing import Final

from broker.proxy.shell.cells import clusters

MAX_LINE_BYTES: Final = 4 * 1024
"""What is longer belongs into a file: it is drawn anew with each key, on the loop that everybody shares."""
_KILLS: Final = 16
_UNDOS: Final = 100


class KillRing:
    """What was killed, newest last; kills in a row are one."""

    def __init__(self) -> None:
        self._kept: deque[str] = deque(maxlen=_KILLS)

    def push(self, text: str) -> None:
        """A kill of its own."""
        self._kept.append(text)

    def join(self, text: str, *, before: bool) -> None:
        """A kill that goes on with the last one."""
        last = self._kept.pop() if self._kept else ""
        self._kept.append(text + last if before else last + text)

    def newest(self) -> str:
        """What a yank puts in; empty where nothing was killed."""
        return self._kept[-1] if self._kept else ""

    def older(self) -> str:
        """The one before, which is the newest from now on."""
        self._kept.rotate(1)
        return self.newest()


class Line:
    """A text of at most MAX_LINE_BYTES with a cursor between its clusters."""

    def __init__(self, kills: KillRing) -> None:
        self.text, self.cursor = "", 0
        self._kills = kills
        self._killing = False
        self._yanked = 0
        """How long the yank is that ends at the cursor; 0 where the last change was none."""
        self._undo: deque[tuple[str, int]] = deque(maxlen=_UNDOS)

    def set(self, text: str, cursor: int | None = None) -> None:
        """Replaces everything; the cursor goes to the end where none is given."""
        self._remember()
        self.text, self.cursor = text, len(text) if cursor is None else cursor

    def insert(self, text: str) -> bool:
        """Puts text in at the cursor; False, and nothing changed, where it would get too long."""
        if len((self.text + text).encode("utf-8", "surrogateescape")) > MAX_LINE_BYTES:
            return False
        self._remember()
        self._replace(self.cursor, self.cursor, text)
        return True

    def replace(self, start: int, end: int, text: str) -> None:
        """Puts text in place of a stretch; the cursor goes behind it."""
        self._remember()
        self._replace(start, end, text)

    # ---- moving ------------------------------------------------------------------------------------------------------
    def move(self, to: int) -> None:
        """Puts the cursor to an offset."""
        self._settle()
        self.cursor = max(0, min(to, len(self.text)))

    def left(self) -> int:
        """The offset one cluster to the left."""
        return max((edge for edge in self._edges() if edge < self.cursor), default=0)

    def right(self) -> int:
        """The offset one cluster to the right."""
        return min((edge for edge in self._edges() if edge > self.cursor), default=len(self.text))

    def word_left(self) -> int:
        """The start of the word before the cursor; letters and digits make words."""
        at = self.cursor
        while at > 0 and not self.text[at - 1].isalnum():
            at -= 1
        while at > 0 and self.text[at - 1].isalnum():
            at -= 1
        return at

    def word_right(self) -> int:
        """The end of the word after the cursor."""
        at, end = self.cursor, len(self.text)
        while at < end and not self.text[at].isalnum():
            at += 1
        while at < end and self.text[at].isalnum():
            at += 1
        return at

    def blank_word_left(self) -> int:
        """The start of what stands before the cursor up to a blank."""
        at = self.cursor
        while at > 0 and self.text[at - 1].isspace():
            at -= 1
        while at > 0 and not self.text[at - 1].isspace():
            at -= 1
        return at

    def row_start(self) -> int:
        """The start of the cursor's row in a text of several."""
        return self.text.rfind("\n", 0, self.cursor) + 1

    def row_end(self) -> int:
        """The end of the cursor's row."""
        found = self.text.find("\n", self.cursor)
        return len(self.text) if found < 0 else found

    def row_above(self) -> int | None:
        """The same place in the row above; None in the first row."""
        start = self.row_start()
        if start == 0:
            return None
        above = self.text.rfind("\n", 0, start - 1) + 1
        return min(above + self.cursor - start, start - 1)

    def row_below(self) -> int | None:
        """The same place in the row below; None in the last row."""
        end = self.row_end()
        if end == len(self.text):
            return None
        following = self.text.find("\n", end + 1)
        last = len(self.text) if following < 0 else following
        return min(end + 1 + self.cursor - self.row_start(), last)

    # ---- changing ----------------------------------------------------------------------------------------------------
    def delete(self, start: int, end: int) -> None:
        """Takes a stretch out for good."""
        if start != end:
            self.replace(start, end, "")

    def kill(self, start: int, end: int) -> None:
        """Takes a stretch out and keeps it for a yank."""
        if start == end:
            return
        text, before, going_on = self.text[start:end], end == self.cursor, self._killing
        self.replace(start, end, "")
        if going_on:
            self._kills.join(text, before=before)
        else:
            self._kills.push(text)
        self._killing = True

    def yank(self) -> bool:
        """Puts the newest kill in; False where it would get too long."""
        text = self._kills.newest()
        if not self.insert(text):
            return False
        self._yanked = len(text)
        return True

    def yank_older(self) -> None:
        """Right after a yank: the kill before it instead."""
        if not self._yanked:
            return
        start, text = self.cursor - self._yanked, self._kills.older()
        self.replace(start, self.cursor, text)
        self._yanked = len(text)

    def transpose(self) -> None:
        """Swaps the characters around the cursor; at the end, the last two."""
        at = min(self.cursor, len(self.text) - 1)
        if at >= 1:
            self._remember()
            self._replace(at - 1, at + 1, self.text[at] + self.text[at - 1])

    def undo(self) -> None:
        """The text before the last change."""
        if self._undo:
            self.text, self.cursor = self._undo.pop()
        self._settle()

    def _replace(self, start: int, end: int, text: str) -> None:
        self.text = self.text[:start] + text + self.text[end:]
        self.cursor = start + len(text)

    def _remember(self) -> None:
        self._settle()
        self._undo.append((self.text, self.cursor))

    def _settle(self) -> None:
        self._killing, self._yanked = False, 0

    def _edges(self) -> list[int]:
        return [0, *accumulate(len(cluster) for cluster in clusters(self.text))]
