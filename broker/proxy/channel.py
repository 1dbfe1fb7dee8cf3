"""One session channel: exactly one exec, an allow-listed environment, a terminal, nothing else (I-20 to I-23).

Answers every request itself, by its exact name, so that nothing is granted by a default of asyncssh's, and keeps no
byte of stdin itself: what arrives is its session's at once, and the window grows only as the session consumes.
Reaches into names that asyncssh does not promise: requirements/lock.txt pins it, tests/broker/proxy drives each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

import asyncssh
from asyncssh.constants import MSG_CHANNEL_CLOSE, MSG_CHANNEL_WINDOW_ADJUST
from asyncssh.packet import SSHPacket, UInt32

from broker.core.action import RAW_SHELL, checked_env
from broker.core.errors import Refusal
from broker.core.terminal import Signal, Size, Terminal, checked_size, read_modes
from broker.fastpath import FastChannel
from broker.proxy import limits
from broker.proxy.shell.session import ShellSession
from broker.service.shell import FLAG

if TYPE_CHECKING:
    from broker.proxy.connection import GatewayConnection
    from broker.proxy.exec_session import ExecSession

_FEATURES: Final = MappingProxyType(
    {
        "x11-req": "x11",
        "auth-agent-req@openssh.com": "agent",
        "break": "break",
    }
)
_UNNOTED: Final = frozenset({"keepalive@openssh.com", "eow@openssh.com"})
"""What stock clients say by themselves: answered with no, and not worth a word in the log."""
RAW: Final = "raw_shell"
"""The flag of a grant whose shell is no gated one: a command like any other, which asks a person each time."""
_ENDED: Final = frozenset({"close_pending", "closed"})
_SIGNALS: Final = MappingProxyType({signal.encode(): signal for signal in Signal})


class GatewayChannel(FastChannel, asyncssh.SSHServerChannel[bytes]):
    """A session channel with every door shut but one."""

    def __init__(self, connection: GatewayConnection, session: ExecSession) -> None:
        super().__init__(
            connection,
            connection.get_loop(),
            allow_pty=False,
            line_editor=False,
            line_echo=False,
            line_history=0,
            max_line_length=0,
            encoding=None,
            errors="strict",
            window=limits.WAITING_WINDOW,
            max_pktsize=limits.PACKET,
        )
        self._gateway = connection
        self._exec = session
        self._heard: ExecSession | ShellSession = session
        """Whose what comes from the client is."""
        self._recv_paused = self._left = False
        self._environment: dict[str, str] = {}
        self._environment_asked = 0
        self.set_write_buffer_limits(high=limits.SEND_HIGH)

    # ---- requests ----------------------------------------------------------------------------------------------------
    def _service_next_request(self) -> None:
        name, packet, _ = self._request_queue[0]
        self._report_response(self._answer(name, packet))

    def _answer(self, name: str, packet: SSHPacket) -> bool:
        answer = self._answers.get(name)
        if answer is not None:
            return answer(self, packet)
        if name not in _UNNOTED:
            self._gateway.refuse(_FEATURES.get(name, "unknown_request"))
        return False

    def _environment_asked_for(self, packet: SSHPacket) -> bool:
        """TERM, LANG and LC_* with plain values, before the command; the rest never reaches the target (I-21)."""
        name, value = packet.get_string(), packet.get_string()
        packet.check_end()
        self._environment_asked += 1
        if self._session_started or self._environment_asked > limits.ENVIRONMENT_ASKED:
            self._gateway.refuse("env")
            return False
        try:
            allowed = dict(checked_env({name.decode("ascii"): value.decode("ascii")}))
        except (Refusal, UnicodeDecodeError):
            allowed = {}
        if not allowed or len(self._environment | allowed) > limits.ENVIRONMENT:
            self._gateway.note("env")
            return False
        self._environment |= allowed
        return True

    def _exec_asked_for(self, packet: SSHPacket) -> bool:
        """The one command of this channel, as the bytes that came."""
        command = packet.get_string()
        packet.check_end()
        if self._session_started:
            self._gateway.refuse("second_exec")
            return False
        self._session_started = True
        self._exec.command_requested(command, self._environment)
        return True

    def _subsystem_asked_for(self, packet: SSHPacket) -> bool:
        """Only sftp, and only where the grant has it (I-28)."""
        name = packet.get_string()
        packet.check_end()
        sessions = self._gateway.file_sessions() if name == b"sftp" else None
        if sessions is None or self._session_started:
            self._gateway.refuse("subsystem")
            return False
        self._session_started = True
        self._exec.files_requested(sessions)
        return True

    def _shell_asked_for(self, packet: SSHPacket) -> bool:
        """Who answers is the grant's to say: a raw shell, or a gated one, its session from here on (I-20)."""
        packet.check_end()
        admission = self._gateway.admission
        if admission is None or admission.grant.flags.isdisjoint({RAW, FLAG}):
            self._gateway.refuse("shell")
            return False
        if self._session_started:
            self._gateway.refuse("second_exec")
            return False
        self._session_started = True
        if RAW in admission.grant.flags:
            self._exec.command_requested(RAW_SHELL, self._environment)
            return True
        shell = ShellSession(self._gateway, self, admission, self._exec.steering)
        self._session = self._heard = shell
        shell.begin(self._environment)
        return True

    # ---- terminal ----------------------------------------------------------------------------------------------------
    def _terminal_asked_for(self, packet: SSHPacket) -> bool:
        """One terminal a channel, before its command. Its type is a variable like TERM: plain, or the dumb one's."""
        kind, size = packet.get_string(), _size(packet)
        modes = packet.get_string()
        packet.check_end()
        if self._session_started or self._exec.steering.has_terminal:
            self._gateway.refuse("pty")
            return False
        try:
            terminal = Terminal(size=size, modes=read_modes(modes))
        except Refusal:
            self._gateway.refuse("pty")
            return False
        with suppress(Refusal, UnicodeDecodeError):
            self._environment = dict(checked_env(self._environment | {"TERM": kind.decode("ascii")}))
        self._exec.steering.open(terminal)
        return True

    def _size_told(self, packet: SSHPacket) -> bool:
        size = _size(packet)
        packet.check_end()
        self._exec.steering.resized(size)
        return self._exec.steering.has_terminal

    def _signal_asked_for(self, packet: SSHPacket) -> bool:
        """Those that ask a command to do or end something; those that leave a core file are refused."""
        name = packet.get_string()
        packet.check_end()
        if not self._session_started or name not in _SIGNALS:
            self._gateway.refuse("signal")
            return False
        self._exec.steering.signalled(_SIGNALS[name])
        return True

    _answers: Final[Mapping[str, Callable[[GatewayChannel, SSHPacket], bool]]] = MappingProxyType(
        {
            "exec": _exec_asked_for,
            "subsystem": _subsystem_asked_for,
            "shell": _shell_asked_for,
            "env": _environment_asked_for,
            "pty-req": _terminal_asked_for,
            "window-change": _size_told,
            "signal": _signal_asked_for,
        }
    )

    # ---- its end -----------------------------------------------------------------------------------------------------
    def _client_closes(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """Where both have closed, its place is free at once: what the client opens next may stand right behind it."""
        both = self._send_state == "closed"
        asyncssh.SSHServerChannel._process_close(self, pkttype, pktid, packet)  # noqa: SLF001  asyncssh's table takes functions
        if both:
            self.leave()

    def leave(self) -> None:
        """Gives up the place among the sessions of its connection; once."""
        if not self._left:
            self._left = True
            self._gateway.session_closed()

    _packet_handlers: Mapping[int, object] = MappingProxyType(  # type: ignore[assignment]  # asyncssh's are untyped
        {**FastChannel._packet_handlers, MSG_CHANNEL_CLOSE: _client_closes}  # noqa: SLF001
    )

    # ---- stdin -------------------------------------------------------------------------------------------------------
    def _accept_data(self, data: bytes, datatype: int | None = None) -> None:
        """asyncssh would keep one object a packet, two million for two million bytes."""
        if data and self._send_state not in _ENDED:
            self._recv_window -= len(data)
            self._heard.data_received(data, datatype)

    def take(self, size: int) -> None:
        """Lets the client send `size` bytes more."""
        if self._recv_state == "open":
            self._recv_window += size
            self.send_packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(size))

    # ---- output ------------------------------------------------------------------------------------------------------
    def _pause_resume_writing(self) -> None:
        """As asyncssh, and counts the pieces too: a target may write byte by byte."""
        session = cast("ExecSession | None", self._session)
        if session is None:
            return
        waiting, pieces = self._send_buf_len, len(self._send_buf)
        if not self._send_paused and (waiting > self._send_high_water or pieces > limits.SEND_PIECES):
            self._send_paused = True
            session.pause_writing()
        elif self._send_paused and waiting <= self._send_low_water and pieces <= limits.SEND_PIECES // 2:
            self._send_paused = False
            session.resume_writing()


def _size(packet: SSHPacket) -> Size:
    """Columns and rows; pixels are read and left."""
    columns, rows, _, _ = (packet.get_uint32() for _ in range(4))
    return checked_size(columns, rows)
