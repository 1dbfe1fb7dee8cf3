"""A recording as one HTML file that plays offline: no request, no script but the two whose hashes it names.

The data is gzip in base64, so nothing of the target is ever markup; labels are JSON without `<`, `>` and `&`, and reach
the page as text. An export is no longer sealed: it bears who took it and which root it claims.
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
from recorder.export.cast import Version, cast_of
from recorder.export.frames import Frames
from recorder.outline import Command

MAX_TEXT: Final = 128 * 1024 * 1024
"""Characters of asciicast; a browser needs about three times as much memory to play it."""
_FOLDER: Final = Path(__file__).parent / "page"
_PLAYER: Final = _FOLDER / "asciinema-player-3.17.0"
_HOLE = re.compile(r"\{([a-z_]+)\}")
_GZIP = 31  # zlib's window bits for a gzip wrapper
_GROUP = 3 * 1024  # bytes that base64 turns into whole characters
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def page(events: Iterable[Event], about: About, *, max_text: int = MAX_TEXT) -> Iterator[bytes]:
    """The file in pieces. Keystrokes are never in it.

    Raises:
        ExportTooLong: more than a browser can play; what came so far is no whole file.
    """
    frames = Frames(about.asked, with_input=False)
    lines = cast_of((frame for event in events for frame in frames.feed(event)), about, version=Version.THREE)
    for text, hole in _pieces((_FOLDER / "page.html").read_text()):
        yield text.encode()
        if hole == "data":
            yield from _packed(_bounded(lines, max_text))
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


def _packed(lines: Iterable[bytes]) -> Iterator[bytes]:
    """gzip, then base64, in pieces that fit together."""
    packer, held = zlib.compressobj(wbits=_GZIP), bytearray()
    for line in lines:
        held += packer.compress(line)
        whole = len(held) // _GROUP * _GROUP
        if whole:
            yield base64.b64encode(held[:whole])
            del held[:whole]
    held += packer.flush()
    yield base64.b64encode(held)
