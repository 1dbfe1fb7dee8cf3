"""Sessions and what was recorded of them, for the wire."""

from __future__ import annotations

from typing import assert_never

from broker.rpc.convert.scalars import moment, moment_or_none
from broker.service.feed import Numbered
from broker.service.oversight import Standing
from broker.service.search import Found, Looked
from broker.service.session import SessionView
from broker.service.watch import Watch
from grantd.v1 import session_pb2 as pb
from recorder.grec import Event
from recorder.outline import Command, Outline
from recorder.screen import Screen

_MAX_MARKERS, _MAX_LABEL = 2_000, 100  # in one message of at most 1 MiB


def session_out(view: SessionView) -> pb.Session:
    """A session as it stands."""
    session = view.session
    return pb.Session(
        id=session.id,
        grant_id=session.grant_id,
        action_id=session.action_id or "",
        identity_id=session.identity,
        identity_name=view.identity_name,
        target_id=session.target_id,
        target_name=view.target_name,
        login=session.login,
        kind=session.kind,
        door=session.door,
        recording_id=session.recording,
        state=session.state,
        opened_at=moment(session.opened_at),
        closed_at=moment_or_none(session.closed_at),
        end_reason=session.end_reason,
        recording_leaves=session.recording_leaves,
        recording_root=session.recording_root,
        recording_state=session.recording_state,
        command=view.command,
        oversight=oversight_out(view.oversight) if view.oversight else None,
    )


def oversight_out(standing: Standing) -> pb.Oversight:
    """How an open session stands."""
    return pb.Oversight(
        must_be_watched=standing.must_be_watched,
        paused=standing.paused,
        flows=standing.flows,
        watchers=standing.watchers,
    )


def joined_out(watch: Watch) -> pb.WatchJoined:
    """Where a watching begins."""
    snapshot = watch.follower.snapshot
    return pb.WatchJoined(
        session=session_out(watch.view),
        attends=watch.live.oversight.lets(watch.watcher),
        first_seq=snapshot.events[0].seq if snapshot.events else snapshot.next_seq,
        terminal=snapshot.terminal,
        columns=snapshot.columns,
        rows=snapshot.rows,
        restore=snapshot.restore,
    )


def watched_out(item: Numbered) -> pb.WatchedEvent:
    """One event as it was recorded; raw, whoever shows it escapes or filters it (I-11)."""
    event = item.event
    return pb.WatchedEvent(seq=item.seq, t_us=event.t_us, kind=event.kind, channel=event.chan, payload=event.payload)


def event_out(event: Event) -> pb.PlayRecordingResponse:
    """One recorded event; its payload is raw, whoever shows it escapes it (I-11)."""
    return pb.PlayRecordingResponse(t_us=event.t_us, kind=event.kind, channel=event.chan, payload=event.payload)


def outline_out(outline: Outline) -> pb.PlayRecordingResponse:
    """What a player knows before it plays."""
    shown = outline.commands[:_MAX_MARKERS]
    markers = [pb.RecordingMarker(t_us=each.t_us, label=_label(each)[:_MAX_LABEL]) for each in shown]
    told = pb.RecordingOutline(duration_us=outline.duration_us, terminal=outline.terminal, markers=markers)
    return pb.PlayRecordingResponse(outline=told)


def screen_out(screen: Screen) -> pb.PlayRecordingResponse:
    """The screen as it was; raw, as events are."""
    told = pb.RecordingScreen(columns=screen.columns, rows=screen.rows, drawing=screen.drawing)
    return pb.PlayRecordingResponse(screen=told)


def _label(command: Command) -> str:
    return "  ".join(filter(None, (command.verdict, command.text)))


def found_out(found: Found | Looked) -> pb.SearchRecordingsResponse:
    """A session in which something was found, or what was looked at in all."""
    match found:
        case Found(view=view, hits=hits):
            told = [pb.RecordingHit(t_us=hit.t_us, line=hit.line) for hit in hits]
            return pb.SearchRecordingsResponse(session=session_out(view), hits=told)
        case Looked(recordings=recordings, unreadable=unreadable):
            return pb.SearchRecordingsResponse(
                looked=pb.SearchedRecordings(recordings=recordings, unreadable=unreadable)
            )
    assert_never(found)
