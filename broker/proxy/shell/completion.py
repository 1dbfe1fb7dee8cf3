"""What Tab puts in: names of programs that the catalogue knows, and paths that a read on the target lists.

Pure but for what lists: names of files are the target's text, so they are quoted before they stand in a line, escaped
before they stand on the terminal, and those with characters that a terminal hides are left out.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from broker.core.shell_line import quoted

GATEWAY_WORDS: Final = ("cd", "export", "unset", "exit", "help", "history", "tty")
MAX_SHOWN: Final = 200
_CACHED_S: Final = 5.0
_CACHED: Final = 16
_PIECE: Final = re.compile(r"(?P<word>(?:\\.|[^\s\\'\"$`*?;|&<>(){}\[\]!#])+)|.", re.DOTALL)
"""A word, or one character that is none: read from the left, so that a long line costs its length and no more."""
_STARTS_A_COMMAND: Final = re.compile(r"(?:\A|[;|&(){`\n]|\$\()\s*(?:tty\s+|sudo\s+)?\Z")
_NOT_OURS: Final = re.compile(r"['\"$`*?{}\[\]!\\]\Z")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_@%+=:,./-]")

Listing = Callable[[bytes], Awaitable[bytes | None]]
"""Runs a read that lists a directory; None where that is not to be had without asking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What may stand in place of a stretch of the line, as it would be typed; `names` are what people read."""

    start: int
    texts: Sequence[str]
    names: Sequence[str]

    def common(self) -> str:
        """What all of them begin with."""
        shortest = min(self.texts, key=len)
        same = [len({text[at] for text in self.texts}) == 1 for at in range(len(shortest))]
        return shortest[: same.index(False)] if False in same else shortest


class Completer:
    """Completes lines of one session."""

    def __init__(self, programs: Iterable[str], listing: Listing, now: Callable[[], float]) -> None:
        self._programs = sorted({*programs, *GATEWAY_WORDS})
        self._listing, self._now = listing, now
        self._kept: dict[tuple[str, bytes], tuple[float, Sequence[str]]] = {}

    async def complete(self, text: str, cursor: int, *, cwd: str) -> Completion | None:
        """What could stand for the word at the cursor; None where nothing is known of it."""
        before = text[:cursor]
        start = word_start(before)
        head, word = before[:start], before[start:]
        if _NOT_OURS.search(head):
            return None
        if "/" not in word and not word.startswith("~") and _STARTS_A_COMMAND.search(head):
            texts = [name for name in self._programs if name.startswith(word)]
            return Completion(start=start, texts=texts, names=texts) if texts and word else None
        return await self._path(start, unescaped(word), cwd)

    async def _path(self, start: int, word: str, cwd: str) -> Completion | None:
        folder, slash, base = word.rpartition("/")
        folder += slash
        names = [name for name in await self._listed(folder, cwd) if name.startswith(base)]
        if not base:
            names = [name for name in names if not name.startswith(".")]
        if not names:
            return None
        return Completion(start=start, texts=[typed(folder, name) for name in names], names=names)

    async def _listed(self, folder: str, cwd: str) -> Sequence[str]:
        command = listing_of(folder)
        kept = self._kept.get((cwd, command))
        if kept is not None and self._now() - kept[0] < _CACHED_S:
            return kept[1]
        told = await self._listing(command)
        names = names_in(told or b"")
        self._kept = dict(list(self._kept.items())[1 - _CACHED :])
        self._kept[cwd, command] = (self._now(), names)
        return names


def word_start(before: str) -> int:
    """Where the word begins that ends with the text; its end, where none does."""
    last = None
    for last in _PIECE.finditer(before):  # noqa: B007  the last one is what is wanted
        pass
    return last.start() if last is not None and last["word"] else len(before)


def listing_of(folder: str) -> bytes:
    """The read that lists a folder as it was typed; a tilde in front stays one."""
    home, rest = ("~/", folder[2:]) if folder.startswith("~/") else ("", folder or ".")
    rest = f"./{rest}" if rest.startswith("-") else rest
    return f"ls -1Ap -- {home}{quoted(rest) if rest else ''}".encode("utf-8", "surrogateescape")


def names_in(told: bytes) -> Sequence[str]:
    """Names that can be shown as they are, one a row; the last may have been cut off and is left out then."""
    text, _, _ = told.decode("utf-8", "replace").rpartition("\n")
    return [name for name in text.split("\n") if name and name.isprintable() and "\ufffd" not in name]


def unescaped(word: str) -> str:
    """A word as typed, without its backslashes."""
    return re.sub(r"\\(.)", r"\1", word)


def typed(folder: str, name: str) -> str:
    """A path as one word of a line. A name that would pass for an option does not: the target chose it."""
    if not folder and name.startswith("-"):
        folder = "./"
    home, rest = ("~/", folder[2:]) if folder.startswith("~/") else ("", folder)
    return home + escaped(rest + name)


def escaped(name: str) -> str:
    """A backslash before whatever bash could read otherwise."""
    return "".join(char if _PLAIN.match(char) or not char.isascii() else f"\\{char}" for char in name)


def columns_of(names: Sequence[str], columns: int) -> Sequence[str]:
    """Rows to choose from, down the columns."""
    shown = [*names[:MAX_SHOWN]]
    cell = max(map(len, shown), default=0) + 2
    across = max(1, columns // cell)
    down = -(-len(shown) // across)
    rows = ["".join(name.ljust(cell) for name in shown[row::down]).rstrip() for row in range(down)]
    more = len(names) - len(shown)
    return [*rows, f"... and {more} more"] if more else rows
