"""Nobody measures a broker that skipped its job: what ran must be in the sessions, on disk and in the log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Final

from bench.stage import BenchStage
from grantd.v1 import audit_pb2, session_pb2
from recorder.verify import verify_paths

_VERIFIED: Final = 100
"""Recordings whose every frame is checked."""
_LOG_WITHIN_S: Final = 20.0
_PAGE: Final = 100
_EVERY_RUN_LEAVES: Final = (
    "action.proposed", "action.running", "session.opened", "recording.opened", "recording.closed", "session.closed",
    "action.succeeded",
)  # fmt: skip


def must_be_on_record(stage: BenchStage, ran: Collection[str]) -> str:
    """A sentence on what was found. Raises RuntimeError where anything that ran left less than it has to."""
    _until_sealed(stage)
    sessions = {session.action_id: session for session in _sessions(stage)}
    for action in ran:
        session = sessions.get(action)
        if session is None or session.recording_state != "final" or not session.recording_root:
            raise RuntimeError(f"{action} ran without a finished recording")
    sealed = {session.recording_id for session in sessions.values() if session.recording_state == "final"}
    files = sorted(file for file in stage.data.glob("recordings/**/p0000.grec") if file.parent.name in sealed)
    if len(files) < len(ran):
        raise RuntimeError(f"{len(ran)} commands ran and left {len(files)} recordings")
    if wrong := [report for report in verify_paths(files[-_VERIFIED:]) if not report.ok]:
        raise RuntimeError(f"recordings do not verify: {wrong[0].lines()}")
    entries = _entries(stage, at_least=len(ran))
    stage.check_bundle(f"bundle{len(ran)}")
    return (
        f"{len(ran)} commands ran; each has its session and sealed recording, {min(len(files), _VERIFIED)} of them"
        f" read frame by frame; the log of {entries} entries verifies"
    )


def _until_sealed(stage: BenchStage) -> None:
    """Clients that hang up leave sessions that end a moment later. What is never sealed is found further on."""
    end = time.monotonic() + _LOG_WITHIN_S
    while any(session.state == "open" for session in _sessions(stage)) and time.monotonic() < end:
        time.sleep(0.1)


def _sessions(stage: BenchStage) -> Iterator[session_pb2.Session]:
    owner, token = stage.owner, ""
    while True:
        request = session_pb2.ListSessionsRequest(page_size=_PAGE, page_token=token)
        page = owner.call(owner.sessions.ListSessions, request)
        yield from page.sessions
        token = page.next_page_token
        if not token:
            return


def _entries(stage: BenchStage, *, at_least: int) -> int:
    """How many entries the log has, once it holds every kind that a run leaves as often as there were runs."""
    seen: Counter[str] = Counter()
    after, end = 0, time.monotonic() + _LOG_WITHIN_S
    while missing := [name for name in _EVERY_RUN_LEAVES if seen[name] < at_least]:
        page = stage.owner.call(
            stage.owner.audit.ListEvents,
            audit_pb2.ListEventsRequest(from_seq=after, page_size=_PAGE, reason="benchmark"),
        )
        seen.update(event.name for event in page.events)
        after = page.next_seq or after
        if not page.events:
            if time.monotonic() > end:
                raise RuntimeError(f"the log lacks {missing} for {at_least} commands: {dict(seen)}")
            time.sleep(0.2)
    return seen.total()
