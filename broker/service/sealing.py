"""What every recorded session does at its side and at its end: notes its commitments, seals, says why it failed."""

from __future__ import annotations

import structlog

from broker.core.action import Outcome
from broker.service.closing import Ended
from broker.service.control import Ledger
from broker.service.ports import Session
from recorder.errors import RecorderFailed
from recorder.sink import RecordingSink
from recorder.track import Commitment
from recorder.track import Outcome as RecordedOutcome

log = structlog.get_logger()


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
