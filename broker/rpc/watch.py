"""WatchSession: one stream in which a person watches one session, and says every second that they still do.

Who falls silent, or does not read, is gone: their watching ends, and whatever flowed because of it stops.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Final

from broker.core.errors import Blame, Refusal, invalid
from broker.core.ids import SessionId
from broker.rpc.call import Call, Send
from broker.rpc.convert.session import joined_out, oversight_out, session_out, watched_out
from broker.service.feed import Numbered
from broker.service.watch import Watch, WatchService, first_of
from grantd.v1 import session_pb2 as pb

FIRST_MESSAGE_S: Final = 10.0
SILENT_S: Final = 4.0
"""Without a message for so long a watcher no longer watches."""
MESSAGE_BYTES: Final = 64 * 1024
_EVENT_COST: Final = 32
"""Bytes of an event beside its payload, on the wire."""


class _Left(Exception):
    """The watcher has closed their side: they leave."""


class Watching:
    """One WatchSession stream."""

    def __init__(
        self, watch: WatchService, call: Call,
        requests: AsyncIterator[pb.WatchSessionRequest], send: Send[pb.WatchSessionResponse],
    ) -> None:  # fmt: skip
        self._watch, self._call = watch, call
        self._requests, self._answer = requests, send
        self._turn = asyncio.Lock()

    async def conduct(self) -> None:
        """The whole stream; returns at the session's end.

        Raises:
            Refusal: no beginning, not theirs to see, not any more, too slow, silent.
        """
        start = await self._first()
        self._call.ids.note(session_id=start.session_id)
        async with self._watch.watching(
            self._call.caller, SessionId(start.session_id), start.reason, only_look=start.only_look
        ) as watch:
            await self._send(joined=joined_out(watch))
            with contextlib.suppress(_Left):
                await self._until_over(watch)
                await self._end(watch)

    async def _end(self, watch: Watch) -> None:
        """The last word, once the session's row says how it ended."""
        watch.ended = "over"
        view = await self._watch.outcome(watch)
        self._call.ids.complete = True
        await self._send(ended=pb.WatchEnded(session=session_out(view)))

    async def _until_over(self, watch: Watch) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(self._hear(watch)), group.create_task(self._tell_standing(watch))]
                await self._show(watch.follower.snapshot.events)
                while events := await watch.follower.read():
                    await self._show(events)
                for task in beside:
                    task.cancel()
        except BaseExceptionGroup as several:
            raise first_of(several) from None

    async def _first(self) -> pb.WatchStart:
        try:
            async with asyncio.timeout(FIRST_MESSAGE_S):
                first = await anext(self._requests, None)
        except TimeoutError:
            first = None
        if first is None or first.WhichOneof("message") != "start":
            raise invalid("no_beginning", "the first message must be `start`", "send it within 10 s")
        return first.start

    async def _hear(self, watch: Watch) -> None:
        """Never returns: raises when the watcher is gone or silent."""
        while True:
            try:
                async with asyncio.timeout(SILENT_S):
                    request = await anext(self._requests, None)
            except TimeoutError:
                watch.ended = "vanished"
                raise _silent() from None
            if request is None:
                raise _Left
            match request.WhichOneof("message"):
                case "present":
                    pass
                case "pause":
                    await self._watch.pause(watch)
                case "resume":
                    await self._watch.resume(watch)
                case _:
                    raise invalid("unexpected_message", "after the first message: present, pause or resume")

    async def _tell_standing(self, watch: Watch) -> None:
        last = None
        with watch.live.oversight.heeded() as changed:
            while True:
                await changed.wait()
                changed.clear()
                if (standing := watch.live.oversight.standing()) != last:
                    await self._send(oversight=oversight_out(standing))
                    last = standing

    async def _show(self, events: Sequence[Numbered]) -> None:
        for some in _pieces(events):
            await self._send(events=pb.WatchedEvents(events=map(watched_out, some)))

    async def _send(
        self, *, joined: pb.WatchJoined | None = None, events: pb.WatchedEvents | None = None,
        oversight: pb.Oversight | None = None, ended: pb.WatchEnded | None = None,
    ) -> None:  # fmt: skip
        async with self._turn:
            await self._answer(pb.WatchSessionResponse(joined=joined, events=events, oversight=oversight, ended=ended))


def _pieces(events: Iterable[Numbered]) -> Iterator[list[Numbered]]:
    """Runs of events of about MESSAGE_BYTES; one event is at most 256 KiB."""
    piece: list[Numbered] = []
    size = 0
    for item in events:
        if piece and size + len(item.event.payload) > MESSAGE_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(item)
        size += len(item.event.payload) + _EVENT_COST
    if piece:
        yield piece


def _silent() -> Refusal:
    return Refusal(
        "watcher_silent",
        "nothing was heard of this watcher for some seconds",
        blame=Blame.EXPIRED,
        way_out="watch again, and send `present` every second",
    )
