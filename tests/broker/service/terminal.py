"""The far end of a session: what a caller was sent, and what they type."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta


class Terminal:
    """A caller's end: what it was sent, and what it types. `gone` makes it hang up at the next byte."""

    def __init__(self, journal: list[tuple[str, bytes]], typed: Sequence[bytes] = ()) -> None:
        self.out_bytes = self.err_bytes = b""
        self.warned: list[float] = []
        self.told: list[str] = []
        self.last: tuple[str, ...] = ()
        """The last lines, once it is over."""
        self.gone = False
        self._journal, self._typed = journal, iter([*typed, b""])
        self.failure: Exception | None = None

    async def out(self, data: bytes) -> None:
        self._send(data)
        self.out_bytes += data[: 1 << 20]

    async def err(self, data: bytes) -> None:
        self._send(data)
        self.err_bytes += data

    async def warn(self, left: timedelta) -> None:
        self.warned.append(left.total_seconds())

    async def tell(self, line: str) -> None:
        self.told.append(line)

    def over(self, lines: Sequence[str]) -> None:
        self.last = self.last or tuple(lines)

    async def read(self) -> bytes:
        if self.gone:
            raise ConnectionError
        return next(self._typed)

    def _send(self, data: bytes) -> None:
        if self.failure is not None:
            raise self.failure
        if self.gone:
            raise ConnectionError
        self._journal.append(("sent", data))
