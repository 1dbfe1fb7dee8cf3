"""A worker, put together: recorder, targets, sessions, door, all over one bus. Ends at once when the bus does."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Final

import structlog

from broker.adapters.system import SystemClock, SystemEntropy, keep_for_good
from broker.adapters.target_ssh.targets import SshTargets
from broker.bus import messages as m
from broker.bus.client import BusControl, BusMeter
from broker.bus.codec import BusError
from broker.bus.peer import FROM_CONTROL_BYTES, BusLost
from broker.core.errors import Fault
from broker.core.secret import Secret
from broker.proxy.server import SshDoor
from broker.service.sessions import Sessions
from broker.service.site import Site
from recorder.store.files import FileRecordingStore
from recorder.writer import RecorderThread

log = structlog.get_logger()
RECORDERS: Final = 4
"""Recorder threads: commands that begin and end at the same time wait for the disk together, not in a row."""
BEAT_SECONDS: Final = 1.0


class House:
    """Everything that lives as long as the worker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clock, self._entropy, self._meter = SystemClock(), SystemEntropy(), BusMeter()
        self._begun: asyncio.Future[m.Begin] = asyncio.get_running_loop().create_future()
        self._stopping = asyncio.Event()
        self._door: SshDoor | None = None
        self._targets: SshTargets | None = None
        self.control = BusControl(
            reader, writer, self._clock, begun=self._begin, shown=self._show, grant_over=self._grant_over,
            stopped=self._stop,
        )  # fmt: skip

    async def serve(self) -> None:
        """Until it is stopped. Raises Fault: the address is taken, or what it was told makes no door."""
        begin = await self._begun
        recorders = [RecorderThread() for _ in range(RECORDERS)]
        for recorder in recorders:
            recorder.start()
        self._targets = SshTargets(
            signer=self.control, clock=self._clock, entropy=self._entropy, fast_path=begin.fast_path
        )
        store = FileRecordingStore(Path(begin.recordings), *recorders, floor_bytes=begin.floor_bytes)
        self._door = self._made_door(begin, self._site(begin, self._targets, store))
        try:
            await self._door.start(begin.host, begin.port)
        except OSError as error:
            raise Fault(f"cannot listen on {begin.host}:{begin.port}: {error.strerror or error}") from error
        keep_for_good()
        self.control.peer.tell(m.READY, m.Nothing())
        await self._beat()
        for recorder in recorders:
            recorder.close()

    def _site(self, begin: m.Begin, targets: SshTargets, store: FileRecordingStore) -> Site:
        return Site(
            control=self.control,
            targets=targets,
            recordings=store,
            clock=self._clock,
            entropy=self._entropy,
            max_output_bytes=begin.max_output_bytes,
            unwatched_for=begin.unwatched_for,
            keeps_input=begin.keeps_input,
        )

    def _made_door(self, begin: m.Begin, site: Site) -> SshDoor:
        return SshDoor(
            sessions=Sessions.at(site),
            host_key=Secret(begin.host_key),
            host_certificate=begin.host_certificate,
            ingress_cas=begin.ingress_cas,
            clock=self._clock,
            meter=self._meter,
            fast_path=begin.fast_path,
            share=begin.share,
        )

    async def _beat(self) -> None:
        while not self._stopping.is_set():
            self.control.peer.tell(m.BEAT, m.Beat(lag_s=self.control.lag_s(), counts=self._meter.taken()))
            try:
                async with asyncio.timeout(BEAT_SECONDS):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    # ---- what the control process says -------------------------------------------------------------------------------
    def _begin(self, begin: m.Begin) -> None:
        if self._begun.done():
            raise BusError("begun twice")
        self._begun.set_result(begin)

    def _show(self, shows: m.Shows) -> None:
        if self._door is not None:
            self._door.spawn(self._door.show(Secret(shows.host_key), shows.host_certificate, shows.ingress_cas))

    async def _grant_over(self, over: m.GrantOver) -> None:
        if self._targets is not None:
            await self._targets.end_grant(over.tenant, over.grant)

    async def _stop(self) -> None:
        if self._door is not None:
            await self._door.stop()
        if self._targets is not None:
            await self._targets.close()
        self._stopping.set()


async def serve(bus: socket.socket) -> None:
    """A worker over its end of the bus. Returns after a stop; the end of the bus ends the process, there and then.

    Raises:
        Fault: it cannot start.
    """
    reader, writer = await asyncio.open_connection(sock=bus, limit=FROM_CONTROL_BYTES)
    house = House(reader, writer)
    hearing = asyncio.get_running_loop().create_task(house.control.peer.run())
    hearing.add_done_callback(_alone)
    try:
        await house.serve()
    except BusLost:
        _alone(hearing)
    finally:
        hearing.remove_done_callback(_alone)


def _alone(_: asyncio.Task[None]) -> None:
    """Nothing may go on that nobody decides over: connections close, and what they ran on targets ends."""
    os._exit(1)
