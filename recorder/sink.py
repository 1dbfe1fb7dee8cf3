"""One recording as its session sees it: accepts an event or raises, says when to slow down, says when all is lost.

Runs on the session's event loop and never touches a disk. `event` returns once the recorder thread's bounded queue
holds the bytes: then, and only then, may they be sent on (I-30). A failed recorder raises at once and sets `failed`.

A disk that stalls is waited for: what is sent on is never more than a second, nor more than the queue, ahead of what is
durable. So a crash loses no more while the disk stalls than at any other time, and a slow disk ends no session.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from recorder import grec
from recorder.errors import RecorderFailed
from recorder.grec import Event, Kind
from recorder.track import queued_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from recorder.writer import Commitment, Outcome, PartCheckpoint, RecorderThread, Recording

    Tap = Callable[[Event], None]

_PIECE = 64 * 1024  # bytes of a byte stream in one event
_STREAMS = frozenset({Kind.OUT, Kind.ERR, Kind.IN})
_JSON = frozenset({Kind.EXEC, Kind.EXIT, Kind.SFTP, Kind.FWD, Kind.MARK, Kind.GAP, Kind.CHAN, Kind.META, Kind.REDACT})
_BUCKET_S = 0.1  # how finely the age of events that are not yet durable is known
_SECOND_LOOK_S = 0.05  # an overdue answer may already be waiting in the loop


class RecordingSink:
    """The recording of one session. Made by a store's `create`, used on one loop, closed once.

    Attributes:
        rec: the recording's id.
        opened: the durable commitment to audit as `recording.opened` before the first byte is sent on.
        failed: set when the recorder can no longer keep anything: end the session within a second.
        checkpoints: commitments to audit as `recording.checkpoint`, or as `recording.closed` where `final`.
        tap: told of each event once it is accepted, in the recording's order; may neither wait nor fail.
    """

    def __init__(self, rec: str, thread: RecorderThread, monotonic: Callable[[], float]) -> None:
        self.rec = rec
        self.failed = asyncio.Event()
        self.checkpoints: asyncio.Queue[PartCheckpoint] = asyncio.Queue()
        self.tap: Tap | None = None
        self.opened: PartCheckpoint
        self._recording: Recording
        self._thread = thread
        self._loop = asyncio.get_running_loop()
        self._monotonic = monotonic
        self._start = monotonic()
        self._last_t = 0
        self._failure: RecorderFailed | None = None
        self._queued = 0  # bytes
        self._accepted = self._durable = 0  # events
        self._ages: deque[tuple[float, int]] = deque()  # (time of a bucket's first event, number of its last)
        self._watch: asyncio.TimerHandle | None = None
        self._roomy: asyncio.Event = asyncio.Event()
        self._pending: set[asyncio.Future[object]] = set()
        self._sealed: asyncio.Future[object] | None = None

    def begin(self, recording: Recording, opened: PartCheckpoint) -> None:
        """Called once by the store when the header is durable."""
        self._recording = recording
        self.opened = opened

    @property
    def failure(self) -> RecorderFailed | None:
        """Why `failed` is set."""
        return self._failure

    def lag_s(self) -> float:
        """Age in seconds of the oldest accepted event that is not durable yet; 0 when all are."""
        return self._monotonic() - self._ages[0][0] if self._ages else 0.0

    async def event(self, kind: Kind, chan: int, data: bytes, *, t_us: int | None = None) -> None:
        """Accept one event; while more than 4 MiB, or anything for longer than a second, wait for the disk, wait too.

        Long byte streams become several events. `t_us` counts from the start and never runs backwards: an earlier
        time is moved up to the last one.

        Raises:
            RecorderFailed: nothing of this may be sent on.
            ValueError: not an event: a JSON kind without a JSON object, or too long.
        """
        if kind in _JSON and not isinstance(json.loads(data), dict):
            raise ValueError(f"{kind.name} carries a JSON object")
        if kind not in _STREAMS and len(data) > grec.MAX_PAYLOAD:
            raise ValueError(f"{kind.name} is longer than {grec.MAX_PAYLOAD} bytes")
        for piece in _pieces(kind, data):
            await self._room_for_more()
            self._accept(Event(self._time(t_us), kind, chan, piece))

    async def marker(self, label: str, code: str, audit_id: str) -> None:
        """Mark a decision in the recording; `label` may be anything, it is escaped wherever it is shown."""
        payload = grec.json_payload({"label": label, "code": code, "audit": audit_id})
        await self.event(Kind.MARK, 0, payload)

    async def sync(self) -> None:
        """Return once every event accepted so far is durable."""
        self._check()
        if self._durable == self._accepted:
            return
        await self._ask(lambda: self._thread.sync(self._recording))

    async def close(self, outcome: Outcome) -> Commitment:
        """Seal the recording. May be called again, and after a failure; the first outcome stands.

        Cancelling the caller does not stop the sealing.

        Raises:
            RecorderFailed: the recording stays without an end; it will read as truncated.
        """
        if self._sealed is None:
            if not self._thread.alive:
                raise RecorderFailed("the recorder has stopped")
            self._sealed = self._send(lambda: self._thread.seal(self._recording, outcome))
        commitment: Commitment = await self._answer(self._sealed)  # type: ignore[assignment]
        self._stop_watching()
        return commitment

    def _time(self, t_us: int | None) -> int:
        elapsed = int((self._monotonic() - self._start) * 1_000_000) if t_us is None else t_us
        self._last_t = max(elapsed, self._last_t)
        return self._last_t

    async def _room_for_more(self) -> None:
        self._check()
        while self._is_behind():
            self._roomy.clear()
            await self._roomy.wait()
            self._check()

    def _is_behind(self) -> bool:
        """Whether more may not be sent on: what waits for the disk is too much or too old."""
        limits = self._thread.limits
        return self._queued >= limits.queue_bytes or self.lag_s() >= limits.hold_s

    def _check(self) -> None:
        if self._failure is not None:
            raise RecorderFailed(str(self._failure)) from self._failure
        if self._sealed is not None:
            raise RecorderFailed("the recording is closed")
        if not self._thread.alive:
            raise RecorderFailed("the recorder has stopped")

    def _accept(self, event: Event) -> None:
        now = self._monotonic()
        self._queued += queued_cost(event)
        self._accepted += 1
        if self._ages and now - self._ages[-1][0] < _BUCKET_S:
            self._ages[-1] = (self._ages[-1][0], self._accepted)
        else:
            self._ages.append((now, self._accepted))
        if self._watch is None:
            self._watch = self._loop.call_later(self._thread.limits.lag_s, self._look, False)  # noqa: FBT003
        self._thread.put(self._recording, event)
        if self.tap is not None:
            self.tap(event)

    def _look(self, again: bool) -> None:  # noqa: FBT001 - a loop callback takes no keywords
        """A disk that does not come back ends the session: the oldest event waits for it no longer than `lag_s`."""
        self._watch = None
        if not self._ages:
            return
        left_s = self._ages[0][0] + self._thread.limits.lag_s - self._monotonic()
        if left_s <= 0 and again:
            self._fail(RecorderFailed(f"not durable after {self._thread.limits.lag_s} s"))
            return
        self._watch = self._loop.call_later(max(left_s, _SECOND_LOOK_S), self._look, left_s <= 0)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _fail(self, error: BaseException) -> None:
        if self._failure is not None:
            return
        self._failure = error if isinstance(error, RecorderFailed) else RecorderFailed(f"recorder: {error}")
        self._stop_watching()
        failure = self._failure
        self._thread.call(lambda: self._thread.fail(self._recording, failure))
        self.failed.set()
        self._roomy.set()
        for future in self._pending - {self._sealed}:
            _resolve(future, failure)

    async def _ask(self, operation: Callable[[], object]) -> None:
        await self._answer(self._send(operation))

    def _send(self, operation: Callable[[], object]) -> asyncio.Future[object]:
        """Run operation on the thread; the future holds its result, or the error as a value."""
        future: asyncio.Future[object] = self._loop.create_future()
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        self._thread.call(lambda: self._post(_resolve, future, _outcome_of(operation)))
        return future

    async def _answer(self, future: asyncio.Future[object]) -> object:
        limits = self._thread.limits
        try:
            async with asyncio.timeout(limits.lag_s + limits.open_s):  # the disk may stall meanwhile: `_look` judges it
                answer = await asyncio.shield(future)
        except TimeoutError as error:
            failure = RecorderFailed("the recorder does not answer")
            self._fail(failure)
            raise failure from error
        if isinstance(answer, BaseException):
            raise RecorderFailed(str(answer)) from answer
        return answer

    # -- called on the recorder thread: only post to the loop ---------------------------------------------------------

    def room(self, size: int) -> None:
        """`size` bytes have left the queue."""
        self._post(self._on_room, size)

    def durable(self, count: int) -> None:
        """The first `count` events are durable."""
        self._post(self._on_durable, count)

    def checkpointed(self, checkpoint: PartCheckpoint) -> None:
        """A commitment to audit."""
        self._post(self.checkpoints.put_nowait, checkpoint)

    def failed_with(self, error: BaseException) -> None:
        """This recording takes nothing more."""
        self._post(self._fail, error)

    def _post(self, callback: Callable[..., object], *args: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(callback, *args)

    def _on_room(self, size: int) -> None:
        self._queued -= size
        self._roomy.set()

    def _on_durable(self, count: int) -> None:
        self._durable = count
        while self._ages and self._ages[0][1] <= count:
            self._ages.popleft()
        self._roomy.set()


def _pieces(kind: Kind, data: bytes) -> Iterator[bytes]:
    if kind not in _STREAMS or len(data) <= _PIECE:
        yield bytes(data)
        return
    for start in range(0, len(data), _PIECE):
        yield bytes(data[start : start + _PIECE])


def _resolve(future: asyncio.Future[object], answer: object) -> None:
    if not future.done():
        future.set_result(answer)


def _outcome_of(operation: Callable[[], object]) -> object:
    """The result, or the error as a value: an error nobody waits for any more must not be logged as unretrieved."""
    try:
        return operation()
    except Exception as error:  # noqa: BLE001 - handed to the waiter, who raises it
        return error
