"""A recording as an asciicast, version 2 or 3: what other players can open. Writes lines, opens no file.

Version 3 has intervals instead of times. They are taken between times that were rounded first, so rounding never adds
up over a long session.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC
from enum import IntEnum

from recorder.escape import visible
from recorder.events import Event
from recorder.export.about import About, watermark
from recorder.export.frames import Code, Frame, Frames, opening_size


class Version(IntEnum):
    """Of asciicast."""

    TWO = 2
    THREE = 3


def cast(events: Iterable[Event], about: About, *, version: Version, with_input: bool) -> Iterator[str]:
    """The lines, each with its newline.

    Args:
        events: in order of time.
        about: what the header says.
        version: 3 also says how the command exited.
        with_input: recorded keystrokes too, which may hold secrets that were typed.
    """
    frames = Frames(about.asked, with_input=with_input)
    yield from cast_of((frame for event in events for frame in frames.feed(event)), about, version=version)


def cast_of(frames: Iterable[Frame], about: About, *, version: Version) -> Iterator[str]:
    """As `cast`, from frames."""
    size, rest = opening_size(frames)
    columns, _, rows = size.partition("x")
    yield _line(_header(about, int(columns), int(rows), version))
    last_ms = 0
    for frame in rest:
        if frame.code is Code.EXIT and version is Version.TWO:
            continue  # version 2 has no word for it
        now_ms = round(frame.t_us / 1000)
        since_ms = last_ms if version is Version.THREE else 0
        yield _line([(now_ms - since_ms) / 1000, frame.code.value, frame.data])
        last_ms = now_ms


def _header(about: About, columns: int, rows: int, version: Version) -> dict[str, object]:
    said = {
        "timestamp": int(about.opened_at.astimezone(UTC).timestamp()),
        "title": visible(about.title),
        "grantd": dict(watermark(about)),
    }
    if version is Version.THREE:
        return {"version": 3, "term": {"cols": columns, "rows": rows, "type": "xterm-256color"}, **said}
    return {"version": 2, "width": columns, "height": rows, "env": {"TERM": "xterm-256color"}, **said}


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"
