"""Cleanup that runs to its end, however often its task is cancelled.

The cancellation is passed on afterwards (style.md rule 18).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def settled(work: Coroutine[Any, Any, T]) -> tuple[T, asyncio.CancelledError | None]:
    """What `work` returns, and the cancellation that came meanwhile: for work whose result must not get lost."""
    task = asyncio.ensure_future(work)  # noqa: TID251  its parent waits for it below, always
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    return task.result(), cancelled


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns or raises. The work itself must be bounded in time.

    Raises:
        asyncio.CancelledError: the caller was cancelled meanwhile; the work is done all the same.
    """
    task = asyncio.ensure_future(work)  # noqa: TID251  its parent waits for it below, always
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if (failure := task.exception()) is not None:
            raise cancelled from failure
        raise cancelled
    return task.result()
