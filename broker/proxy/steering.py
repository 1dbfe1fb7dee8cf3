"""What a client says beside its bytes while a command runs: a window that changes, a signal. Bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from typing import Final

from broker.core.terminal import Signal, Size, Terminal

_WAITING: Final = 16
"""Signals that wait at most; a client that sends more loses the oldest."""


class ClientSteering:
    """As broker.service.pump.Steering: the newest size, and the signals in their order."""

    def __init__(self) -> None:
        self._terminal: Terminal | None = None
        self._size: Size | None = None
        self._signals: deque[Signal] = deque(maxlen=_WAITING)
        self._news = asyncio.Event()

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
            if self._size is not None:
                size, self._size = self._size, None
                return size
            self._news.clear()
            await self._news.wait()
