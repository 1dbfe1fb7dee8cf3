"""What every recorded session does at its side and at its end: notes its commitments, seals, says why it failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Final

import structlog

from broker.core.action import Outcome
from broker.core.grant import EndReason
from broker.service.closing import Ended
from broker.service.control import Ledger
from broker.service.ports import Session
from recorder.errors import RecorderFailed
from recorder.sink import RecordingSink
from recorder.track import Commitment
from recorder.track import Outcome as RecordedOutcome

log = structlog.get_logger()
AT_ONCE: Final = 8
"""Recordings of sessions that were cut which are sealed side by side."""
LONGEST_S: Final = 1.0
"""For which one that ran out waits for the ends that are about to come."""
KEPT_S: Final = 0.2
"""For which one that is being sealed keeps its place."""
_EXPIRED: Final = EndReason.EXPIRED.value


async def note_checkpoints(ledger: Ledger, session: Session, sink: RecordingSink) -> None:
    """Every 60 s of a long session: what its recording has committed to, durable in the log. Never returns."""
    while True:
        checkpoint = await sink.checkpoints.get()
        if not checkpoint.final:
            await ledger.note(session, leaves=checkpoint.leaves, root=checkpoint.root)


async def seal(sink: RecordingSink, ended: Ended) -> Commitment | None:
    """The commitment, or None where the recorder failed: the recording then reads as truncated, never as finished."""
    outcome = ended.outcome
    try:
        return await sink.close(
            RecordedOutcome(
                reason=outcome.reason or ("cut" if ended.cut else "exit"),
                status=outcome.exit_status,
                signal=outcome.signal or None,
            )
        )
    except RecorderFailed as failure:
        log.error("recording.failed", recording=sink.rec, cause=str(failure))  # noqa: TRY400
        return None


async def at_once(_longest: float) -> None:
    """Waits for nobody."""


class Turns:
    """Seals what was cut in turn, so that the loop stays with those whose end is yet to come.

    Whoever was in such a session was let go inside the cut, and nothing of it runs on the target any more. A session
    that came to its own end waits for no turn; and for calm waits none that somebody took away.
    """

    def __init__(self, until_calm: Callable[[float], Awaitable[None]] = at_once) -> None:
        """`until_calm` returns once no end is about to come, after that many seconds at most."""
        self._until_calm = until_calm
        self._places = asyncio.Semaphore(AT_ONCE)

    async def seal(self, sink: RecordingSink, ended: Ended) -> Commitment | None:
        """As `seal`."""
        if not ended.cut:
            return await seal(sink, ended)
        if ended.outcome.reason == _EXPIRED:
            await self._until_calm(LONGEST_S)
        await self._places.acquire()
        with ExitStack() as place:
            place.callback(self._places.release)
            # a disk that stalls lets all wait for it together, and not one after another
            kept = asyncio.get_running_loop().call_later(KEPT_S, place.close)
            try:
                return await seal(sink, ended)
            finally:
                kept.cancel()


def failed_to_run(failure: Exception) -> Ended:
    """How a session ended that an error ended."""
    reason = getattr(failure, "code", "") or (
        "recorder_failed" if isinstance(failure, RecorderFailed) else "broker_error"
    )
    return Ended(outcome=Outcome(exit_status=None, signal="", reason=reason), cut=reason == "recorder_failed")


def first(group: BaseExceptionGroup[Exception]) -> Exception:
    """The first leaf: guards and pump raise one at a time, the rest are its echoes."""
    found = group.exceptions[0]
    return first(found) if isinstance(found, BaseExceptionGroup) else found
