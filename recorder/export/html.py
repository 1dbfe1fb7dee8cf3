"""A recording as one HTML file that plays offline: no request, no script but the two whose hashes it names.

The data is gzip in base64, in parts of which a browser unpacks only what it shows (parts.py); one file, because a page
that was opened from a disk may read no other. So nothing of the target is ever markup; labels are JSON without `<`, `>`
and `&`, and reach the page as text. An export is no longer sealed: it bears who took it and which root it claims.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

from recorder.errors import ExportTooLong
from recorder.escape import visible
from recorder.events import Event
from recorder.export.about import About, watermark
from recorder.export.frames import Frames, opening_size
from recorder.export.parts import PART_TEXT, Parts
from recorder.outline import Command

MAX_TEXT: Final = 1024 * 1024 * 1024
"""Characters of all parts, before they are packed. A browser holds the packed ones, and unpacks one after the other."""
_FOLDER: Final = Path(__file__).parent / "page"
_PLAYER: Final = _FOLDER / "asciinema-player-3.17.0"
_HOLE = re.compile(r"\{([a-z_]+)\}")
_GZIP = 31  # zlib's window bits for a gzip wrapper
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def page(
    events: Iterable[Event], about: About, *, max_text: int = MAX_TEXT, part_text: int = PART_TEXT
) -> Iterator[bytes]:  # fmt: skip
    """The file in pieces. Keystrokes are never in it. `part_text`: as for Parts.

    Raises:
        ExportTooLong: more than a browser can play; what came so far is no whole file.
    """
    frames = Frames(about.asked, with_input=False)
    size, rest = opening_size(frame for event in events for frame in frames.feed(event))
    columns, _, rows = size.partition("x")
    parts = Parts(columns=int(columns), rows=int(rows), part_text=part_text)
    for text, hole in _pieces((_FOLDER / "page.html").read_text()):
        yield text.encode()
        if hole == "parts":
            for number, part in enumerate(_bounded(parts.cut(rest), max_text)):
                yield f'<script type="text/plain" id="part-{number}">'.encode() + _packed(part) + b"</script>\n"
        elif hole == "index":
            yield _json(parts.index()).encode()
        elif hole:
            yield _filled(hole, about, frames.commands).encode()


def policy() -> str:
    """The page's content security policy: two scripts by hash, the player's WebAssembly, and nothing from anywhere."""
    hashes = " ".join(f"'sha256-{_sha256(_script(name))}'" for name in ("player_js", "page_js"))
    return (
        f"default-src 'none'; script-src {hashes} 'wasm-unsafe-eval'; style-src 'unsafe-inline'; img-src data:; "
        "font-src data:; base-uri 'none'"
    )


def _pieces(template: str) -> Iterator[tuple[str, str]]:
    """(text, name of the hole after it); the last has none."""
    parts = _HOLE.split(template)
    yield from zip(parts[::2], [*parts[1::2], ""], strict=True)


def _filled(hole: str, about: About, commands: list[Command]) -> str:
    match hole:
        case "csp":
            return policy()
        case "title":
            return html.escape(visible(about.title) or "session")
        case "watermark":
            rows = ((name, html.escape(value)) for name, value in watermark(about))
            return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows)
        case "commands":
            return _json([{"t": at.t_us / 1_000_000, "text": at.text, "verdict": at.verdict} for at in commands])
        case "licence":
            return html.escape((_PLAYER / "LICENSE").read_text())
        case "player_css":
            return (_PLAYER / "asciinema-player.css").read_text()
        case "page_css":
            return (_FOLDER / "page.css").read_text()
        case _:
            return _script(hole)


@cache
def _script(name: str) -> str:
    files = {"player_js": _PLAYER / "asciinema-player.min.js", "page_js": _FOLDER / "page.js"}
    return files[name].read_text()


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(value: object) -> str:
    text = json.dumps(value, separators=(",", ":"))
    return "".join(_UNSAFE.get(char, char) for char in text)


def _bounded(lines: Iterable[str], max_text: int) -> Iterator[bytes]:
    total = 0
    for line in lines:
        total += len(line)
        if total > max_text:
            raise ExportTooLong(f"more than {max_text} characters")
        yield line.encode()


def _packed(part: bytes) -> bytes:
    """gzip, then base64."""
    return base64.b64encode(zlib.compress(part, wbits=_GZIP))
