"""The state of a terminal that its last output alone does not tell: modes, margins, character sets.

A screen is shown anew by `restore()` and the raw output since: no terminal is emulated, and nothing of the output is
kept. Bounded, whatever a target writes.
"""

from __future__ import annotations

import re
from typing import Final

_TRACKED: Final = frozenset({6, 7, 25, 47, 1047, 1049})
"""DEC private modes that change what is drawn, or where; the rest is forgotten."""
_ALTERNATE: Final = frozenset({47, 1047, 1049})
_CHANGE: Final = re.compile(
    rb"\x1b(?:\[(?P<private>\??)(?P<numbers>[0-9;]{0,32})(?P<verb>[hlr])|(?P<slot>[()])(?P<set>[0AB])|(?P<reset>c))"
)
_BEGUN: Final = re.compile(
    rb"(?:\x1b(?:\[[?>=!]?[0-9;:]{0,32}|[()])?|[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})\Z"
)
"""A sequence or character that the next bytes may finish."""
_BEGUN_BYTES: Final = 40
_OPEN_STRING: Final = re.compile(rb"(\x1b[\]PX^_])[^\x07\x1b]*\Z")
"""A title or the like whose end is still to come. What it says is not kept."""


class TerminalModes:
    """Follows one output stream. `feed` it every byte in order."""

    __slots__ = ("_begun", "_modes", "_sequences")

    def __init__(self) -> None:
        self._begun = b""
        self._modes: dict[int, bool] = {}
        self._sequences: dict[bytes, bytes] = {}
        """What was last said of margins (`r`), character sets (`(`, `)`) and shift."""

    def feed(self, data: bytes) -> None:
        """The next bytes of the stream."""
        whole = self._begun + data
        reset = -1
        # bulk output has few escapes, or none: each of these looks for one byte, many times as fast as for a set
        for found in _CHANGE.finditer(whole) if b"\x1b" in whole else ():
            self._change(found)
            reset = found.start() if found["reset"] else reset
        shift = max(whole.rfind(b"\x0e"), whole.rfind(b"\x0f"))
        if shift > reset:
            self._sequences[b"shift"] = whole[shift : shift + 1]
        self._begun = _begun(whole)

    def restore(self) -> bytes:
        """Puts a terminal that was just reset into this state. Ends with what a sequence has begun with."""
        # the alternate screen first: entering it may clear and save; then where and how is drawn there
        order = sorted(self._modes, key=lambda mode: (mode not in _ALTERNATE, mode))
        modes = b"".join(b"\x1b[?%d%c" % (mode, b"h" if self._modes[mode] else b"l") for mode in order)
        return modes + b"".join(self._sequences[name] for name in sorted(self._sequences)) + self._begun

    def _change(self, found: re.Match[bytes]) -> None:
        if found["reset"]:
            self._modes.clear()
            self._sequences.clear()
        elif found["verb"] == b"r" and not found["private"]:
            self._sequences[b"r"] = found[0]
        elif found["verb"] in (b"h", b"l") and found["private"]:
            numbers = {int(number) for number in found["numbers"].split(b";") if number}
            self._modes |= dict.fromkeys(numbers & _TRACKED, found["verb"] == b"h")
        elif found["slot"]:
            self._sequences[found["slot"]] = found[0]


def _begun(data: bytes) -> bytes:
    """What the next bytes continue."""
    last = data.rfind(b"\x1b")  # whatever is open was opened by the last of them
    if last >= 0 and (string := _OPEN_STRING.match(data, last)):
        return string[1]
    begun = _BEGUN.search(data, max(0, len(data) - _BEGUN_BYTES))
    return begun[0] if begun else b""
