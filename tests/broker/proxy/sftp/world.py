"""A file session without a network: a client that says what a test wants, and SFTP servers of a few lines.

Everything that happens stands in one journal, in its order: what was noted, sent, told and said.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

from broker.core import sftp
from broker.core.action import Action, Outcome
from broker.core.sftp import Op, Reply, Status
from broker.proxy.sftp.packets import Fields, Splitter, framed, string
from broker.proxy.sftp.session import FileSession
from broker.service.oversight import Oversight
from broker.service.ports import Chunk, Stream
from broker.service.start import Ticket
from broker.service.transfer import Conversation, Link
from policy.classes import CommandClass
from recorder.grec import Kind
from recorder.sink import RecordingSink

OFFERS = ((b"statvfs@openssh.com", b"2"), (b"limits@openssh.com", b"1"), (b"copy-data", b"1"), (b"made-up", b"1"))
ATTRS = struct.pack(">I", 0)


def u32(value: int) -> bytes:
    """On the wire."""
    return struct.pack(">I", value)


def u64(value: int) -> bytes:
    """On the wire."""
    return struct.pack(">Q", value)


def request(number: int, op: int, *fields: bytes) -> bytes:
    """A request without its length."""
    return bytes([op]) + u32(number) + b"".join(fields)


def opened(number: int, path: bytes, flags: int) -> bytes:
    """OPEN."""
    return request(number, Op.OPEN, string(path), u32(flags), ATTRS)


INIT = bytes([sftp.INIT]) + u32(3)


class Server:
    """A TargetProcess that speaks SFTP. `answer` may be replaced by something hostile."""

    def __init__(self, name: str, journal: list[tuple[str, Any]], *, greeting: bytes | None = None) -> None:
        self.name, self.journal = name, journal
        self.files: dict[bytes, bytearray] = {}
        self.handles: dict[bytes, bytes] = {}
        self.answer: Callable[[bytes], bytes] = self.honest
        self._splitter = Splitter()
        self._out: asyncio.Queue[Chunk | Outcome] = asyncio.Queue()
        offers = b"".join(string(name) + string(value) for name, value in OFFERS)
        self._greeting = framed(bytes([sftp.VERSION_TYPE]) + u32(3) + offers) if greeting is None else greeting
        self.asked: list[bytes] = []
        self.slow = False
        """Whether a batch is all sent only once its answers were read."""

    def honest(self, packet: bytes) -> bytes:
        """As a small server would."""
        op, number, fields = packet[0], int.from_bytes(packet[1:5], "big"), Fields(packet, 5)
        match op:
            case Op.OPEN | Op.OPENDIR:
                path, handle = fields.string(4096), u32(len(self.handles))
                self.handles[handle] = path
                self.files.setdefault(path, bytearray())
                return _answer(number, Reply.HANDLE, string(handle))
            case Op.READ:
                data = self.files[self.handles[fields.string(256)]]
                offset, length = fields.u64(), fields.u32()
                piece = bytes(data[offset : offset + length])
                return _answer(number, Reply.DATA, string(piece)) if piece else said(number, Status.EOF)
            case Op.WRITE:
                data = self.files[self.handles[fields.string(256)]]
                offset = fields.u64()
                data[offset:] = fields.string(1 << 20)
            case Op.STAT | Op.LSTAT | Op.FSTAT:
                return _answer(number, Reply.ATTRS, ATTRS)
            case Op.REALPATH | Op.READLINK:
                return _answer(number, Reply.NAME, u32(1), string(b"/home"), string(b"/home"), ATTRS)
            case Op.READDIR:
                return said(number, Status.EOF)
            case Op.EXTENDED:
                return said(number, Status.FAILURE)
            case _:
                pass
        return said(number, Status.OK)

    # ---- TargetProcess -----------------------------------------------------------------------------------------------
    async def read(self) -> Chunk | Outcome:
        return await self._out.get()

    async def write(self, data: bytes) -> None:
        for packet in self._splitter.feed(data):
            if packet[0] == sftp.INIT:
                self.push(self._greeting)
                continue
            self.asked.append(packet)
            self.journal.append(("sent " + self.name, packet[0]))
            if reply := self.answer(packet):
                self.push(reply)
        for _ in range(50 if self.slow else 0):
            await asyncio.sleep(0)

    def push(self, data: bytes) -> None:
        """Says something."""
        self._out.put_nowait(Chunk(stream=Stream.OUT, data=data))

    def complain(self, words: bytes) -> None:
        """Says something on its stderr."""
        self._out.put_nowait(Chunk(stream=Stream.ERR, data=words))

    async def write_eof(self) -> None:
        self.end(Outcome(exit_status=0, signal="", reason=""))

    async def resize(self, size: object) -> None:
        return None

    async def signal(self, name: object) -> None:
        return None

    def end(self, how: Outcome) -> None:
        """It ends."""
        self._out.put_nowait(how)

    async def cut(self) -> None:
        return None


class Sink:
    """A recorder that keeps everything."""

    def __init__(self, name: str, journal: list[tuple[str, Any]]) -> None:
        self.name, self.journal = name, journal

    async def event(self, kind: Kind, chan: int, data: bytes) -> None:
        self.journal.append(("noted " + self.name, json.loads(data) if kind is Kind.SFTP else data))


@dataclass(slots=True)
class Asker:
    """The client's side, and the gate behind it: `allows` is what it says to the session that writes."""

    journal: list[tuple[str, Any]]
    writer: Server
    allows: bool = True
    asked: int = 0
    decided: asyncio.Event = field(default_factory=asyncio.Event)
    said: list[str] = field(default_factory=list)
    told: bytearray = field(default_factory=bytearray)
    script: deque[bytes] = field(default_factory=deque)
    """Each is sent once the one before was answered."""
    scripted: int = 0
    answered: int = 0
    _in: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)

    def send(self, *packets: bytes) -> None:
        """Requests, whole."""
        self._in.put_nowait(b"".join(map(framed, packets)))

    def feed(self, data: bytes) -> None:
        """Whatever bytes; none is the end."""
        self._in.put_nowait(data)

    def answers(self) -> list[bytes]:
        """What it was told so far, packet by packet."""
        return Splitter().feed(bytes(self.told))

    # ---- Client ------------------------------------------------------------------------------------------------------
    async def read(self) -> bytes:
        if self.script:
            while self.answered < self.scripted:  # noqa: ASYNC110
                await asyncio.sleep(0)
            self.scripted += 1
            return framed(self.script.popleft())
        while self.answered < self.scripted:  # noqa: ASYNC110
            await asyncio.sleep(0)
        return await self._in.get()

    async def out(self, data: bytes) -> None:
        for packet in Splitter().feed(data):
            self.journal.append(("told", packet))
            self.answered += 1
        self.told += data

    async def tell(self, line: str) -> None:
        self.said.append(line)

    async def warn(self, left: timedelta) -> None:
        return None

    def over(self, lines: Sequence[str]) -> None:
        self.said += lines

    async def ticket(self, command: bytes) -> Ticket | None:
        assert command == sftp.WRITING
        self.asked += 1
        await self.decided.wait()
        return cast("Ticket", object()) if self.allows else None

    async def transfer(self, ticket: Ticket, conversation: Conversation) -> Action:
        link = linked(self.writer, self.journal, CommandClass.WRITE)
        await conversation.converse(link)
        await link.leave()
        return cast("Action", object())


def linked(server: Server, journal: list[tuple[str, Any]], ceiling: CommandClass) -> Link:
    """A link to a server."""
    return Link(server, cast("RecordingSink", Sink(server.name, journal)), Oversight(), ceiling, max_notes=1 << 16)


class Stage:
    """One session and everybody around it."""

    def __init__(self, *, allows: bool = True, greeting: bytes | None = None) -> None:
        self.journal: list[tuple[str, Any]] = []
        self.reader = Server("reader", self.journal, greeting=greeting)
        self.writer = Server("writer", self.journal)
        self.writer.files = self.reader.files
        self.client = Asker(self.journal, self.writer, allows=allows)
        self.client.decided.set()
        self.session = FileSession(self.client, writing=sftp.WRITING)

    async def run(self, *packets: bytes, within: float = 10.0) -> None:
        """A whole session: these requests, each once the one before was answered; then the client ends."""
        self.client.script.extend((INIT, *packets))
        self.client.feed(b"")
        await self.until_its_end(within=within)

    async def until_its_end(self, *, within: float = 10.0) -> None:
        """To its end."""
        link = linked(self.reader, self.journal, CommandClass.READ)
        async with asyncio.timeout(within):
            await self.session.converse(link)
            await link.leave()

    def notes(self, op: str = "") -> list[dict[str, Any]]:
        """What was noted, of one operation where it is named."""
        found = [event for kind, event in self.journal if kind.startswith("noted")]
        return [event for event in found if op in ("", event["op"])]

    def statuses(self) -> dict[int, Status]:
        """The STATUS answers, by request."""
        found = (packet for packet in self.client.answers() if packet[0] == Reply.STATUS)
        return {int.from_bytes(p[1:5], "big"): Status(int.from_bytes(p[5:9], "big")) for p in found}


def said(number: int, code: int, words: bytes = b"the target's own words") -> bytes:
    """A STATUS as a target says it."""
    return _answer(number, Reply.STATUS, u32(code), string(words), string(b"en"))


def _answer(number: int, kind: int, *fields: bytes) -> bytes:
    return framed(request(number, kind, *fields))


def in_pieces(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Cut at these sizes, again and again."""
    pieces, at, turn = [], 0, 0
    while at < len(data):
        size = max(1, sizes[turn % len(sizes)]) if sizes else len(data)
        pieces.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return pieces
