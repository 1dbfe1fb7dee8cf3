"""What a client says beside its bytes while a command runs: a window that changes, a signal. Bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import Final

from broker.core.terminal import Signal, Size, Terminal

_WAITING: Final = 16
"""Signals that wait at most; a client that sends more loses the oldest."""
APART_S: Final = 0.05
"""Between two sizes that are told: each is recorded, and a client may send thousands (I-60). The newest stays."""


class ClientSteering:
    """As broker.service.pump.Steering: the newest size, and the signals in their order."""

    def __init__(self) -> None:
        self._terminal: Terminal | None = None
        self._size: Size | None = None
        self._signals: deque[Signal] = deque(maxlen=_WAITING)
        self._news = asyncio.Event()
        self._next_size_at = 0.0

    @property
    def has_terminal(self) -> bool:
        """Whether the client asked for one, and got it."""
        return self._terminal is not None

    @property
    def terminal(self) -> Terminal:
        """As it is now; a usual one where none was asked for."""
        return self._terminal or Terminal()

    def open(self, terminal: Terminal) -> None:
        """The client's terminal, before its command."""
        self._terminal = terminal

    def resized(self, size: Size) -> None:
        """The client's window has another size now."""
        if self._terminal is not None:
            self._terminal = replace(self._terminal, size=size)
            self._size = size
            self._news.set()

    def signalled(self, signal: Signal) -> None:
        """The client sends its command a signal."""
        self._signals.append(signal)
        self._news.set()

    async def next(self) -> Size | Signal:
        """As Steering."""
        while True:
            if self._signals:
                return self._signals.popleft()
            now = asyncio.get_running_loop().time()
            if self._size is not None and now >= self._next_size_at:
                size, self._size = self._size, None
                self._next_size_at = now + APART_S
                return size
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(None if self._size is None else self._next_size_at):
                    await self._news.wait()
