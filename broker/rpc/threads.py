"""Walking through an iterator that blocks on the disk without holding up the loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


async def walked(items: Iterator[T], *, at_once: int) -> AsyncIterator[T]:
    """The items, `at_once` of them for each trip to a thread. A walk that is broken off closes the iterator."""
    try:
        while batch := await asyncio.to_thread(lambda: list(islice(items, at_once))):
            for item in batch:
                yield item
    finally:
        with contextlib.suppress(
            AttributeError, ValueError
        ):  # no generator, or still inside its thread: then it ends there
            items.close()  # type: ignore[attr-defined]
