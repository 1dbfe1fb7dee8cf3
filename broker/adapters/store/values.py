"""How single values stand in columns: times as integer microseconds, sets and mappings as JSON text. Knows no table."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from broker.core.clock import from_micros, micros

KEPT: Final = 1_024
"""Values that are kept of one kind of row, each beside the very row that it was made of: a changed row is another one.

Only rows without a sealed or secret column, and without text that somebody wrote about a request.
"""
LONGEST: Final = 4_096
"""Characters of what may be long in such a row: of a longer one nothing is kept, whoever writes it a thousand times."""
_MICROSECOND: Final = timedelta(microseconds=1)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def to_json(value: object) -> str:
    """Compact JSON with sorted keys: equal values are equal text."""
    return _ENCODER.encode(value)


def from_json(text: str) -> Any:  # noqa: ANN401  the caller names what it wrote
    """The inverse of `to_json`."""
    return json.loads(text)


@lru_cache(maxsize=1024)  # flags and roles: few sets, in every row
def from_words(words: frozenset[str]) -> str:
    """A set of words, sorted."""
    return to_json(sorted(words))


@lru_cache(maxsize=1024)
def to_words(text: str) -> frozenset[str]:
    """The inverse of `from_words`."""
    return frozenset(json.loads(text))


def from_time(moment: datetime | None) -> int | None:
    """Microseconds since the epoch, or NULL."""
    return None if moment is None else micros(moment)


def to_time(us: int | None) -> datetime | None:
    """The inverse of `from_time`."""
    return None if us is None else from_micros(us)


def from_span(span: timedelta) -> int:
    """Whole microseconds."""
    return span // _MICROSECOND


def to_span(us: int) -> timedelta:
    """The inverse of `from_span`."""
    return timedelta(microseconds=us)
