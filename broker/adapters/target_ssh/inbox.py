"""What a command wrote and nobody has read yet, in a bounded number of pieces. Loses and adds no byte.

The number of bytes is bounded by the channel's window; the number of pieces is bounded here, so that a target that
sends single bytes, one stream in turn with the other, costs no more memory than one that sends whole blocks (I-27).
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field

from broker.service.ports import Chunk, Stream

MAX_CHUNK = 64 * 1024
"""Bytes in one Chunk, at most."""
_MANY = 256
"""From this many pieces on, the order between the two streams (which SSH does not promise) gives way to memory."""
_NUMBER = re.compile(rb"[1-9][0-9]{0,9}\n")
_MAX_DIGITS = 10


@dataclass(slots=True)
class Inbox:
    """A queue of stdout and stderr. Within each stream the order always holds."""

    _pieces: deque[tuple[Stream, bytearray]] = field(default_factory=deque)
    _last: dict[Stream, bytearray] = field(default_factory=dict)

    def push(self, stream: Stream, data: bytes) -> None:
        """Appends what arrived."""
        if not data:
            return
        last = self._last.get(stream)
        if last is not None and (self._pieces[-1][1] is last or len(self._pieces) >= _MANY):
            last += data
            return
        piece = bytearray(data)
        self._pieces.append((stream, piece))
        self._last[stream] = piece

    def pop(self) -> Chunk | None:
        """The oldest bytes of one stream, at most MAX_CHUNK; None if nothing waits."""
        if not self._pieces:
            return None
        stream, piece = self._pieces[0]
        chunk = Chunk(stream=stream, data=bytes(piece[:MAX_CHUNK]))
        del piece[:MAX_CHUNK]
        if not piece:
            self._pieces.popleft()
            if self._last.get(stream) is piece:
                del self._last[stream]
        return chunk


@dataclass(slots=True)
class MarkFilter:
    """Takes the one line out of stderr by which a pooled read tells its process group.

    The line comes first, unless the login shell itself complains before: that is passed on, however long it is. Held
    back is never more than what may still become the line.
    """

    mark: bytes
    """The line up to the number, with the blank."""
    line: bytes = b""
    """The line once it was found, with its newline."""
    _held: bytes = b""

    def feed(self, data: bytes) -> bytes:
        """What of stderr may be passed on now."""
        if self.line:
            return data
        held = self._held + data
        start = held.find(self.mark)
        while start >= 0:
            number = _NUMBER.match(held, start + len(self.mark))
            if number is not None:
                self.line, self._held = held[start : number.end()], b""
                return held[:start] + held[number.end() :]
            start = held.find(self.mark, start + 1)
        passed = max(0, len(held) - len(self.mark) - _MAX_DIGITS)
        self._held = held[passed:]
        return held[:passed]

    def rest(self) -> bytes:
        """What was held back when the stream ended."""
        held, self._held = self._held, b""
        return held
