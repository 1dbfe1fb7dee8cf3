"""Looking back over the wire: recordings played, fetched and searched, the log read and proved."""

from __future__ import annotations

import json

from broker.core.ids import SessionId
from grantd.v1 import audit_pb2, session_pb2
from grantd.v1.audit_pb2_grpc import AuditServiceStub
from grantd.v1.session_pb2_grpc import SessionServiceStub
from tests.broker.rpc.agent import granted, run, start
from tests.broker.rpc.calls import refusal_of
from tests.broker.rpc.world import House


async def test_a_recording_is_played_and_fetched_by_name_and_reason(house: House) -> None:
    """I-33: the reader is in the log before the first byte; the sealed file verifies without a key."""
    grant = await granted(house)
    async with house.channel(house.people["agent"]) as agent:
        seen = await run(agent, start(grant, "seq 1 50000"))
    session = seen.finished.session_id
    async with house.channel(house.people["manager"]) as channel:
        stub = SessionServiceStub(channel)
        listed = await stub.ListSessions(session_pb2.ListSessionsRequest())
        assert [row.id for row in listed.sessions] == [session]
        assert listed.sessions[0].command == b"seq 1 50000"
        told = (await stub.GetSession(session_pb2.GetSessionRequest(session_id=session))).session
        assert (told.state, told.recording_state, told.identity_name) == ("closed", "final", "agent")
        play = session_pb2.PlayRecordingRequest(session_id=session, reason="review")
        events = [event async for event in stub.PlayRecording(play)]
        assert b"".join(e.payload for e in events if e.kind == 1) == seen.out
        play.with_outline = play.with_screen = True
        play.from_us = events[-1].t_us
        outline, screen, *rest = [told async for told in stub.PlayRecording(play)]
        assert (outline.outline.duration_us, outline.outline.terminal) == (events[-1].t_us, False)
        assert [marker.label.split("  ")[-1] for marker in outline.outline.markers] == ["seq 1 50000"]
        before = b"".join(e.payload for e in events if e.kind == 1 and e.t_us < play.from_us)
        assert screen.screen.drawing == before[-64 * 1024 :]
        assert rest == [event for event in events if event.t_us >= play.from_us]
        fetch = session_pb2.FetchRecordingRequest(session_id=session, reason="keep")
        pieces = [piece async for piece in stub.FetchRecording(fetch)]
        assert {piece.part for piece in pieces} == {0}
        assert max(len(piece.data) for piece in pieces) <= 256 * 1024
        form = session_pb2.EXPORT_FORM_CAST_V3
        export = session_pb2.ExportRecordingRequest(session_id=session, reason="show", form=form)
        cast = b"".join([piece.data async for piece in stub.ExportRecording(export)])
        lines = [json.loads(line) for line in cast.decode().splitlines()]
        assert "".join(text for _, code, text in lines[1:] if code == "o").replace("\r", "").encode() == seen.out
        assert f"({house.people['manager'].row.id})" in lines[0]["grantd"]["exported by"]
        export.form = session_pb2.EXPORT_FORM_HTML
        assert b"".join([piece.data async for piece in stub.ExportRecording(export)]).startswith(b"<!DOCTYPE html>")
        export.form = session_pb2.EXPORT_FORM_UNSPECIFIED
        assert await refusal_of(anext(aiter(stub.ExportRecording(export)))) == ("INVALID_ARGUMENT", "bad_field")
        await stub.TerminateSession(session_pb2.TerminateSessionRequest(session_id=session, reason="late"))
    names = await house.events()
    assert names.count("recording.exported") == 3
    assert names.index("recording.viewed") > names.index("session.closed")
    assert "recording.exported" in names


async def test_recordings_are_searched_by_those_who_may_see_them(house: House) -> None:
    """I-33: the word and the searcher are in the log before an answer, each recording shown from as a reading."""
    grant = await granted(house)
    async with house.channel(house.people["agent"]) as agent:
        one = await run(agent, start(grant, "echo a Needle in it"))
        await run(agent, start(grant, "echo nothing"))
    request = session_pb2.SearchRecordingsRequest(word="needle", reason="incident")
    async with house.channel(house.people["manager"]) as channel:
        stub = SessionServiceStub(channel)
        for filters in (False, True):
            if filters:
                assert await house.cases.search.index(
                    house.people["agent"].row.tenant, SessionId(one.finished.session_id)
                )
                assert not await house.cases.search.index(
                    house.people["agent"].row.tenant, SessionId(one.finished.session_id)
                )
            found, looked = [answer async for answer in stub.SearchRecordings(request)]
            assert found.session.id == one.finished.session_id
            assert [hit.line for hit in found.hits] == ["echo a Needle in it", "a Needle in it"]
            assert (looked.looked.recordings, looked.looked.unreadable) == (2, 0)
        nothing = session_pb2.SearchRecordingsRequest(word="--")
        assert await refusal_of(anext(aiter(stub.SearchRecordings(nothing)))) == ("INVALID_ARGUMENT", "bad_word")
    names = await house.events()
    assert names.count("recording.searched") == names.count("recording.viewed") == 2
    assert names.index("recording.searched") < names.index("recording.viewed")
    async with house.channel(house.people["agent"]) as channel:
        refused = SessionServiceStub(channel).SearchRecordings(request)
        assert await refusal_of(anext(aiter(refused))) == ("PERMISSION_DENIED", "not_permitted")


async def test_the_log_is_read_and_proved_over_the_wire(house: House) -> None:
    """Heads, proofs, pages and a bundle; each read of entries is an entry itself."""
    await granted(house)
    names = await house.events()
    async with house.channel(house.people["admin"]) as channel:
        stub = AuditServiceStub(channel)
        page = await stub.ListEvents(audit_pb2.ListEventsRequest(page_size=2, reason="look"))
        assert [event.name for event in page.events] == names[:2]
        assert page.next_seq == 2
        head = await stub.GetCheckpoint(audit_pb2.GetCheckpointRequest())
        assert head.vkey.encode().split(b"+")[0] in head.note
        proof = await stub.ProveInclusion(audit_pb2.ProveInclusionRequest(seq=0))
        assert proof.size == len(names)
        assert (await stub.ProveConsistency(audit_pb2.ProveConsistencyRequest(from_size=1))).to_size == len(names)
        missing = stub.ProveInclusion(audit_pb2.ProveInclusionRequest(seq=10_000))
        assert await refusal_of(missing) == ("NOT_FOUND", "no_such_leaf")
        pieces = [piece async for piece in stub.ExportBundle(audit_pb2.ExportBundleRequest(reason="keep"))]
        assert pieces
        assert max(len(piece.data) for piece in pieces) <= 256 * 1024
    assert (await house.events())[-2:] == ["audit.viewed", "audit.exported"]
