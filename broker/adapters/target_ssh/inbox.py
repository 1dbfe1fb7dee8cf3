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
_SMALL = 4 * 1024
"""A piece below this grows in place: an object for each few bytes would cost more than they."""
_NUMBER = re.compile(rb"[1-9][0-9]{0,9}\n")
_MAX_DIGITS = 10


@dataclass(slots=True, eq=False)
class _Piece:
    """Bytes of one stream that arrived one after the other; `bytes` until something has to be added."""

    stream: Stream
    data: bytes | bytearray

    def grow(self, data: bytes) -> None:
        if isinstance(self.data, bytes):
            self.data = bytearray(self.data)
        self.data += data

    def cut(self, size: int) -> bytes:
        """Its first bytes, which it loses."""
        cut = bytes(memoryview(self.data)[:size])
        if isinstance(self.data, bytes):
            self.data = bytearray(self.data)  # so that what is left is moved, and not made anew each time
        del self.data[:size]
        return cut


@dataclass(slots=True)
class Inbox:
    """A queue of stdout and stderr. Within each stream the order always holds.

    A block that fits is handed on as the object that it came in: much output is not copied here.
    """

    _pieces: deque[_Piece] = field(default_factory=deque)
    _last: dict[Stream, _Piece] = field(default_factory=dict)

    def push(self, stream: Stream, data: bytes) -> None:
        """Appends what arrived."""
        if not data:
            return
        last = self._last.get(stream)
        if last is not None and (self._adjoins(last) or len(self._pieces) >= _MANY):
            last.grow(data)
            return
        piece = _Piece(stream, data)
        self._pieces.append(piece)
        self._last[stream] = piece

    def pop(self) -> Chunk | None:
        """The oldest bytes of one stream, at most MAX_CHUNK; None if nothing waits."""
        if not self._pieces:
            return None
        stream = self._pieces[0].stream
        parts = self._whole(stream)
        if not parts:
            return Chunk(stream=stream, data=self._pieces[0].cut(MAX_CHUNK))
        alone = parts[0] if len(parts) == 1 else b""
        return Chunk(stream=stream, data=alone if isinstance(alone, bytes) and alone else b"".join(parts))

    def _whole(self, stream: Stream) -> list[bytes | bytearray]:
        """The oldest pieces that fit into one chunk together; none where the first alone does not."""
        found: list[bytes | bytearray] = []
        room = MAX_CHUNK
        while self._pieces and self._pieces[0].stream is stream and len(self._pieces[0].data) <= room:
            piece = self._pieces.popleft()
            found.append(piece.data)
            room -= len(piece.data)
            if self._last[stream] is piece:
                del self._last[stream]
        return found

    def _adjoins(self, last: _Piece) -> bool:
        return self._pieces[-1] is last and len(last.data) < _SMALL


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
