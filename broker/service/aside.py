"""Work that takes long and holds no row, in a thread beside the loop: one piece at a time, whoever asks (I-60)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from broker.service.shield import to_the_end

T = TypeVar("T")


class Aside:
    """One place, free again when the thread is done, not when a caller stops waiting.

    Calls that are given up at once and made again would else fill every thread that audit and store need.
    """

    def __init__(self) -> None:
        self._place = asyncio.Lock()

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises, after those that came before."""
        async with self._place:
            return await to_the_end(asyncio.to_thread(work))
