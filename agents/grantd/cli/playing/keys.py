"""Keys out of the bytes that a terminal sends. What is not known is no key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_PIECE: Final = re.compile(rb"\x1b(?:\[[\d;]*[@-~]|O[@-~])|[\xc2-\xf4][\x80-\xbf]{1,3}|.", re.DOTALL)
_NAMED: Final = {
    b"\x1b[C": "right", b"\x1bOC": "right", b"\x1b[D": "left", b"\x1bOD": "left",
    b"\x1b[A": "up", b"\x1bOA": "up", b"\x1b[B": "down", b"\x1bOB": "down",
    b"\x1b[H": "home", b"\x1b[1~": "home", b"\x1b[F": "end", b"\x1b[4~": "end",
    b"\x1b": "escape", b"\r": "enter", b"\n": "enter", b"\x7f": "rubout", b"\b": "rubout", b"\x03": "interrupt",
    b"\x0c": "redraw",
}  # fmt: skip


def keys_in(data: bytes) -> Iterator[str]:
    """Names of keys, and printable characters as they are."""
    for piece in _PIECE.findall(data):
        if name := _NAMED.get(piece):
            yield name
        elif (text := piece.decode(errors="replace")).isprintable() and "\ufffd" not in text:
            yield text
