"""The recorder thread: a few a process, all disk work of their recordings. There is no way to run without them.

Sessions hand events over through a queue and never wait for the disk; their thread seals them into frames, syncs within
a second, and says so. Whatever goes wrong in here ends as `RecorderFailed` at every recording that it concerns; no
flag turns that into anything milder (I-30).
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Protocol

from recorder.errors import RecorderFailed
from recorder.track import Commitment, Limits, Outcome, PartCheckpoint, RecordingMeta, Track, queued_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from recorder.grec import Event
    from recorder.track import PartFile

__all__ = ["Commitment", "Limits", "Outcome", "PartCheckpoint", "RecorderThread", "RecordingMeta"]

_REST_S = 0.005  # how long little events gather, so that a keystroke is not slowed by the thread that records it
_LITTLE = 64 * 1024  # bytes; more end the rest
_MIN_TICK_S = 0.02  # how often at most all recordings are looked through
_IDLE_S = 3600.0
_ROOM_STEP = 512 * 1024  # bytes taken before the session is told of new room in between syncs
_BURST = 256  # operations taken before the timers are looked at again
_CLOCK_STEP_S = 0.5  # a wall clock that moves this far against the monotonic one was set


class Listener(Protocol):
    """The session's side of a recording. Called on the recorder thread; must only post to its own loop."""

    def room(self, size: int) -> None:
        """`size` bytes have left the queue."""

    def durable(self, count: int) -> None:
        """The first `count` events are durable."""

    def checkpointed(self, checkpoint: PartCheckpoint) -> None:
        """A commitment to audit."""

    def failed_with(self, error: BaseException) -> None:
        """This recording takes nothing more."""


class Recording:
    """A track and who listens to it, as the thread keeps it."""

    __slots__ = ("error", "listener", "room", "taken", "track")

    def __init__(self, track: Track, listener: Listener) -> None:
        self.track = track
        self.listener = listener
        self.error: BaseException | None = None
        self.room = 0  # bytes taken from the queue and not yet reported
        self.taken = 0  # events


class RecorderThread:
    """Start before the first session, close after the last. Several take turns (FileRecordingStore).

    Args:
        limits: the bounds; only tests shorten them.
        monotonic: seconds that never step.
        wall: seconds since 1970; only compared with `monotonic`, to note clock steps in recordings.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits or Limits()
        self._monotonic = monotonic
        self._wall = wall
        self._offset = wall() - monotonic()
        self._queue: queue.SimpleQueue[tuple[Recording, Event] | Callable[[], None]] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._gathered = 0  # bytes since the last rest; counted without a lock, for a miscount costs one rest
        self._live: set[Recording] = set()
        self._due = float("inf")
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._stopping = False

    def start(self) -> None:
        """Begin to take recordings."""
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Sync what is open, leave it without an end, and stop. Recordings that should read as final close first."""
        self.call(self._stop)
        self._thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        """Whether recordings are being taken."""
        return self._thread.is_alive() and not self._stopping

    def put(self, recording: Recording, event: Event) -> None:
        """Queue one event. Any thread; never blocks. Bounding the queue is the caller's part (`Limits.queue_bytes`)."""
        self._queue.put((recording, event))
        self._gathered += len(event.payload)
        if self._gathered >= _LITTLE and not self._hurry.is_set():
            self._hurry.set()

    def call(self, operation: Callable[[], None]) -> None:
        """Run `operation` on the thread, after everything queued before. It must catch its own errors."""
        self._queue.put(operation)
        self._hurry.set()

    # -- everything below runs on the thread ------------------------------------------------------------------------

    def open(self, meta: RecordingMeta, open_part: Callable[[int], PartFile], listener: Listener) -> Recording:
        """Create the recording, durably; OSError when it cannot be."""
        recording = Recording(Track(meta, self.limits, open_part, self._monotonic()), listener)
        self._live.add(recording)
        return recording

    def sync(self, recording: Recording) -> None:
        """Make everything queued so far durable; RecorderFailed when it is not."""
        self._guard(recording, self._sync)
        if recording.error is not None:
            raise RecorderFailed(str(recording.error)) from recording.error

    def seal(self, recording: Recording, outcome: Outcome) -> Commitment:
        """End the recording; RecorderFailed when it stays without an end."""
        self._live.discard(recording)
        failure = recording.error
        if failure is None:
            try:
                return recording.track.end(outcome)
            except OSError as error:
                self.fail(recording, error)
                failure = error
        commitment = recording.track.finish_failed(failure)
        if commitment is None:
            raise RecorderFailed("the recording has no end") from failure
        return commitment

    def fail(self, recording: Recording, error: BaseException) -> None:
        """From now on this recording takes nothing; the first reason stands."""
        if recording.error is None:
            recording.error = error
            recording.listener.failed_with(error)

    def discard(self, recording: Recording) -> None:
        """Let go of a recording that nobody waits for any more."""
        self._live.discard(recording)
        recording.track.abandon()

    def _stop(self) -> None:
        self._stopping = True

    def _run(self) -> None:
        error: BaseException = RecorderFailed("the recorder has stopped")
        try:
            while not self._stopping:
                self._turn()
                self._rest()
            for recording in tuple(self._live):
                self._guard(recording, self._sync)
        except BaseException as reason:  # noqa: BLE001 - whatever it was, every session must end
            error = reason
        self._stopping = True
        for recording in tuple(self._live):
            self.fail(recording, error)
            self.discard(recording)

    def _turn(self) -> None:
        """Do what is queued, or wait for it until the next timer; then what time demands."""
        for operation in self._batch():
            if isinstance(operation, tuple):
                self._take(*operation)
            else:
                operation()
        now = self._monotonic()
        if now >= self._due:
            self._tick(now)

    def _rest(self) -> None:
        """A thread that waits for the queue is woken by every event, and computes while the next byte is on its way."""
        self._hurry.wait(_REST_S)
        self._hurry.clear()  # whatever came with the hurry is in the queue by now
        self._gathered = 0

    def _batch(self) -> Iterator[tuple[Recording, Event] | Callable[[], None]]:
        try:
            yield self._queue.get(timeout=min(max(self._due - self._monotonic(), 0.0), _IDLE_S))
            for _ in range(_BURST):
                yield self._queue.get_nowait()
        except queue.Empty:
            return

    def _take(self, recording: Recording, event: Event) -> None:
        track = recording.track
        if recording.error is not None:
            track.lose(event)
            return
        recording.taken += 1
        recording.room += queued_cost(event)
        self._guard(recording, lambda each: self._keep(each, event))
        if recording.room >= _ROOM_STEP:
            self._report_room(recording)
        self._due = min(self._due, track.due)

    def _keep(self, recording: Recording, event: Event) -> None:
        track, now = recording.track, self._monotonic()
        track.take(event, now)
        if track.rotate_due(now):
            count = recording.taken
            for checkpoint in track.rotate(now):
                recording.listener.checkpointed(checkpoint)
            recording.listener.durable(count)
        elif track.sync_due:
            self._sync(recording)

    def _sync(self, recording: Recording) -> None:
        recording.track.sync()
        self._report_room(recording)
        recording.listener.durable(recording.taken)
        checkpoint = recording.track.progress(self._monotonic())
        if checkpoint is not None:
            recording.listener.checkpointed(checkpoint)

    def _report_room(self, recording: Recording) -> None:
        if recording.room:
            recording.listener.room(recording.room)
            recording.room = 0

    def _guard(self, recording: Recording, operation: Callable[[Recording], None]) -> None:
        """Do it; a recording whose disk says no fails alone."""
        if recording.error is not None:
            return
        try:
            operation(recording)
        except OSError as error:
            self.fail(recording, error)

    def _tick(self, now: float) -> None:
        step_us = self._clock_step_us()
        due = float("inf")
        for recording in tuple(self._live):
            if recording.error is not None:
                continue
            if step_us:
                self._guard(recording, lambda each: each.track.note({"clock_step_us": step_us}, now))
            if recording.track.due <= now:
                self._guard(recording, self._sync)
            due = min(due, recording.track.due)
        self._due = max(due, now + _MIN_TICK_S)

    def _clock_step_us(self) -> int:
        """How far the wall clock was set since the last look, 0 when it was not."""
        offset = self._wall() - self._monotonic()
        step_s = offset - self._offset
        if abs(step_s) < _CLOCK_STEP_S:
            return 0
        self._offset = offset
        return round(step_s * 1_000_000)
