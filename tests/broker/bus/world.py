"""Both ways to Control over one house: called, and asked over a bus whose two ends are in this process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.bus import messages as m
from broker.bus.client import BusControl
from broker.bus.desk import Desk, Rooms
from broker.core.action import StdinMode
from broker.core.ids import GrantId
from broker.core.sshcert import parse
from broker.core.sshwire import ed25519_blob
from broker.proxy.certificate import shown
from broker.service.control import Control
from broker.service.gateway import Admission
from broker.service.propose import CommandInput
from broker.service.sessions import Sessions
from broker.service.site import Site
from tests.broker.service.somebody import Somebody
from tests.broker.service.world import House


@dataclass(slots=True, kw_only=True)
class Line:
    """A desk, whoever speaks at the other end, and how often it was told to end the worker."""

    desk: Desk
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    kills: list[None] = field(default_factory=list)


def command(line: bytes, *, stdin: StdinMode = StdinMode.NONE) -> CommandInput:
    """A command at the SSH door."""
    return CommandInput(line=line, cwd="", env={}, stdin_mode=stdin, stdin=b"", pty=False)


def sessions(house: House, control: Control) -> Sessions:
    """Where sessions run that ask `control`."""
    world = house.world
    return Sessions.at(
        Site(
            control=control, targets=world.targets, recordings=world.recordings, clock=house.clock,
            entropy=world.entropy, max_output_bytes=world.limits.max_output_bytes,
            unwatched_for=world.limits.unwatched_for, keeps_input=world.keeps_input,
        )
    )  # fmt: skip


async def admitted(house: House, control: Control, agent: Somebody, grant: GrantId) -> Admission:
    """A connection under a grant, by a certificate of its own."""
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    issued = await house.cases.issue.ssh(agent.caller, grant, ed25519_blob(key))
    return await control.admit(shown(parse(issued.certificate), issued.user))


@asynccontextmanager
async def line(house: House) -> AsyncIterator[Line]:
    """A desk that answers until the other end hangs up, or misspoke; ended and written at the end of the context."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    far_reader, far_writer = await asyncio.open_connection(sock=theirs)
    world = house.world
    rooms = Rooms(
        control=house.cases.control, signer=world.signer, clock=house.clock, entropy=world.entropy, meter=world.meter
    )
    kills: list[None] = []

    def kill() -> None:
        kills.append(None)
        far_writer.close()

    made = Line(desk=Desk(rooms, reader, writer, kill=kill), reader=far_reader, writer=far_writer, kills=kills)
    answering = asyncio.ensure_future(made.desk.run())  # noqa: TID251  awaited below
    try:
        yield made
    finally:
        far_writer.close()
        async with asyncio.timeout(10):
            await answering


@asynccontextmanager
async def over_the_bus(house: House) -> AsyncIterator[BusControl]:
    """Control as a worker has it."""

    async def nothing(_: m.GrantOver) -> None:
        return None

    async def stopped() -> None:
        return None

    async with line(house) as made:
        control = BusControl(
            made.reader, made.writer, house.clock, begun=lambda _: None, shown=lambda _: None, grant_over=nothing,
            stopped=stopped,
        )  # fmt: skip
        hearing = asyncio.ensure_future(control.peer.run())  # noqa: TID251  awaited below
        try:
            yield control
        finally:
            control.peer.lose()
            hearing.cancel()
            await asyncio.wait([hearing])
