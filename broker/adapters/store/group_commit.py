"""One thread that runs units of work and commits them in batches. Never acknowledges before the commit returned.

A caller hears its unit's own error after the commit too: a refusal may rest on what another unit of the batch wrote.
The first unit of a batch has the transaction to itself, and most batches are one unit: it needs no savepoint, and where
it raises the transaction is taken back and the batch ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from broker.adapters.store.backend import MAX_WAITING
from broker.adapters.store.faults import BUSY, CLOSED, FAILED, fault_of
from broker.core.errors import StoreFault

T = TypeVar("T")

BATCH_UNITS: Final = 256
BATCH_SECONDS: Final = 0.02
"""A batch takes in what waits until one of these is reached: nobody waits long for strangers."""
IDLE_SECONDS: Final = 1.0
"""After this much quiet the write-ahead log is emptied: what was deleted then leaves it too (threats.md M12)."""
_EMPTY_TRIES, _EMPTY_PAUSE = 50, 0.1
"""Tries and seconds between them: a reader is done in milliseconds."""
_DATABASE_ERRORS: Final = (sqlite3.Error, SQLAlchemyError)


@dataclass(slots=True, kw_only=True, eq=False)
class _Job:
    """A unit on its way through the thread; `result` and `error` are the thread's until it hands the job back."""

    unit: Callable[[Connection], Any]
    future: asyncio.Future[Any]
    alone: bool
    """No unit: empties the write-ahead log, outside every transaction."""
    result: Any = None
    error: BaseException | None = None


class _BatchLost(Exception):
    """SQLite rolled the whole transaction back on its own (full disk, failing disk): no savepoint of it is left."""


class GroupCommit:
    """The writer thread of one SQLite connection, which it owns from here on."""

    def __init__(self, conn: Connection, raw: sqlite3.Connection) -> None:
        """`raw` is the driver's connection under `conn`: transactions are begun there, in SQLite's own words."""
        self._conn, self._raw = conn, raw
        self._waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._refusal = ""
        self._log_is_used = True
        self._ended = False
        self._held: _Job | None = None
        """Taken out of the queue, and its turn is after this batch."""
        self._thread = threading.Thread(target=self._live, name="store-writer", daemon=True)
        self._thread.start()

    async def run(self, unit: Callable[[Connection], T]) -> T:
        """The unit's result once it is durable. Raises what it raised, or StoreFault; never waits for a dead thread.

        A caller that is cancelled while it waits hears nothing; its unit may still be written.
        """
        result: T = await self._given(self._job(unit, alone=False))
        return result

    def _job(self, unit: Callable[[Connection], Any], *, alone: bool) -> _Job:
        return _Job(unit=unit, future=asyncio.get_running_loop().create_future(), alone=alone)

    async def _given(self, job: _Job) -> Any:  # noqa: ANN401  whatever the unit gives
        """Hands the job to the thread and waits for its result."""
        with self._gate:
            if self._refusal:
                raise StoreFault(self._refusal)
            if self._waiting.qsize() >= MAX_WAITING:
                raise StoreFault(BUSY)
            self._waiting.put(job)
        return await job.future

    async def empty_log(self) -> None:
        """The write-ahead log copied into the database and cut to nothing, now. Raises StoreFault: it is being read."""
        for _ in range(_EMPTY_TRIES):
            if await self._given(self._job(_nothing, alone=True)):
                return
            await asyncio.sleep(_EMPTY_PAUSE)
        raise StoreFault(BUSY)

    def close(self) -> None:
        """Finishes every accepted unit, then ends the thread and its connection. Blocks."""
        with self._gate:
            if not self._refusal:
                self._refusal = CLOSED
                self._waiting.put(None)
        self._thread.join()

    def _live(self) -> None:
        try:
            while (job := self._next()) is not None:
                if job.alone:
                    self._run_alone(job)
                else:
                    self._run_batch(job)
            self._empty_soon()
        finally:
            self._refuse_the_rest()
            with contextlib.suppress(*_DATABASE_ERRORS):
                self._conn.close()

    def _next(self) -> _Job | None:
        """The next job, or None at the end. In the first quiet second after writes it empties the log."""
        if self._held is not None:
            held, self._held = self._held, None
            return held
        while self._log_is_used and not self._ended:
            try:
                return self._waiting.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                self._empty_soon()
        return None if self._ended else self._waiting.get()

    def _run_alone(self, job: _Job) -> None:
        try:
            job.result = self._emptied()
        except sqlite3.Error as error:
            job.error = fault_of(error)
        _hand_back([job])

    def _run_batch(self, first: _Job) -> None:
        jobs = [first]
        try:
            self._commit_together(jobs)
        except (*_DATABASE_ERRORS, _BatchLost) as error:
            self._undo()
            cause = error.__cause__ if isinstance(error, _BatchLost) else error
            for job in jobs:
                job.error = fault_of(cause or error)
        except BaseException as error:
            for job in jobs:
                job.error = StoreFault(FAILED).with_traceback(error.__traceback__)
            raise
        finally:
            _hand_back(jobs)

    def _commit_together(self, jobs: list[_Job]) -> None:
        """Runs `jobs`, and what else is waiting by then, in one transaction."""
        self._raw.execute("BEGIN IMMEDIATE")
        self._log_is_used = True
        until = time.monotonic() + BATCH_SECONDS
        if not self._run_first(jobs[0]):
            return
        while len(jobs) < BATCH_UNITS and time.monotonic() < until and (job := self._at_once()) is not None:
            if job.alone:
                self._held = job
                break
            jobs.append(job)
            self._run_further(job)
        # SQLAlchemy begins by itself, with the first statement that goes through it; most units have none that does
        (self._conn if self._conn.in_transaction() else self._raw).commit()

    def _at_once(self) -> _Job | None:
        """A job that is waiting already."""
        try:
            job = self._waiting.get_nowait()
        except queue.Empty:
            return None
        self._ended = job is None
        return job

    def _run_first(self, job: _Job) -> bool:
        """One unit with the transaction to itself, which its error takes back. Says whether others may join it."""
        try:
            self._run(job)
        except BaseException as error:  # whatever it is, it belongs to the unit's caller
            if not self._raw.in_transaction:
                raise _BatchLost from error
            self._undo()
            job.error = _as_told(error)
            return False
        if not self._raw.in_transaction:  # the unit made light of an error with which SQLite gave up
            raise _BatchLost
        return True

    def _run_further(self, job: _Job) -> None:
        """One unit in its savepoint; its error stays its own unless SQLite gave up on the whole transaction."""
        self._raw.execute("SAVEPOINT unit")
        try:
            self._run(job)
        except BaseException as error:  # whatever it is, it belongs to the unit's caller
            if not self._raw.in_transaction:
                raise _BatchLost from error
            self._raw.execute("ROLLBACK TO unit")
            job.error = _as_told(error)
        self._raw.execute("RELEASE unit")

    def _run(self, job: _Job) -> None:
        """The unit, unless nobody waits for it any more."""
        if not job.future.cancelled():
            job.result = job.unit(self._conn)

    def _undo(self) -> None:
        """Leaves the connection ready for the next batch, whatever the failed one left behind."""
        with contextlib.suppress(*_DATABASE_ERRORS):
            self._conn.rollback()  # SQLAlchemy keeps a transaction whose commit failed until it is told
        with contextlib.suppress(*_DATABASE_ERRORS):
            self._raw.rollback()  # and it does not know of one that failed before it began its own

    def _empty_soon(self) -> None:
        """As `_emptied`; what fails, as on a full disk, is tried again in the next quiet second."""
        with contextlib.suppress(sqlite3.Error):
            self._emptied()

    def _emptied(self) -> bool:
        """Copies the write-ahead log into the database and cuts it to nothing; False where a reader is using it."""
        self._log_is_used = True
        self._raw.execute("PRAGMA busy_timeout=0")
        try:
            busy, *_ = self._raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self._raw.execute("PRAGMA busy_timeout=5000")
        self._log_is_used = bool(busy)
        return not busy

    def _refuse_the_rest(self) -> None:
        with self._gate:
            self._refusal = self._refusal or FAILED
        rest = [self._held] if self._held is not None else []
        while (job := self._at_once()) is not None:
            rest.append(job)
        for job in rest:
            job.error = StoreFault(self._refusal)
        _hand_back(rest)


def _nothing(_conn: Connection) -> None: ...


def _as_told(error: BaseException) -> BaseException:
    """A unit's own error as its caller hears it: what the database said, in the store's words."""
    return fault_of(error) if isinstance(error, _DATABASE_ERRORS) else error


def _hand_back(jobs: Sequence[_Job]) -> None:
    """Wakes the callers, each in its own loop; a loop that has ended has nobody left to wake."""
    by_loop = defaultdict(list)
    for job in jobs:
        by_loop[job.future.get_loop()].append(job)
    for loop, its_jobs in by_loop.items():
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, its_jobs)


def _settle(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        if job.future.done():  # cancelled while it waited
            continue
        if job.error is None:
            job.future.set_result(job.result)
        else:
            job.future.set_exception(job.error)
