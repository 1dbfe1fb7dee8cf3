"""SessionService: sessions, and their recordings in pieces. Whoever reads one is in the audit log first (I-33)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from broker.core.errors import exhausted
from broker.core.ids import SessionId
from broker.rpc.call import Call, Send
from broker.rpc.convert.session import event_out, found_out, outline_out, screen_out, session_out
from broker.rpc.threads import walked
from broker.rpc.watch import Watching
from broker.service.search import SearchService
from broker.service.session import SessionService
from broker.service.watch import WatchService
from grantd.v1 import session_pb2 as pb
from recorder.errors import ExportTooLong
from recorder.export.forms import Form, exported
from recorder.outline import outline_of

PIECE_BYTES = 256 * 1024
_PAGE = 50
_EVENTS_AT_ONCE = 256
_FORMS = {
    pb.EXPORT_FORM_CAST_V2: Form.CAST_V2,
    pb.EXPORT_FORM_CAST_V3: Form.CAST_V3,
    pb.EXPORT_FORM_HTML: Form.HTML,
    pb.EXPORT_FORM_TEXT: Form.TEXT,
}


class SessionServicer:
    """Translates; broker.service.session does the work."""

    def __init__(self, session: SessionService, watch: WatchService, search: SearchService) -> None:
        self._session, self._watch, self._search = session, watch, search

    async def ListSessions(self, request: pb.ListSessionsRequest, call: Call) -> pb.ListSessionsResponse:
        if request.open_only:
            running = await self._session.running(call.caller)
            return pb.ListSessionsResponse(sessions=[session_out(view) for view in running])
        size = request.page_size or _PAGE
        after = SessionId(request.page_token) if request.page_token else None
        found = await self._session.page(call.caller, after=after, limit=size)
        return pb.ListSessionsResponse(
            sessions=[session_out(view) for view in found.rows],
            next_page_token=found.next,
        )

    async def GetSession(self, request: pb.GetSessionRequest, call: Call) -> pb.GetSessionResponse:
        return pb.GetSessionResponse(
            session=session_out(await self._session.get(call.caller, SessionId(request.session_id)))
        )

    async def WatchSession(
        self, requests: AsyncIterator[pb.WatchSessionRequest], call: Call, send: Send[pb.WatchSessionResponse]
    ) -> None:
        await Watching(self._watch, call, requests, send).conduct()

    async def TerminateSession(self, request: pb.TerminateSessionRequest, call: Call) -> pb.TerminateSessionResponse:
        view = await self._session.terminate(call.caller, SessionId(request.session_id), request.reason)
        return pb.TerminateSessionResponse(session=session_out(view))

    async def PlayRecording(
        self, request: pb.PlayRecordingRequest, call: Call
    ) -> AsyncIterator[pb.PlayRecordingResponse]:
        reader, asked = await self._session.review(call.caller, SessionId(request.session_id), request.reason)
        if request.with_outline:
            yield outline_out(await asyncio.to_thread(lambda: outline_of(reader.events(), asked)))
        if request.with_screen:
            yield screen_out(await asyncio.to_thread(reader.screen, request.from_us))
        async for event in walked(reader.events(request.from_us), at_once=_EVENTS_AT_ONCE):
            yield event_out(event)

    async def FetchRecording(
        self, request: pb.FetchRecordingRequest, call: Call
    ) -> AsyncIterator[pb.FetchRecordingResponse]:
        reader = await self._session.fetch(call.caller, SessionId(request.session_id), request.reason)
        async for part, piece in walked(reader.pieces(PIECE_BYTES), at_once=1):
            yield pb.FetchRecordingResponse(part=part, data=piece)

    async def ExportRecording(
        self, request: pb.ExportRecordingRequest, call: Call
    ) -> AsyncIterator[pb.ExportRecordingResponse]:
        form = _FORMS[request.form]
        reader, about = await self._session.export(
            call.caller, SessionId(request.session_id), request.reason, form=form, with_input=request.with_input
        )
        pieces = exported(form, reader.events(), about, with_input=request.with_input)
        try:
            async for piece in walked(pieces, at_once=1):
                yield pb.ExportRecordingResponse(data=piece)
        except ExportTooLong as error:
            raise exhausted(
                "recording_too_long", "this recording is too long for a file that a browser can play",
                "export it as an asciicast",
            ) from error  # fmt: skip

    async def SearchRecordings(
        self, request: pb.SearchRecordingsRequest, call: Call
    ) -> AsyncIterator[pb.SearchRecordingsResponse]:
        async with aclosing(self._search.search(call.caller, request.word, request.reason)) as everything:
            async for found in everything:
                yield found_out(found)
