"""A recording as plain lines of text: time, stream, and what was said, with everything unprintable made visible."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from recorder.escape import Decoder, visible
from recorder.grec import Event, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_STREAMS = {Kind.OUT: "out", Kind.ERR: "err", Kind.IN: "in "}
_NOTE = "---"
_MAX_LINE = 4096  # characters; a longer line goes on in the next, marked with "+"
_SIZE = struct.Struct(">HH")


class _Line:
    """The unfinished line of one stream of one channel."""

    __slots__ = ("decoder", "t_us", "tag", "text")

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.decoder = Decoder()
        self.t_us = 0
        self.text = ""


class Transcript:
    """Turns events into finished lines as they come. Memory: one unfinished line a stream."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], _Line] = {}

    def feed(self, event: Event) -> Iterator[str]:
        """The lines that this event completes."""
        tag = _STREAMS.get(Kind(event.kind)) if event.kind in set(Kind) else None
        if tag is None:
            yield _format(event.t_us, _NOTE, _describe(event))
            return
        key = (event.chan, event.kind)
        line = self._open.setdefault(key, _Line(tag if event.chan == 0 else f"{tag}#{event.chan}"))
        yield from _extend(line, line.decoder.feed(event.payload), event.t_us)

    def end(self) -> Iterator[str]:
        """The lines that never saw their end."""
        for line in self._open.values():
            yield from _extend(line, line.decoder.end(), line.t_us)
            if line.text:
                yield _format(line.t_us, line.tag, visible(line.text))
        self._open.clear()


def transcript(events: Iterable[Event]) -> Iterator[str]:
    """All lines of a recording, without line ends. A line carries the time of its first byte."""
    lines = Transcript()
    for event in events:
        yield from lines.feed(event)
    yield from lines.end()


def _extend(line: _Line, text: str, t_us: int) -> Iterator[str]:
    if not line.text:
        line.t_us = t_us
    *whole, rest = (line.text + text).split("\n")
    for complete in whole:
        yield from _wrapped(line, complete)
        line.t_us = t_us
    while len(rest) > _MAX_LINE:
        yield _format(line.t_us, line.tag, visible(rest[:_MAX_LINE]) + "+")
        rest = rest[_MAX_LINE:]
    line.text = rest


def _wrapped(line: _Line, text: str) -> Iterator[str]:
    while len(text) > _MAX_LINE:
        yield _format(line.t_us, line.tag, visible(text[:_MAX_LINE]) + "+")
        text = text[_MAX_LINE:]
    yield _format(line.t_us, line.tag, visible(text))


def _format(t_us: int, tag: str, text: str) -> str:
    return f"{t_us / 1_000_000:10.3f} {tag} {text}"


def _describe(event: Event) -> str:
    if event.kind == Kind.RESIZE and len(event.payload) == _SIZE.size:
        columns, rows = _SIZE.unpack(event.payload)
        return f"resize {columns}x{rows}"
    if event.kind == Kind.HIDDEN:
        return "input, not shown"
    if event.kind not in set(Kind):
        return f"event of kind {event.kind}, {len(event.payload)} bytes"
    return f"{Kind(event.kind).name.lower()} {visible(event.payload.decode('utf-8', 'surrogateescape'))}"
