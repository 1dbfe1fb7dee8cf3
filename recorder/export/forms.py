"""The forms in which a recording can be taken away, each as pieces of one file. Opens no file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import assert_never

from recorder.events import Event, Kind
from recorder.export.about import About, watermark
from recorder.export.cast import Version, cast
from recorder.export.html import page
from recorder.export.text import transcript

PIECE_BYTES = 64 * 1024
"""No piece is longer."""


class Form(StrEnum):
    """What the copy is for."""

    CAST_V2 = "cast-v2"
    CAST_V3 = "cast-v3"
    HTML = "html"
    TEXT = "text"


def exported(form: Form, events: Iterable[Event], about: About, *, with_input: bool) -> Iterator[bytes]:
    """The file in pieces of at most 64 KiB. `with_input`: recorded input too, in asciicasts and text.

    Raises:
        ExportTooLong: this form cannot hold so much; what came so far is no whole file.
    """
    match form:
        case Form.CAST_V2:
            return _gathered(_encoded(cast(events, about, version=Version.TWO, with_input=with_input)))
        case Form.CAST_V3:
            return _gathered(_encoded(cast(events, about, version=Version.THREE, with_input=with_input)))
        case Form.HTML:
            return _gathered(page(events, about))
        case Form.TEXT:
            return _gathered(_encoded(_text(events, about, with_input=with_input)))
    assert_never(form)


def _text(events: Iterable[Event], about: About, *, with_input: bool) -> Iterator[str]:
    for name, value in watermark(about):
        yield f"# {name}: {value}\n"
    for line in transcript(event for event in events if with_input or event.kind != Kind.IN):
        yield f"{line}\n"


def _encoded(lines: Iterable[str]) -> Iterator[bytes]:
    return (line.encode() for line in lines)


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Small pieces together and long ones cut, so that a thread's trip is worth its while."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= PIECE_BYTES:
            yield bytes(held[:PIECE_BYTES])
            del held[:PIECE_BYTES]
    if held:
        yield bytes(held)
