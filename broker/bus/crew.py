"""The workers as the broker's children: started, told what to show, ended; one that died is replaced.

Decides nothing. A worker that is not heard of for long is ended like one that does not answer a cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog

from broker.bus import messages as m
from broker.bus.desk import Desk, Rooms
from broker.bus.peer import FROM_WORKER_BYTES, BusLost
from broker.core.children import CHILD_ENVIRON
from broker.core.errors import Fault, Refusal
from broker.core.identity import Target
from broker.core.ids import GrantId, TenantId
from broker.service.ports import ExecPlan, Finding, TargetProcess, Targets

log = structlog.get_logger()
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 8.0
SILENT_SECONDS: Final = 20.0
"""A worker speaks each second."""
HEARD_OUT_SECONDS: Final = 1.0
"""For what it said last, once it has ended."""
END_SECONDS: Final = 0.8
"""For a worker to close what a grant pooled there."""
FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 30.0
STEADY_AFTER: Final = 60.0
_LOOK_EVERY: Final = 1.0


@dataclass(slots=True, kw_only=True, eq=False)
class Worker:
    """One of them."""

    process: asyncio.subprocess.Process
    desk: Desk
    answering: asyncio.Task[None] = field(init=False)

    def kill(self) -> None:
        """Ends it at once, also one that is stopped. Its connections die with it."""
        self.desk.end()

    async def gone(self) -> None:
        """Waits until it has ended and what it ran is written."""
        await self.process.wait()
        await asyncio.wait({self.answering}, timeout=HEARD_OUT_SECONDS)
        self.desk.end()  # its bus may be open in somebody else's hands
        await self.answering


class Crew:
    """All workers of this process.

    Args:
        size: how many.
        rooms: what their desks work with.
        begin: what one begins with, as of now.
    """

    def __init__(self, size: int, rooms: Rooms, begin: Callable[[], m.Begin]) -> None:
        self._size, self._rooms, self._begin = size, rooms, begin
        self._workers: set[Worker] = set()
        self._first: list[Worker] = []
        self._whole = asyncio.Event()

    @property
    def workers(self) -> Sequence[Worker]:
        """Those that live."""
        return tuple(self._workers)

    async def start(self) -> None:
        """Returns once all of them listen. Raises Fault where one does not."""
        try:
            for _ in range(self._size):
                self._first.append(await self._start())
        except BaseException:
            await self.stop()
            raise
        self._whole.set()

    async def run(self) -> None:
        """Keeps the crew whole once it was, until cancelled."""
        await self._whole.wait()
        async with asyncio.TaskGroup() as group:
            for worker in self._first:  # also one that has ended meanwhile
                group.create_task(self._keep(worker))
            while True:
                await asyncio.sleep(_LOOK_EVERY)
                self._look()

    async def stop(self) -> None:
        """Ends all of them: sessions are cut, sealed and written first, as far as time allows."""
        async with asyncio.TaskGroup() as group:
            for worker in self.workers:
                group.create_task(self._end(worker))

    def show(self, shows: m.Shows) -> None:
        """A new host key and certificate, for the connections that come."""
        for worker in self.workers:
            with contextlib.suppress(BusLost):
                worker.desk.peer.tell(m.SHOW, shows)

    async def end_grant(self, tenant: TenantId, grant: GrantId) -> None:
        """Closes what a grant pooled anywhere; a worker that does not say that it did is ended."""
        async with asyncio.TaskGroup() as group:
            # one that does not listen yet has pooled nothing, and cannot answer
            for worker in [each for each in self.workers if each.desk.ready.is_set()]:
                group.create_task(self._end_grant(worker, tenant, grant))

    async def _end_grant(self, worker: Worker, tenant: TenantId, grant: GrantId) -> None:
        try:
            async with asyncio.timeout(END_SECONDS):
                await worker.desk.peer.ask(m.END_GRANT, m.GrantOver(tenant, grant))
        except (TimeoutError, Fault, Refusal) as error:
            log.error("worker.end_unanswered", pid=worker.process.pid, cause=repr(error))  # noqa: TRY400
            worker.kill()

    # ---- lives -------------------------------------------------------------------------------------------------------
    async def _start(self) -> Worker:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await _spawn(theirs)
        except BaseException:
            ours.close()
            raise
        reader, writer = await asyncio.open_connection(sock=ours, limit=FROM_WORKER_BYTES)
        worker = Worker(process=process, desk=Desk(self._rooms, reader, writer, kill=partial(_kill, process)))
        worker.answering = asyncio.get_running_loop().create_task(worker.desk.run())
        self._workers.add(worker)
        worker.answering.add_done_callback(lambda _: self._workers.discard(worker))
        try:
            worker.desk.peer.tell(m.BEGIN, self._begin())
            await self._until_ready(worker)
        except BaseException:
            worker.kill()
            await worker.gone()
            raise
        log.info("worker.started", pid=process.pid)
        return worker

    @staticmethod
    async def _until_ready(worker: Worker) -> None:
        ready = asyncio.get_running_loop().create_task(_wait(worker.desk.ready.wait()))
        try:
            async with asyncio.timeout(START_SECONDS):
                await asyncio.wait({ready, worker.answering}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError as error:
            raise Fault("a worker did not start in time") from error
        finally:
            ready.cancel()
        if not worker.desk.ready.is_set():
            raise Fault("a worker did not start; its own line says why")

    async def _keep(self, worker: Worker) -> None:
        pause = FIRST_PAUSE
        while True:
            began = self._rooms.clock.monotonic()
            await worker.gone()
            log.error("worker.ended", pid=worker.process.pid, status=worker.process.returncode)
            self._rooms.meter.count("worker_restarts")
            pause = FIRST_PAUSE if self._rooms.clock.monotonic() - began >= STEADY_AFTER else pause
            worker, pause = await self._another(pause)

    async def _another(self, pause: float) -> tuple[Worker, float]:
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            try:
                return await self._start(), pause
            except (Fault, OSError) as error:
                log.exception("worker.not_started", cause=str(error), again_in_s=pause)

    def _look(self) -> None:
        now = self._rooms.clock.monotonic()
        for worker in self.workers:
            if worker.desk.ready.is_set() and now - worker.desk.beaten > SILENT_SECONDS:
                log.error("worker.silent", pid=worker.process.pid)
                worker.kill()

    @staticmethod
    async def _end(worker: Worker) -> None:
        with contextlib.suppress(TimeoutError, Fault, Refusal):
            async with asyncio.timeout(STOP_SECONDS):
                await worker.desk.peer.ask(m.STOP, m.Nothing())
        worker.kill()
        await worker.gone()


class CrewTargets:
    """As Targets: this process's own, whose pooled connections end together with those of the workers."""

    def __init__(self, own: Targets) -> None:
        self._own = own
        self.crew: Crew | None = None

    async def start(self, plan: ExecPlan) -> TargetProcess:
        return await self._own.start(plan)

    async def end_grant(self, tenant: TenantId, grant: GrantId) -> None:
        if self.crew is not None:
            await self.crew.end_grant(tenant, grant)
        await self._own.end_grant(tenant, grant)

    async def probe(
        self, target: Target, login: str, announce: Callable[[int], Awaitable[None]], serial: int
    ) -> Sequence[Finding]:
        return await self._own.probe(target, login, announce, serial)

    async def believes(
        self, target: Target, login: str, announce: Callable[[int], Awaitable[None]], generation: int
    ) -> bool:
        return await self._own.believes(target, login, announce, generation)

    def sshd_lines(self, target: Target, egress_cas: Sequence[str]) -> str:
        return self._own.sshd_lines(target, egress_cas)

    async def fetch_host_key(self, host: str, port: int) -> str:
        return await self._own.fetch_host_key(host, port)


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        if process.returncode is None:
            process.kill()


async def _wait(event: Awaitable[object]) -> None:
    await event


async def _spawn(bus: socket.socket) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-m",
        "broker.worker",
        f"--bus={bus.fileno()}",
        f"--parent-pid={os.getpid()}",
        stdin=asyncio.subprocess.DEVNULL,
        pass_fds=(bus.fileno(),),
        env=CHILD_ENVIRON,  # nothing of the broker's own
    )
