"""Canonical JSON: RFC 8785 restricted to integers, one byte string for one value. Never parses leniently.

Keys are ASCII names, so sorting by code point and by UTF-16 unit are the same order. Floats do not exist here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

from recorder.errors import EntryError

Json: TypeAlias = "bool | int | str | Sequence[Json] | Mapping[str, Json] | None"

MAX_INT = 2**53 - 1  # RFC 8785 section 3.2.2.3: what every JSON reader holds exactly
MAX_DEPTH = 8  # levels of nesting; our own documents use three
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def encode(value: Json) -> bytes:
    """The one canonical encoding of value, UTF-8.

    Raises:
        EntryError: a float, an integer beyond 2^53-1, a lone surrogate, a key that is not a name, too deep.
    """
    _check(value, MAX_DEPTH)
    try:
        return _ENCODER.encode(value).encode()
    except UnicodeEncodeError as error:
        raise EntryError("text holds a lone surrogate, which UTF-8 cannot carry") from error


def decode(data: bytes) -> dict[str, Json]:
    """Parse one canonical JSON object; anything that encodes differently is refused.

    Comparing with our own encoding refuses at one stroke duplicate keys, spaces, odd escapes, floats and `-0`.
    """
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise EntryError("not JSON") from error
    if not isinstance(value, dict):
        raise EntryError("not a JSON object")
    if encode(value) != data:
        raise EntryError("not in canonical form")
    return value


def is_number(value: Json, number: int) -> bool:
    """Whether it is that very number: Python takes `true` for 1 and `false` for 0, other readers do not."""
    return type(value) is int and value == number


def _check(value: object, depth: int) -> None:
    match value:
        case None | bool() | str():
            pass
        case int():
            _check_int(value)
        case Mapping():
            _check_items(value, depth)
        case list() | tuple():
            _check_all(value, depth)
        case _:
            raise EntryError(f"{type(value).__name__} has no canonical form")


def _check_int(value: int) -> None:
    if abs(value) > MAX_INT:
        raise EntryError("integer beyond 2^53-1")


def _check_items(value: Mapping[object, object], depth: int) -> None:
    for key in value:
        if not isinstance(key, str) or not _is_key(key):
            raise EntryError("a key must be an ASCII name of at most 64 characters")
    _check_all(value.values(), depth)


@lru_cache(maxsize=1024)
def _is_key(key: str) -> bool:
    """The same few names stand in every entry."""
    return _KEY.fullmatch(key) is not None


def _check_all(values: Iterable[object], depth: int) -> None:
    if depth == 0:
        raise EntryError("nested too deep")
    for value in values:
        if type(value) is not str:  # as most are, and no text is refused here
            _check(value, depth - 1)
