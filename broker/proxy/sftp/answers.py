"""What a target's server answers: read strictly, matched with what was asked, noted, and only then passed on (I-27)."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from broker.core.sftp import Op, Reply, Status
from broker.proxy.sftp import packets as wire
from broker.proxy.sftp.files import OpenFile
from broker.proxy.sftp.notes import note_of
from broker.proxy.sftp.packets import Answer, Malformed, Request
from broker.proxy.sftp.upstream import Upstream, not_sftp

_LENGTH: Final = struct.Struct(">I")
_SILENT: Final = frozenset({Op.READ, Op.WRITE, Op.READDIR})
"""Operations that are counted, and noted as one with their file."""


class Over(Exception):
    """The session ends: a server did."""


@dataclass(slots=True, kw_only=True)
class Pending:
    """A request that was sent and not answered."""

    request: Request
    upstream: Upstream
    file: OpenFile | None

    def count(self, more: int) -> None:
        """Counts it in or out, where it was asked."""
        if self.file is None:
            self.upstream.paths += more
        else:
            self.upstream.handles += more


@dataclass(slots=True)
class Books:
    """What one session has asked and has open."""

    pending: dict[int, Pending] = field(default_factory=dict)
    files: dict[bytes, OpenFile] = field(default_factory=dict)
    """By the session's own handles."""
    numbers: int = 0
    """Files opened so far."""
    roomy: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with each batch of answers."""

    def opening(self) -> int:
        """Files and folders that are open or asked for."""
        asked = sum(1 for each in self.pending.values() if each.request.op in (Op.OPEN, Op.OPENDIR))
        return len(self.files) + asked


class Answers:
    """Passes on what servers answer."""

    def __init__(self, books: Books, out: Callable[[bytes], Awaitable[None]]) -> None:
        self._books, self._out = books, out

    async def pass_on(self, upstream: Upstream) -> None:
        """Everything that a server answers. Raises Over at its end, and TargetFault for what is no SFTP."""
        while packets := await upstream.packets():
            told: list[bytes] = []
            for packet in packets:
                try:
                    told += await self._answer(upstream, wire.answer_of(packet))
                except Malformed:
                    raise not_sftp() from None
            await self._out(b"".join(told))
            self._books.roomy.set()
        raise Over

    async def _answer(self, upstream: Upstream, answer: Answer) -> tuple[bytes, ...]:
        """What the client is told; noted before."""
        pending = self._books.pending.pop(answer.id, None)
        if pending is None or pending.upstream is not upstream:
            raise Malformed("an answer to nothing that was asked")
        pending.count(-1)
        request, file = pending.request, pending.file
        if answer.kind is Reply.STATUS:
            code = answer.status()
            if code is Status.OK and request.shape.answers:
                raise Malformed("it went well, and nothing came of it")
            await self._ended(pending, code)
            return (wire.status(request.id, code),)
        if answer.kind not in request.shape.answers:
            raise Malformed("an answer to another question")
        if answer.kind is Reply.HANDLE:
            return (await self._opened(upstream, request, answer.handle()),)
        await self._passed(upstream, request, file, answer)
        if request.op not in _SILENT:
            await upstream.link.note(note_of(request, file, result="ok"))
        return _LENGTH.pack(len(answer.packet)), answer.packet

    async def _passed(self, upstream: Upstream, request: Request, file: OpenFile | None, answer: Answer) -> None:
        """An answer that the client gets as it came, if it is well made."""
        match answer.kind:
            case Reply.DATA if file is not None:
                await self._take(upstream, request, file, answer.data())
            case Reply.NAME:
                _check_names(request, file, answer.names())
            case Reply.ATTRS:
                self._sized(request, file, answer.attrs())
            case _:
                pass

    async def _take(self, upstream: Upstream, request: Request, file: OpenFile, data: memoryview) -> None:
        if not 0 < len(data) <= request.length:
            raise Malformed("more than was asked for")
        file.read.take(request.offset, data)
        if file.due():
            await upstream.link.note(file.progress())

    async def _opened(self, upstream: Upstream, request: Request, handle: bytes) -> bytes:
        self._books.numbers += 1
        own = _LENGTH.pack(self._books.numbers)
        self._books.files[own] = file = OpenFile(
            handle=handle,
            path=request.path,
            flags=request.flags,
            writing=upstream.writes,
            folder=request.op is Op.OPENDIR,
            number=self._books.numbers,
        )
        await upstream.link.note(note_of(request, file, result="ok"))
        return wire.handle(request.id, own)

    def _sized(self, request: Request, file: OpenFile | None, attrs: Mapping[str, int]) -> None:
        if file is not None and request.op is Op.FSTAT:
            file.size = attrs.get("size")

    async def _ended(self, pending: Pending, code: Status) -> None:
        """A STATUS: the whole answer of most operations."""
        request, file, link = pending.request, pending.file, pending.upstream.link
        result = code.name.lower()
        if request.op is Op.CLOSE and file is not None:
            for note in file.summary((file.failed or code).name.lower()):
                await link.note(note)
        elif request.op is Op.READ and file is not None and code is Status.EOF:
            # asked for nothing, a server says EOF anywhere
            file.ended = file.ended or (request.length > 0 and request.offset <= file.read.next)
        elif request.op in _SILENT and file is not None and code in (Status.OK, Status.EOF):
            return
        else:
            if file is not None and code is not Status.OK and request.op in _SILENT:
                file.failed = file.failed or code
            await link.note(note_of(request, file, result=result))


def _check_names(request: Request, file: OpenFile | None, names: list[bytes]) -> None:
    """One name for a path, and for a folder names of its entries alone: a server that names `../x` is hostile (F30)."""
    if request.op is not Op.READDIR:
        if len(names) != 1:
            raise Malformed("not one name")
        return
    if any(not name or b"/" in name or b"\0" in name for name in names):
        raise Malformed("an entry's name is a path")
    if file is not None:
        file.entries += len(names)
