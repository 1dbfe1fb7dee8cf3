"""What waits, kept in step with the broker by one thread on WatchPending. Decides nothing, draws nothing."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from grantd.client import Client
from grantd.errors import GrantdError, Unavailable, Unreachable
from grantd.v1.approval_pb2 import PendingItem, WatchPendingRequest, WatchPendingResponse
from grantd.v1.glass_pb2 import BreakGlass

_SILENCE_SECONDS: Final = 50.0
"""The broker gives a sign of life every 20 s."""
_RECONNECT_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Added:
    """Waits now, or waits on with other fields."""

    item: PendingItem


@dataclass(frozen=True, slots=True)
class Gone:
    """Waits no longer."""

    id: str
    state: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """A sealed credential was used, and no owner looked at it yet."""

    glass: BreakGlass


@dataclass(frozen=True, slots=True)
class InStep:
    """Everything that waits was told; ids that were not are gone."""

    ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Lost:
    """The broker is away; tried again by itself."""

    error: GrantdError


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker will not tell us; nothing more comes."""

    error: GrantdError


News: TypeAlias = Added | Gone | Alarm | InStep | Lost | Refused


class Feed:
    """Follows WatchPending until closed.

    Args:
        wake: called after each piece of news was put into `news`, from the feed's thread.
    """

    def __init__(self, client: Client, wake: Callable[[], None]) -> None:
        self.news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._client = client
        self._wake = wake
        self._closed = threading.Event()
        self._heard_at = time.monotonic()
        self._thread = threading.Thread(target=self._follow, name="grantctl-pending", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop telling. The thread ends with its stream, at the latest when the client closes."""
        self._closed.set()

    @property
    def silent(self) -> bool:
        """Whether the broker gave no sign of life for too long: what is shown may be old."""
        return time.monotonic() - self._heard_at > _SILENCE_SECONDS

    def _follow(self) -> None:
        while not self._closed.is_set():
            try:
                self._listen()
            except (Unreachable, Unavailable) as away:
                self._tell(Lost(away))
            except GrantdError as refused:
                self._tell(Refused(refused))
                return
            self._closed.wait(_RECONNECT_SECONDS)

    def _listen(self) -> None:
        told: set[str] = set()
        in_step = False
        for change in self._client.stream(self._client.approvals.WatchPending, WatchPendingRequest()):
            if self._closed.is_set():
                return
            self._heard_at = time.monotonic()
            if change.WhichOneof("change") == "in_step":
                if not in_step:
                    self._tell(InStep(frozenset(told)))
                in_step = True
                continue
            news = _news(change)
            if isinstance(news, Added) and not in_step:
                told.add(news.item.id)
            if news is not None:
                self._tell(news)

    def _tell(self, news: News) -> None:
        if not self._closed.is_set():
            self.news.put(news)
            self._wake()


def _news(change: WatchPendingResponse) -> News | None:
    match change.WhichOneof("change"):
        case "added":
            return Added(change.added)
        case "gone":
            return Gone(change.gone.id, change.gone.state)
        case "alarm":
            return Alarm(change.alarm)
        case _:
            return None
