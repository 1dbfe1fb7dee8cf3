"""One running command: its channel, its streams, its end. Never decides, never shows what a target says of itself.

The window of the channel is opened again only for what was read: a reader that waits is a target that waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import asyncssh
from asyncssh.constants import EXTENDED_DATA_STDERR, MSG_CHANNEL_WINDOW_ADJUST
from asyncssh.packet import String, UInt32

from broker.adapters.target_ssh.faults import fault
from broker.adapters.target_ssh.inbox import Inbox, MarkFilter
from broker.core.action import Outcome
from broker.core.terminal import Signal, Size, Terminal
from broker.core.wrapper import mark_of, marked_group
from broker.fastpath import FastChannel
from broker.service.ports import Chunk, Stream

if TYPE_CHECKING:
    from broker.adapters.target_ssh.connection import Connection

WINDOW: Final = 2 * 1024 * 1024
"""Bytes of one command that may wait in the broker (I-26)."""
PACKET: Final = 32 * 1024
CUT_SECONDS: Final = 0.9
"""After this long `cut` returns, whatever the target does."""
_MARK_SECONDS: Final = 0.3
_SIGNALS: Final = frozenset(
    {"ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2"}
)
_CUT: Final = Outcome(exit_status=None, signal="", reason="cut")


class Channel(FastChannel, asyncssh.SSHClientChannel[bytes]):
    """A session channel that may be opened ahead of its command, and whose window follows the reader."""

    def __init__(self, connection: Connection, process: RemoteProcess) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(connection, loop, "replace", None, "strict", WINDOW, PACKET)
        self._recv_paused = False
        self._session = process
        self._unread = 0
        self._discarding = False

    @property
    def is_open(self) -> bool:
        """Open on both sides."""
        return self._send_state == "open" and self._recv_state == "open"

    @property
    def target_closed(self) -> bool:
        """The target itself said that nothing more comes: what arrived is everything."""
        return self._recv_state == "closed"

    async def open(self) -> None:
        """Opens the channel with nothing sent on it. Raises asyncssh.Error."""
        packet = await self._open(b"session")
        packet.check_end()

    async def ask_for_terminal(self, kind: str, terminal: Terminal) -> bool:
        """Asks for a pty; whether the target gave one. Before the command."""
        return bool(
            await self._make_request(b"pty-req", String(kind), *_cells(terminal.size), String(terminal.encoded_modes()))
        )

    def resize(self, size: Size) -> None:
        """Says that the terminal has another size now."""
        if self._send_state == "open":
            self._send_request(b"window-change", *_cells(size))

    async def ask(self, request: bytes, *fields: bytes) -> bool:
        """Asks for anything else that a session may have; whether the target said yes."""
        return bool(await self._make_request(request, *fields))

    async def run(self, command: str) -> bool:
        """Asks for the command; whether the target took it. Once a channel."""
        return bool(await self._make_request(b"exec", String(command)))

    def read(self, size: int) -> None:
        """So many bytes left the inbox: once half the window was read, the target may send as much again."""
        if not self._discarding:
            self._unread -= size
            self._credit()

    def discard(self) -> None:
        """From now on whatever arrives is dropped, or a target that floods could not even say that it closes."""
        self._discarding = True
        self._unread = 0
        self._credit()

    def _accept_data(self, data: bytes, datatype: int | None = None) -> None:
        if not data or self._send_state in {"close_pending", "closed"}:
            return
        self._recv_window -= len(data)
        if self._discarding:
            self._credit()
        else:
            self._unread += len(data)
            self._session.data_received(data, datatype)

    def _credit(self) -> None:
        free = WINDOW - self._recv_window - self._unread
        if free >= WINDOW // 2 and self._recv_state == "open":
            self._recv_window += free
            self.send_packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(free))


def _cells(size: Size) -> tuple[bytes, ...]:
    return UInt32(size.columns), UInt32(size.rows), UInt32(0), UInt32(0)


class RemoteProcess(asyncssh.SSHClientSession[bytes]):
    """A TargetProcess. Whoever makes it says what its group, its end and its being cut mean (`on_*`, `stop`)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.channel = Channel(connection, self)
        self._inbox = Inbox()
        self._mark: MarkFilter | None = None
        self._nonce = ""
        self._status: int | None = None
        self._signal = ""
        self._cut = False
        self._pty: Terminal | None = None
        self._gone = asyncio.Event()
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._marked = asyncio.Event()
        self._writable.set()
        self.group: int | None = None
        """Its process group on the target, once a pooled read told it."""
        self.on_group: Callable[[int], None] = _ignore
        self.on_gone: Callable[[], None] = _nothing
        self.stop: Callable[[], Awaitable[None]] = _nothing_to_stop
        self.deliver: Callable[[Signal], Awaitable[None]] = _undelivered

    async def run(self, command: str, *, nonce: str, stdin: bool, kind: str = "", pty: Terminal | None = None) -> None:
        """Runs the command on the opened channel, in a terminal of a `kind` where one is given.

        `nonce`: the mark of a pooled read, empty for a sealed command.

        Raises TargetFault `login_refused`: the target takes no command; `no_terminal`: it gives no terminal.
        """
        self._nonce = nonce
        self._mark = MarkFilter(mark_of(nonce)) if nonce else None
        self._pty = pty
        if pty is not None and not await self.channel.ask_for_terminal(kind, pty):
            raise fault("connection_lost" if self._gone.is_set() else "no_terminal")
        if not await self.channel.run(command):
            raise fault("connection_lost" if self._gone.is_set() else "login_refused")
        if not stdin and pty is None:  # a terminal without a keyboard still takes Ctrl-C
            self.channel.write_eof()

    # ---- the port ----
    async def read(self) -> Chunk | Outcome:
        """See TargetProcess."""
        while (chunk := self._inbox.pop()) is None:
            if self._gone.is_set():
                return self._outcome()
            self._readable.clear()
            await self._readable.wait()
        self.channel.read(len(chunk.data))
        return chunk

    async def write(self, data: bytes) -> None:
        """See TargetProcess. What is written after the command ended is dropped, as a pipe's reader would have it."""
        for start in range(0, len(data), PACKET):
            await self._writable.wait()
            await self._connection.writable()
            if self._gone.is_set() or self._cut:
                return
            with contextlib.suppress(OSError):  # the channel closed meanwhile; read() says how
                self.channel.write(data[start : start + PACKET])

    async def write_eof(self) -> None:
        """See TargetProcess."""
        self.channel.write_eof()

    async def resize(self, size: Size) -> None:
        """See TargetProcess."""
        if self._pty is not None and not self._gone.is_set():
            self.channel.resize(size)

    async def signal(self, name: Signal) -> None:
        """See TargetProcess. On a terminal Ctrl-C is typed, which reaches also what runs as another user."""
        if self._gone.is_set() or self._cut:
            return
        if self._pty is not None and self._pty.interrupt and name is Signal.INT:
            await self.write(self._pty.interrupt)
        else:
            await self.deliver(name)

    async def cut(self) -> None:
        """See TargetProcess."""
        if not self._gone.is_set() and not self._cut:
            self._cut = True
            self._writable.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CUT_SECONDS):
                    await self.stop()
                    self.channel.discard()
                    await self._gone.wait()
        if not self._gone.is_set():
            # the target did not confirm: without its connection the reaper and the watchers there end what is left
            self._connection.abort()
            self._end()

    async def ended(self) -> None:
        """Returns when its channel is gone; what it writes is dropped."""
        self.channel.discard()
        await self._gone.wait()

    async def marked(self) -> int | None:
        """The process group, if the target told it in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MARK_SECONDS):
                await self._marked.wait()
        return self.group

    # ---- what asyncssh calls ----
    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Bytes of stdout or stderr."""
        if datatype != EXTENDED_DATA_STDERR:
            self._inbox.push(Stream.OUT, data)
        elif self._mark is None:
            self._inbox.push(Stream.ERR, data)
        else:
            self._filter(self._mark, data)
        self._readable.set()

    def eof_received(self) -> bool:
        """Nothing more comes; True keeps our side open for its stdin."""
        return True

    def exit_status_received(self, status: int) -> None:
        """How it ended, if by itself."""
        self._status = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:  # noqa: FBT001
        """How it ended, if by a signal. The rest is the target's own text and goes nowhere."""
        self._signal = signal if signal in _SIGNALS else "UNKNOWN"

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone, by its own end or with the connection."""
        self._end()

    def pause_writing(self) -> None:
        """The target does not read its stdin for now."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It reads again."""
        self._writable.set()

    def _filter(self, mark: MarkFilter, data: bytes) -> None:
        passed = mark.feed(data)
        self._inbox.push(Stream.ERR, passed)
        if mark.line:
            self._mark = None
            self.channel.read(len(mark.line))
            self.group = marked_group(mark.line, self._nonce)
            self._marked.set()
            if self.group is not None:
                self.on_group(self.group)

    def _end(self) -> None:
        if self._gone.is_set():
            return
        if self._mark is not None:
            self._inbox.push(Stream.ERR, self._mark.rest())
        self._gone.set()
        self._readable.set()
        self._writable.set()
        self._marked.set()
        self.on_gone()

    def _outcome(self) -> Outcome:
        if self._cut:
            return _CUT
        if not self.channel.target_closed or (self._status is None and not self._signal):
            raise fault("connection_lost")
        return Outcome(exit_status=self._status, signal=self._signal, reason="")


def _ignore(_group: int) -> None:
    """Nobody wants to know."""


def _nothing() -> None:
    """Nothing hangs on it."""


async def _nothing_to_stop() -> None:
    """It never started."""


async def _undelivered(_name: Signal) -> None:
    """It never started."""
