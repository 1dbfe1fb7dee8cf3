"""Watching an open session: a stream that says every second that somebody still watches.

The broker counts a watcher whose program stopped, hangs or lost its network as gone after a few seconds, and holds the
input of a session that must be watched.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Final

from grantd.connection import Answers, drained
from grantd.errors import Unreachable
from grantd.v1.session_pb2 import (
    Pause,
    Present,
    Resume,
    WatchedEvent,
    WatchSessionRequest,
    WatchSessionResponse,
    WatchStart,
)

BEAT_SECONDS: Final = 1.0


class SessionWatch:
    """One watching. Iterate over it once; the other verbs may be called from any thread.

    The messages are `WatchSessionResponse`s: `joined` first, `ended` last; payloads are raw bytes of the target.
    """

    def __init__(
        self, method: Callable[[Iterator[WatchSessionRequest]], Answers[WatchSessionResponse]], start: WatchStart
    ) -> None:
        self._method, self._start = method, start
        self._wanted: queue.SimpleQueue[WatchSessionRequest | None] = queue.SimpleQueue()

    @property
    def reason(self) -> str:
        """Why, as it was given."""
        return self._start.reason

    def __iter__(self) -> Iterator[WatchSessionResponse]:
        """Raises GrantdError: not yours, over, too slow, not any more; or a broker that left something out."""
        following: int | None = None
        try:
            for message in drained(self._method(self._messages())):
                if message.HasField("joined"):
                    following = message.joined.first_seq
                for event in message.events.events:
                    following = _next(event, following)
                yield message
        finally:
            self.leave()

    def pause(self) -> None:
        """Hold the input of the session until somebody resumes it."""
        self._wanted.put(WatchSessionRequest(pause=Pause()))

    def resume(self) -> None:
        """Let the input through again."""
        self._wanted.put(WatchSessionRequest(resume=Resume()))

    def leave(self) -> None:
        """Stop watching. The iteration ends."""
        self._wanted.put(None)

    def _messages(self) -> Iterator[WatchSessionRequest]:
        yield WatchSessionRequest(start=self._start)
        while True:
            try:
                request = self._wanted.get(timeout=BEAT_SECONDS)
            except queue.Empty:
                request = WatchSessionRequest(present=Present())
            if request is None:
                return
            yield request


def _next(event: WatchedEvent, expected: int | None) -> int:
    """The number after this event's, which must be the expected one."""
    if event.seq != expected:
        raise Unreachable("broken_stream", "the broker left something of the session out", "watch it again")
    return event.seq + 1
