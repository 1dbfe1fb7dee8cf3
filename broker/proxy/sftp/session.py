"""One client's file session: every request is read, classed, noted and only then sent, every answer read and noted.

It begins on a target's server that can only read. The first operation above that asks the gate for the one that writes
(I-18); until it is answered the client waits, and where the answer is no the session goes on reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final, Protocol

from broker.core import sftp
from broker.core.action import Action
from broker.core.errors import Refusal
from broker.core.sftp import EXTENSIONS, Field, Op, Status
from broker.proxy.sftp import packets as wire
from broker.proxy.sftp.answers import Answers, Books, Over, Pending
from broker.proxy.sftp.files import OpenFile
from broker.proxy.sftp.notes import note_of
from broker.proxy.sftp.packets import Malformed, Request, Splitter, Unsupported
from broker.proxy.sftp.upstream import Upstream, not_sftp
from broker.service.shield import to_the_end
from broker.service.start import Ticket
from broker.service.transfer import Conversation, Link
from policy.classes import CommandClass
from recorder.errors import RecorderFailed

MAX_PENDING: Final = 512
"""Requests without an answer, before the client is no longer read."""
MAX_FILES: Final = 128
ANSWERS_WITHIN_S: Final = 5.0
"""For what is still asked when the client has said everything."""
_NO_SERVER: Final = "the target's file server did not start"


class Client(Protocol):
    """Whoever asks, and the gate that it asks through."""

    async def read(self) -> bytes:
        """As Inlet."""
        ...

    async def out(self, data: bytes) -> None:
        """As Outlet."""
        ...

    async def tell(self, line: str) -> None:
        """As Outlet."""
        ...

    async def warn(self, left: timedelta) -> None:
        """As Outlet."""
        ...

    def over(self, lines: Sequence[str]) -> None:
        """As Outlet."""
        ...

    async def ticket(self, command: bytes) -> Ticket | None:
        """Decides a file session, a person's time long; None or Refusal where it may not run."""
        ...

    async def transfer(self, ticket: Ticket, conversation: Conversation) -> Action:
        """As RunService."""
        ...


class FileSession:
    """The conversation with the server that reads; holds the one with the server that writes."""

    def __init__(self, client: Client, *, writing: bytes) -> None:
        self._client, self._command = client, writing
        self._splitter = Splitter()
        self._books = Books()
        self._answers = Answers(self._books, client.out)
        self._leaving = asyncio.Event()
        self._reader: Upstream
        self._writer: asyncio.Future[Upstream | None] | None = None
        self._group: asyncio.TaskGroup

    # ---- Conversation ------------------------------------------------------------------------------------------------
    async def converse(self, link: Link) -> None:
        """As Conversation."""
        self._reader = Upstream(link, writes=False)
        try:
            await self._converse()
        except ExceptionGroup as several:
            await self._ended_by(_first(several))
        except Malformed as malformed:
            await self._ended_by(malformed)
        finally:
            await to_the_end(self._note_what_is_open())

    async def warn(self, left: timedelta) -> None:
        """As Conversation."""
        await self._client.warn(left)

    async def tell(self, line: str) -> None:
        """As Conversation."""
        await self._client.tell(line)

    def over(self, lines: Sequence[str]) -> None:
        """As Conversation."""
        self._client.over(lines)

    async def _ended_by(self, problem: Exception) -> None:
        match problem:
            case Over():
                return
            case Malformed():
                await self._client.tell("this is not SFTP as it is spoken here")
            case _:
                raise problem from None

    async def _converse(self) -> None:
        offers = await _asked(self._reader)
        if offers is None:
            await self._client.tell(_NO_SERVER)
            return
        waiting = await self._greeted(offers)
        async with asyncio.TaskGroup() as group:
            self._group = group
            answering = group.create_task(self._answers.pass_on(self._reader))
            await self._serve(waiting)
            await self._last_answers()
            self._leaving.set()
            answering.cancel()

    async def _greeted(self, offers: Mapping[bytes, bytes]) -> list[bytes]:
        """Both versions are known; what the client sent behind its own."""
        packets: list[bytes] = []
        while not packets:
            data = await self._client.read()
            if not data:
                return []
            packets = self._splitter.feed(data)
        if wire.client_version(packets[0]) < sftp.VERSION:
            raise Malformed("an old version")
        await self._client.out(wire.version(_offered(offers)))
        return packets[1:]

    # ---- what the client asks ----------------------------------------------------------------------------------------
    async def _serve(self, waiting: list[bytes]) -> None:
        while True:
            for packet in waiting:
                await self._ask(wire.request_of(packet))
            await self._flush()
            data = await self._client.read()
            if not data:
                return
            waiting = self._splitter.feed(data)

    async def _ask(self, request: Request | Unsupported) -> None:
        if request.id in self._books.pending:
            raise Malformed("two requests with one id")
        if isinstance(request, Unsupported):
            await self._note({"op": request.name, "result": "unsupported"})
            await self._client.out(wire.status(request.id, Status.OP_UNSUPPORTED))
        elif request.shape.word == "limits":
            await self._client.out(wire.limits(request.id, MAX_FILES))
        elif Field.HANDLE in request.shape.fields:
            await self._ask_of_file(request)
        elif request.op in (Op.OPEN, Op.OPENDIR) and self._books.opening() >= MAX_FILES:
            await self._refuse(request, Status.FAILURE, "too_many_files")
        elif request.command_class is CommandClass.READ:
            await self._send(request, self._reader, None)
        elif request.command_class > CommandClass.WRITE:  # no session's command covers it: `reboot` asks by itself
            await self._refuse(request, Status.PERMISSION_DENIED, "denied")
        else:
            writer = await self._writing()
            if writer is None:
                await self._refuse(request, Status.PERMISSION_DENIED, "denied")
            else:
                await self._send(request, writer, None)

    async def _ask_of_file(self, request: Request) -> None:
        """A file stays with the server that opened it; one that only reads is asked for nothing above that."""
        file = self._books.files.get(request.handle)
        if file is None:
            await self._refuse(request, Status.FAILURE, "no_such_handle")
        elif request.command_class > CommandClass.READ and not file.writing:
            await self._refuse(request, Status.PERMISSION_DENIED, "denied", file)
        else:
            if request.op is Op.CLOSE:
                del self._books.files[request.handle]
            upstream = await self._writing() if file.writing else self._reader
            if upstream is None:  # it was opened there, so it is there
                raise Over
            await self._send(request, upstream, file)

    async def _send(self, request: Request, upstream: Upstream, file: OpenFile | None) -> None:
        """Notes what may change something, and queues it."""
        while len(self._books.pending) >= MAX_PENDING or self._is_early(upstream, file):
            self._books.roomy.clear()  # before anything that waits: what is answered meanwhile counts
            await self._flush()
            await self._books.roomy.wait()
        if request.op is Op.WRITE and file is not None:
            file.written.take(request.offset, request.data())
            if file.due():
                await upstream.link.note(file.progress())
        elif request.command_class > CommandClass.READ:
            await upstream.link.note(note_of(request, file))
        upstream.queue(request.packet if file is None else request.with_handle(file.handle))
        request.packet = b""  # its data is not kept until the answer
        self._books.pending[request.id] = pending = Pending(request=request, upstream=upstream, file=file)
        pending.count(1)

    def _is_early(self, upstream: Upstream, file: OpenFile | None) -> bool:
        """Whether the other server still has something to do first: a client may ask for what it did not wait for.

        What is asked of a path waits for everything there, what is asked of an open file for the paths alone: copies
        in both directions go on side by side.
        """
        other = self._reader if upstream is not self._reader else self._opened_writer()
        return other is not None and bool(other.paths or (other.handles and file is None))

    def _opened_writer(self) -> Upstream | None:
        return self._writer.result() if self._writer is not None and self._writer.done() else None

    async def _refuse(self, request: Request, code: Status, result: str, file: OpenFile | None = None) -> None:
        await self._note(note_of(request, file, result=result))
        await self._client.out(wire.status(request.id, code))

    async def _note(self, event: Mapping[str, object]) -> None:
        await self._reader.link.note(event)

    async def _flush(self) -> None:
        await self._reader.flush()
        if (writer := self._opened_writer()) is not None:
            await writer.flush()

    # ---- the server that writes --------------------------------------------------------------------------------------
    async def _writing(self) -> Upstream | None:
        """It, asked for once a session; None where it may not run."""
        if self._writer is None:
            await self._flush()
            self._writer = asyncio.get_running_loop().create_future()
            self._group.create_task(self._open_writing(self._writer))
        return await asyncio.shield(self._writer)

    async def _open_writing(self, writer: asyncio.Future[Upstream | None]) -> None:
        try:
            # nothing may come between the ticket and its run, or the action would never end
            ticket = await self._client.ticket(self._command)
            if ticket is not None:
                await self._client.transfer(ticket, _Writing(self, writer))
        except Refusal as refusal:
            await self._client.tell(refusal.message + (f"; {refusal.way_out}" if refusal.way_out else ""))
        if not writer.done():
            writer.set_result(None)
        elif not self._leaving.is_set():
            raise Over

    async def writing(self, link: Link, writer: asyncio.Future[Upstream | None]) -> None:
        """The conversation with it, to the end of the session."""
        upstream = Upstream(link, writes=True)
        try:
            if await _asked(upstream) is None:
                await self._client.tell(_NO_SERVER)
                return
            writer.set_result(upstream)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._until_left(group.create_task(self._answers.pass_on(upstream))))
        except ExceptionGroup as several:
            problem = _first(several)
            if not isinstance(problem, Over):
                raise problem from None

    async def _until_left(self, answering: asyncio.Task[None]) -> None:
        await self._leaving.wait()
        answering.cancel()

    # ---- the end -----------------------------------------------------------------------------------------------------
    async def _last_answers(self) -> None:
        try:
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                while self._books.pending:
                    self._books.roomy.clear()
                    await self._books.roomy.wait()
        except TimeoutError:
            return

    async def _note_what_is_open(self) -> None:
        """Files that nobody closed, so that what went through them is known."""
        try:
            for file in self._books.files.values():
                for note in file.summary("not_closed"):
                    await self._note(note)
        except RecorderFailed:
            return


class _Writing:
    """The conversation with the server that writes; its session tells everything."""

    def __init__(self, session: FileSession, writer: asyncio.Future[Upstream | None]) -> None:
        self._session, self._writer = session, writer

    async def converse(self, link: Link) -> None:
        """As Conversation."""
        await self._session.writing(link, self._writer)

    async def warn(self, left: timedelta) -> None:
        """The other conversation warns: both end together."""

    async def tell(self, line: str) -> None:
        """As Conversation."""
        await self._session.tell(line)

    def over(self, lines: Sequence[str]) -> None:
        """The other conversation goes on, or is over itself and says so."""


async def _asked(upstream: Upstream) -> Mapping[bytes, bytes] | None:
    try:
        return await upstream.greeted()
    except Malformed:
        raise not_sftp() from None


def _offered(offers: Mapping[bytes, bytes]) -> Iterator[tuple[bytes, bytes]]:
    """What the client is offered: what the server offers and we know, and what the one that writes will have."""
    yield from ((name, value) for name, value in offers.items() if name in EXTENSIONS)
    if sftp.OFFERS_IT in offers:
        yield from ((name, sftp.VERSIONS[name]) for name in sftp.OFFERED_ANYWAY if name not in offers)


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    """The first leaf that is no mere echo of the end."""
    leaves = list(_leaves(group))
    return next((leaf for leaf in leaves if not isinstance(leaf, Over)), leaves[0])


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(each)
        else:
            yield each
