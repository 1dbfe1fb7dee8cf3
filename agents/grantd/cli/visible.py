"""Text from agents, targets and other people, made safe for a terminal: shown escaped, never stripped.

`exact` is injective: different bytes never look equal (I-11), because only printable ASCII but the backslash stands
for itself and every escape starts with the backslash. `readable` is for output that people skim: it keeps newlines,
tabs and ordinary letters of any script, and is not injective. Neither ever yields a control character.
"""

from __future__ import annotations

import codecs
import unicodedata
from typing import Final

_NAMED: Final = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_SURROGATES: Final = range(0xDC80, 0xDD00)
# letters, marks that stand alone, numbers, punctuation, symbols: what a terminal draws where it is told to
_READABLE: Final = ("L", "N", "P", "S")


def exact(text: str | bytes) -> str:
    """Printable ASCII whose escapes can be read back to the very same bytes."""
    if isinstance(text, bytes):
        text = text.decode(errors="surrogateescape")
    return "".join(_exact(character) for character in text)


def units(raw: bytes) -> list[tuple[int, str]]:
    """`exact` in pieces: (byte offset, what is shown) of each character, for colouring by byte range."""
    found, offset = [], 0
    for character in raw.decode(errors="surrogateescape"):
        found.append((offset, _exact(character)))
        offset += len(character.encode(errors="surrogateescape"))
    return found


def _exact(character: str) -> str:
    if " " <= character <= "~" and character != "\\":
        return character
    return _NAMED.get(character) or _escape(ord(character))


def _escape(point: int) -> str:
    r"""`\xNN` is one byte (ASCII, or one that is not UTF-8), `\uNNNN` and `\UNNNNNNNN` a code point above ASCII."""
    if point in _SURROGATES:
        return f"\\x{point - 0xDC00:02x}"
    if point < 0x80:  # noqa: PLR2004  ASCII
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"  # noqa: PLR2004  the basic plane


def readable(text: str) -> str:
    """Keeps newline, tab, spaces and letters, numbers, punctuation, symbols; everything else is escaped."""
    return "".join(_readable(character) for character in text)


def one_line(text: str) -> str:
    """`readable` without line breaks: for a cell or a message."""
    return readable(text).replace("\n", "\\n").replace("\t", "\\t")


def _readable(character: str) -> str:
    if character in "\n\t" or " " <= character <= "~":
        return character
    # what joins, reorders or takes no room (M*, C*, Z*, right-to-left letters) could lie about its neighbours
    if unicodedata.category(character)[0] in _READABLE and unicodedata.bidirectional(character) not in ("R", "AL"):
        return character
    return _NAMED.get(character) or _escape(ord(character))


class Output:
    """A stream of a target's bytes as readable text; characters that are split between chunks are put together."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def feed(self, data: bytes, *, last: bool = False) -> str:
        """The text of the next chunk."""
        return readable(self._decoder.decode(data, last).replace("\r\n", "\n"))
