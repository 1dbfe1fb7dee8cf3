"""Logs: one JSON object a line on standard output, for journald. Values only as keys.

Secrets cannot be rendered (Secret); control characters are always escaped; no value floods the log. A line that cannot
be written ends nothing that was under way: it is counted, and the count is said with the next one that can.
"""

from __future__ import annotations

import io
import itertools
import json
import logging
import math
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO, cast

import structlog

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_MAX_VALUE = 2_000
_MAX_TRACEBACK = 20_000
_MAX_ITEMS = 20
_MAX_DEPTH = 3
_ENCODER: Final = json.JSONEncoder(default=repr, allow_nan=False)


def configure(level: str, *, stream: TextIO = sys.stdout) -> None:
    """Once, at the start of a process."""
    lines = _Lines(stream)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _stamped,
            structlog.processors.format_exc_info,
            _bounded,
            _rendered,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", lines)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(lines)
    handler.setFormatter(_LibraryLine())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


class _Lines(io.TextIOBase):
    """Where lines go; each is on its way when `write` returns, or counted (I-61: a full disk stops no cut)."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lost = 0

    def write(self, text: str) -> int:
        try:
            # what was lost may have left half a line
            self._stream.write(f"\n{self._loss()}\n{text}" if self._lost else text)
            self._stream.flush()
        except (OSError, ValueError):  # a full disk, nobody who reads, a stream that is closed
            self._lost += 1
        else:
            self._lost = 0
        return len(text)

    def flush(self) -> None:
        """Done by every `write`."""

    def _loss(self) -> str:
        now = _iso(datetime.now(UTC))
        return _line({"event": "log.lines_lost", "level": "error", "timestamp": now, "at_most": self._lost})


class _LibraryLine(logging.Formatter):
    """What a library says through Python's logging, in the same shape."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "logger": record.name,
            "message": record.getMessage(),
            "event": "library.said",
            "level": record.levelname.lower(),
            "timestamp": _iso(datetime.fromtimestamp(record.created, UTC)),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return _line(_bounded(None, "", said))


def _stamped(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["timestamp"] = _iso(datetime.now(UTC))
    return event


def _iso(moment: datetime) -> str:
    """A moment in UTC, as every line has it."""
    return moment.isoformat().replace("+00:00", "Z")


def _bounded(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {
        # nearly every value is a short text, which is shown as it is whatever its key
        _cut(key, _MAX_VALUE): value if type(value) is str and len(value) <= _MAX_VALUE else _shown(key, value)
        for key, value in event.items()
    }


def _rendered(_: object, __: str, event: MutableMapping[str, Any]) -> str:
    return _line(event)


def _shown(key: str, value: object) -> object:
    if key == "exception" and isinstance(value, str):
        # both ends: where it came from, and what it was
        half = _MAX_TRACEBACK // 2
        return value if len(value) <= _MAX_TRACEBACK else f"{value[:half]}\n...\n{value[-half:]}"
    return _plain(value, _MAX_DEPTH)


def _plain(value: object, depth: int) -> object:
    """The value as JSON has it, or as its repr; never longer than a few lines."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, str):
        return _cut(value, _MAX_VALUE)
    if depth and isinstance(value, Mapping):
        first = itertools.islice(value.items(), _MAX_ITEMS)
        shown = {_cut(str(key), _MAX_VALUE): _plain(inner, depth - 1) for key, inner in first}
        return shown if len(value) <= _MAX_ITEMS else {**shown, "...": "..."}
    if depth and isinstance(value, list | tuple | set | frozenset):
        items = [_plain(inner, depth - 1) for inner in itertools.islice(value, _MAX_ITEMS)]
        return items if len(value) <= _MAX_ITEMS else [*items, "..."]
    return _cut(repr(value), _MAX_VALUE)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest] + "..."


def _line(event: Mapping[str, Any]) -> str:
    """ASCII alone, every control character escaped: nothing in it reaches a terminal."""
    return _ENCODER.encode(event)
