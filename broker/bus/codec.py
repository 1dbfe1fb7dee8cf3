"""Values as JSON and back, by the types they are declared with. Strict: what is not exactly of the type is refused.

Both ends know every type that crosses; nothing in a message names one, so that reading can make nothing but the value
that was expected. Bounded by the frame it came in. Reads no socket.
"""

# ruff: noqa: ANN401  types are walked here as values, and values by their types

from __future__ import annotations

import base64
import binascii
import json
import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

from broker.core.clock import from_micros, micros
from broker.core.errors import Fault

MAX_INT: Final = 2**64
_SECOND: Final = timedelta(microseconds=1)
T = TypeVar("T")
Turn = Callable[[Any], Any]


class BusError(Fault):
    """The other end does not speak as was agreed: it is not listened to any more."""


def write(kind: type[T], value: T) -> object:
    """A value of the type, as JSON has it."""
    return _writer(kind)(value)


def read(kind: type[T], value: object) -> T:
    """The value that `write` was given. Raises BusError for anything that `write` cannot have said."""
    try:
        found: T = _reader(kind)(value)
    except (TypeError, ValueError, KeyError, OverflowError, binascii.Error) as error:
        raise BusError(f"not a {getattr(kind, '__name__', kind)}") from error
    return found


def pack(message: object) -> bytes:
    """One message as bytes."""
    return json.dumps(message, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()


def unpack(body: bytes) -> object:
    """The message of some bytes. Raises BusError: no JSON, no finite number, one name twice, too deep."""
    try:
        return json.loads(body, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BusError("not JSON as it is spoken here") from error


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("one name twice")
    return found


def _no_constant(name: str) -> object:
    raise ValueError(name)


# ---- types -----------------------------------------------------------------------------------------------------------
_known: Final[dict[Any, tuple[Turn, Turn]]] = {}


def _writer(kind: Any) -> Turn:
    return _kept(kind)[0]


def _reader(kind: Any) -> Turn:
    return _kept(kind)[1]


def _kept(kind: Any) -> tuple[Turn, Turn]:
    if kind not in _known:
        _known[kind] = _turns(kind)
    return _known[kind]


def _turns(kind: Any) -> tuple[Turn, Turn]:
    """How values of a type are written and read."""
    if isinstance(kind, NewType):
        return _turns(kind.__supertype__)
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _either(parts)
    if origin is not None:
        return _many(origin, parts)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _value_of, _checked(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        return _record(kind)
    raise TypeError(f"no way to say {kind}")


def _record(kind: Any) -> tuple[Turn, Turn]:
    hints = get_type_hints(kind)
    names = [each.name for each in fields(kind)]
    known = frozenset(names)
    # looked up when used: a type may be within itself
    writers = [(name, hints[name]) for name in names]

    def written(value: Any) -> object:
        return {name: _writer(inner)(getattr(value, name)) for name, inner in writers}

    def made(value: Any) -> object:
        if type(value) is not dict or value.keys() != known:
            raise ValueError("other fields than these")
        return kind(**{name: _reader(inner)(value[name]) for name, inner in writers})

    return written, made


def _either(parts: tuple[Any, ...]) -> tuple[Turn, Turn]:
    """`X | None`; of `bytes | bytearray` the first."""
    rest = [part for part in parts if part is not types.NoneType and part is not bytearray]
    optional = types.NoneType in parts
    if len(rest) > 1 and not optional and all(isinstance(part, type) and is_dataclass(part) for part in rest):
        return _named(rest)
    if len(rest) != 1:
        raise TypeError("a union that JSON cannot tell apart")
    inner = rest[0]

    def written(value: Any) -> object:
        return None if value is None else _writer(inner)(value)

    def made(value: Any) -> object:
        if value is None and not optional:
            raise ValueError("nothing")
        return None if value is None else _reader(inner)(value)

    return written, made


def _named(kinds: Sequence[type]) -> tuple[Turn, Turn]:
    """One of several records: `[its type's name, its fields]`."""
    known = {kind.__name__: kind for kind in kinds}

    def written(value: Any) -> object:
        return [type(value).__name__, _writer(known[type(value).__name__])(value)]

    def made(value: Any) -> object:
        name, told = _a(list, value)
        if not isinstance(name, str) or name not in known:
            raise ValueError("none of these records")
        return _reader(known[name])(told)

    return written, made


def _many(origin: Any, parts: tuple[Any, ...]) -> tuple[Turn, Turn]:
    if origin is tuple and parts[-1] is not Ellipsis:
        return _fixed(parts)
    if origin in (tuple, frozenset):
        inner = parts[0]

        def listed(value: Any) -> object:
            each = [_writer(inner)(one) for one in value]
            return sorted(each) if origin is frozenset else each

        def made(value: Any) -> object:
            found = origin(_reader(inner)(one) for one in _a(list, value))
            if len(found) != len(value):
                raise ValueError("one twice")
            return found

        return listed, made
    if issubclass(origin, Mapping):
        return _mapping(*parts)
    raise TypeError(f"no way to say {origin}")


def _fixed(parts: tuple[Any, ...]) -> tuple[Turn, Turn]:
    def written(value: Any) -> object:
        return [_writer(kind)(one) for kind, one in zip(parts, value, strict=True)]

    def made(value: Any) -> object:
        return tuple(_reader(kind)(one) for kind, one in zip(parts, _a(list, value), strict=True))

    return written, made


def _mapping(key: Any, inner: Any) -> tuple[Turn, Turn]:
    def written(value: Any) -> object:
        return [[_writer(key)(name), _writer(inner)(one)] for name, one in value.items()]

    def made(value: Any) -> object:
        pairs = [(_reader(key)(name), _reader(inner)(one)) for name, one in _a(list, value)]
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("one name twice")
        return found

    return written, made


def _a(kind: type[T], value: Any) -> T:
    """The value, if it is exactly of this type: a bool is no number."""
    if type(value) is not kind:
        raise ValueError(f"not a {kind.__name__}")
    found: T = value
    return found


def _same(value: Any) -> object:
    return value


def _value_of(value: Any) -> object:
    return value.value


def _checked(kind: Any) -> Turn:
    def made(value: Any) -> object:
        if type(value) not in (str, int):
            raise ValueError("no member")
        return kind(value)

    return made


def _integer(value: Any) -> int:
    if not -MAX_INT < _a(int, value) < MAX_INT:
        raise ValueError("beyond 64 bits")
    return int(value)


def _number(value: Any) -> float:
    found = float(value) if type(value) in (int, float) else _a(float, value)
    if not math.isfinite(found):
        raise ValueError("not finite")
    return found


def _base64(value: Any) -> str:
    return base64.b64encode(value).decode()


def _text(value: Any) -> str:
    _a(str, value).encode()  # a lone surrogate is no text
    return str(value)


_PLAIN: Final[Mapping[Any, tuple[Turn, Turn]]] = {
    str: (_same, _text),
    int: (_same, _integer),
    float: (_same, _number),
    bool: (_same, lambda value: _a(bool, value)),
    types.NoneType: (_same, lambda value: _a(types.NoneType, value)),
    bytes: (_base64, lambda value: base64.b64decode(_a(str, value), validate=True)),
    datetime: (micros, lambda value: from_micros(_integer(value))),
    timedelta: (lambda value: value // _SECOND, lambda value: timedelta(microseconds=_integer(value))),
}
