"""Many at once: what several tests of a store have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from broker.core.errors import Refusal, StoreFault
from broker.service.ports import Tx
from tests.broker.adapters.store import samples

T = TypeVar("T")
RACERS = 20
GAP_SECONDS = 0.01
"""Between looking and writing in a race: time for the others to look as well, where a database lets them."""


async def race(attempts: Sequence[Awaitable[T]]) -> list[T | BaseException]:
    """Runs them at once; what each returned or raised."""

    async def outcome(attempt: Awaitable[T]) -> T | BaseException:
        try:
            return await attempt
        except (Refusal, StoreFault, LookupError) as error:
            return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(outcome(attempt)) for attempt in attempts]
    return [task.result() for task in tasks]


def each(put: Callable[[T], None], values: Sequence[T]) -> None:
    """Puts them all, in one unit."""
    for value in values:
        put(value)


def adds_team(number: int) -> Callable[[Tx], None]:
    """A unit that writes one row."""
    return lambda tx: tx.teams.put(samples.team(number))
