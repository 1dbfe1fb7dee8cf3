"""One session channel: exactly one exec, an allow-listed environment, nothing else (I-20 to I-22).

Overrides the request handlers of asyncssh's channel, so that nothing is granted by a default: pty, agent, X11, shell,
subsystem, signals and breaks are refused and told to the log. Pinned to asyncssh 2.24 by requirements/lock.txt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import asyncssh
from asyncssh.packet import SSHPacket

from broker.core.action import checked_env
from broker.core.errors import Refusal
from broker.proxy import limits

if TYPE_CHECKING:
    from broker.proxy.connection import GatewayConnection
    from broker.proxy.exec_session import ExecSession


class GatewayChannel(asyncssh.SSHServerChannel[bytes]):
    """A session channel with every door shut but one."""

    @property
    def gateway(self) -> GatewayConnection:
        """The connection it belongs to."""
        return cast("GatewayConnection", self._conn)

    def _refuse(self, feature: str) -> bool:
        self.gateway.refuse(feature)
        return False

    def _process_pty_req_request(self, packet: SSHPacket) -> bool:
        return self._refuse("pty")

    def _process_x11_req_request(self, packet: SSHPacket) -> bool:
        return self._refuse("x11")

    def _process_auth_agent_req_at_openssh_dot_com_request(self, packet: SSHPacket) -> bool:  # type: ignore[override]
        return self._refuse("agent")

    def _process_shell_request(self, packet: SSHPacket) -> bool:
        return self._refuse("shell")

    def _process_subsystem_request(self, packet: SSHPacket) -> bool:
        return self._refuse("subsystem")

    def _process_window_change_request(self, packet: SSHPacket) -> bool:
        return False

    def _process_signal_request(self, packet: SSHPacket) -> bool:
        return self._refuse("signal")

    def _process_break_request(self, packet: SSHPacket) -> bool:
        return self._refuse("break")

    def _process_env_request(self, packet: SSHPacket) -> bool:
        """TERM, LANG and LC_* with plain values.

        The rest never reaches the target, and clients send it all the time.
        """
        name, value = packet.get_string(), packet.get_string()
        packet.check_end()
        if self._session_started or len(self._env) >= limits.ENVIRONMENT:
            return self._refuse("env")
        try:
            checked_env({name.decode("ascii"): value.decode("ascii")})
        except (Refusal, UnicodeDecodeError):
            return False
        self._env[name] = value
        return True

    def _process_exec_request(self, packet: SSHPacket) -> bool:
        """The one command of this channel, as the bytes that came."""
        command = packet.get_string()
        packet.check_end()
        if self._session_started:
            return self._refuse("second_exec")
        if len(command) > limits.COMMAND_BYTES:
            return self._refuse("exec_too_long")
        self._session_started = True
        environment = {name.decode(): value.decode() for name, value in self._env.items()}
        return cast("ExecSession", self._session).command_requested(command, environment)
