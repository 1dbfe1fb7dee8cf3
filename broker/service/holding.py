"""What a session does while its input is held: tells the person in it, and ends where nobody comes for too long."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from broker.service.live import LiveSession
from broker.service.oversight import Standing
from broker.service.pump import CutShort, Warned

UNWATCHED: Final = "unwatched"
"""Why such a session ends."""
_TOLD_WITHIN_S = 5.0
_FLOWS: Final = "your input goes through again"


async def hold(live: LiveSession, warned: Warned, *, unwatched_for: float) -> None:
    """Beside a session, as long as it runs.

    Args:
        live: the session.
        warned: who is told.
        unwatched_for: seconds for which input may be held while nobody is there who could let it flow.

    Raises:
        CutShort: `unwatched`, after that.
    """
    async with asyncio.TaskGroup() as group:
        group.create_task(_tell(live, warned))
        group.create_task(_cut_unwatched(live, unwatched_for))


async def _tell(live: LiveSession, warned: Warned) -> None:
    """Every change of what the person may know; one that is over before it could be told is not told."""
    told = _FLOWS
    with live.oversight.heeded() as changed:
        while True:
            changed.clear()
            if (now := _words(live.oversight.standing())) != told:
                told = now
                with contextlib.suppress(TimeoutError, ConnectionError):  # a caller that does not read
                    async with asyncio.timeout(_TOLD_WITHIN_S):
                        await warned.tell(now)
            await changed.wait()


async def _cut_unwatched(live: LiveSession, unwatched_for: float) -> None:
    with live.oversight.heeded() as changed:
        while True:
            changed.clear()
            if not _is_forsaken(live.oversight.standing()):
                await changed.wait()
                continue
            try:
                async with asyncio.timeout(unwatched_for):
                    while _is_forsaken(live.oversight.standing()):
                        await changed.wait()
                        changed.clear()
            except TimeoutError:
                raise CutShort(UNWATCHED) from None


def _is_forsaken(standing: Standing) -> bool:
    """Held, and nobody there who could let it flow."""
    return not standing.flows and not standing.attended


def _words(standing: Standing) -> str:
    if standing.flows:
        return _FLOWS
    if standing.paused:
        return "held: an operator paused your input"
    return "held: this must be watched, and nobody watches; nothing goes to the target until somebody does"
