"""`Secret[T]`: a value whose only way out is the greppable `.reveal()`.

Never prints, formats, compares, hashes, pickles, copies or iterates its content (I-36).
"""

from __future__ import annotations

from typing import Generic, NoReturn, TypeVar

T = TypeVar("T")
_MASK = "***"


class Secret(Generic[T]):
    """Wraps a secret value. `str()`, `repr()`, f-strings and loggers see `***`."""

    __slots__ = ("__value",)

    def __init__(self, value: T) -> None:
        self.__value = value

    def reveal(self) -> T:
        """The value itself. Every call site is a place to review."""
        return self.__value

    def __repr__(self) -> str:
        return f"Secret({_MASK})"

    def __str__(self) -> str:
        return _MASK

    def __format__(self, spec: str) -> str:
        return _MASK

    def __eq__(self, other: object) -> bool:
        """Secrets never compare: use hmac.compare_digest over what reveal() gives."""
        raise TypeError("a Secret does not compare; reveal it and use hmac.compare_digest")

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")

    def __copy__(self) -> NoReturn:
        raise TypeError("a Secret cannot be copied")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError("a Secret cannot be copied")

    def __iter__(self) -> NoReturn:
        raise TypeError("a Secret cannot be iterated")
