"""One connection at the SSH door: who it is, what it may open, how long it may take (I-20 to I-26).

Identity is the certificate whose signature completed authentication, and its row; user name, offered keys and
anything else that a client says carry no authority (I-24). Overrides asyncssh where its defaults are not safe with
hostile peers; what is overridden is not promised by asyncssh, so requirements/lock.txt pins it and
tests/broker/proxy drives each override with a client of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

import asyncssh
import structlog
from asyncssh.connection import SSHServerConnection, SSHServerConnectionOptions
from asyncssh.constants import (
    MSG_CHANNEL_OPEN,
    MSG_GLOBAL_REQUEST,
    MSG_NEWKEYS,
    MSG_REQUEST_FAILURE,
    OPEN_ADMINISTRATIVELY_PROHIBITED,
)
from asyncssh.packet import SSHPacket
from cryptography.exceptions import InvalidSignature

from broker.core.errors import Fault, Refusal
from broker.core.flags import Destination, destination_of, forwards, max_sessions
from broker.core.sftp import Sessions, sessions_of
from broker.core.sshwire import WireError
from broker.fastpath import FastConnection
from broker.proxy import limits
from broker.proxy.certificate import certificate_of, is_ours, must_be_signed, shown
from broker.proxy.channel import GatewayChannel
from broker.proxy.exec_session import ExecSession
from broker.proxy.forward import ForwardChannel, ForwardSession
from broker.service.gateway import Admission

if TYPE_CHECKING:
    from broker.proxy.server import SshDoor

log = structlog.get_logger()
NOT_PERMITTED: Final = "not permitted by this grant"
_CHANNELS: Final[Mapping[bytes, str]] = MappingProxyType(
    {
        b"direct-tcpip": "direct_tcpip",
        b"direct-streamlocal@openssh.com": "direct_streamlocal",
        b"forwarded-tcpip": "forwarded_tcpip",
        b"forwarded-streamlocal@openssh.com": "forwarded_streamlocal",
        b"tun@openssh.com": "tun",
        b"x11": "x11",
        b"auth-agent@openssh.com": "agent",
    }
)
_GLOBALS: Final[Mapping[bytes, str]] = MappingProxyType(
    {
        b"tcpip-forward": "tcpip_forward",
        b"cancel-tcpip-forward": "tcpip_forward",
        b"streamlocal-forward@openssh.com": "streamlocal_forward",
        b"cancel-streamlocal-forward@openssh.com": "streamlocal_forward",
    }
)


def _destination(host: bytes, port: int) -> Destination | None:
    try:
        return destination_of(host.decode("ascii"), port)
    except (Refusal, UnicodeDecodeError):
        return None


_KEEPALIVE: Final = b"keepalive@openssh.com"
_NO_MORE_SESSIONS: Final = b"no-more-sessions@openssh.com"


class GatewayConnection(FastConnection, SSHServerConnection):
    """An SSH server connection that admits exactly one grant."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: SSHServerConnectionOptions, *, door: SshDoor) -> None:
        super().__init__(loop, options)
        self.door, self.fast, self.glance = door, door.fast_path, door.glance
        self.admission: Admission | None = None
        self.idle_since: float | None = None
        """When it last ran a command or was admitted, by the loop's clock; None before, and while one runs."""
        self._source = ""
        self._counted = self._cut = self._deaf = False
        self._early = self._failures = self._offers = 0
        self._names: set[str] = set()
        self._sessions = self._sessions_open = self._refusals = self._running = self._forwards = 0
        self._forwarding: set[ForwardSession] = set()
        self._no_more_sessions = False
        self._noted: set[str] = set()
        self._roomy, self._exchanged = asyncio.Event(), asyncio.Event()
        self._roomy.set()
        self._exchange: asyncio.TimerHandle | None = None

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop it lives on."""
        return self._loop

    # ---- life --------------------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Counts it in, or ends it at once over the caps on unauthenticated connections."""
        peer = transport.get_extra_info("peername") or ("",)
        self._source = str(peer[0])
        if not self.door.enter(self, self._source):
            self._cut = True
            self._cancel_login_timer()
            transport.close()
            return
        self._counted = True
        # uvloop's TCP transport is one in all but its class
        cast("asyncio.Transport", transport).set_write_buffer_limits(high=limits.SEND_HIGH)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None = None) -> None:
        """Counts it out. asyncssh calls this too, when it gives a connection up."""
        self._left_unauthenticated()
        self.door.leave(self)
        self._stop_exchange_timer()
        self._roomy.set()
        self._exchanged.set()
        for session in tuple(self._forwarding):
            session.connection_lost(exc)  # those whose channel is not open yet are told by nobody else
        super().connection_lost(exc)

    def cut(self, reason: str) -> None:
        """Ends it: nothing more is read, and what was already answered is still sent. `reason` is for the metric."""
        if self._cut:
            return
        self._cut = True
        self._inpbuf = b""
        self.door.meter.count("connections_refused", reason=reason)
        self._loop.call_soon(self.abort)

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Reads, and stops reading a client that does not read: its answers would pile up (threats.md M4, F29)."""
        if self._cut:
            return
        if self.admission is None or not self._auth_complete:
            self._early += len(data)
            if self._early > limits.LOGIN_BYTES:
                self.cut("login_bytes")
                return
        self.acknowledge_at_once()
        super().data_received(data, datatype)
        if len(self._deferred_packets) > limits.DEFERRED:
            self.cut("deferred")
        elif not self._roomy.is_set() and not self._deaf and self._transport is not None:
            self._deaf = True
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        """The socket is full: the target is not read until it drains (threats.md M4)."""
        self._roomy.clear()

    def resume_writing(self) -> None:
        """There is room again."""
        self._roomy.set()
        if self._deaf and self._transport is not None:
            self._deaf = False
            self._transport.resume_reading()

    @property
    def is_writable(self) -> bool:
        """Whether `until_writable` would not wait."""
        return self._roomy.is_set() and self._exchanged.is_set()

    async def until_writable(self) -> None:
        """Returns once bytes would leave, and not pile up behind a full socket or an unfinished key exchange (M4)."""
        await self._roomy.wait()
        await self._exchanged.wait()

    # ---- key exchanges -----------------------------------------------------------------------------------------------
    def _send_kexinit(self) -> None:
        """A key exchange begins: whoever began it, it ends in time."""
        self._exchanged.clear()
        if self._exchange is None:
            self._exchange = self._loop.call_later(limits.REKEY_S, self.cut, "rekey")
        super()._send_kexinit()

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        """Our half of a key exchange is done: what waited for it was sent."""
        super().send_newkeys(k, h)
        self._exchanged.set()

    def _keys_are_new(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """The client's half is done too."""
        self._stop_exchange_timer()
        super()._process_newkeys(pkttype, pktid, packet)

    def _stop_exchange_timer(self) -> None:
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None

    # ---- who it is ---------------------------------------------------------------------------------------------------
    async def reload_config(self) -> None:
        """Nothing is configured by user name, and asyncssh's look for it costs a thread and a parse a name."""

    def named(self, username: str) -> None:
        """A client says another name than before; it has three."""
        self._names.add(username)
        if len(self._names) > limits.MAX_USER_NAMES:
            self.cut("too_many_names")

    def public_key_auth_supported(self) -> bool:
        """The only method there is."""
        return True

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        """True for a certificate of the ingress CA whose row admits it.

        The grant is bound once its signature held (F28); with an empty `msg` the client only asks.
        """
        if self._cut:
            return False
        if not is_ours(key_data):
            log.info("gateway.refused", rule="not an Ed25519 certificate")
            return False
        try:
            certificate = certificate_of(key_data, ingress_cas=self.door.ingress_cas)
            if msg:
                must_be_signed(
                    certificate, session=self._session_id, user=username, key=key_data, message=msg, signature=signature
                )
            admission = await self.door.admit(shown(certificate, username))
        except (Refusal, WireError, InvalidSignature) as no:
            # which rule it was stays in here: whoever guesses is told the same words for all of them
            log.info("gateway.refused", rule=_rule(no))
            return self._failed("certificate")
        except Fault as fault:
            log.warning("gateway.admission_failed", cause=fault.what)
            return self._failed("broker")
        if msg and not self.door.bind(self, admission):
            return self._failed("too_many_connections")
        return True

    def _failed(self, reason: str) -> bool:
        self._failures += 1
        self.door.meter.count("connections_refused", reason=reason)
        if self._failures >= limits.MAX_FAILURES:
            self.cut("too_many_failures")
        return False

    def send_userauth_failure(self, partial_success: bool) -> None:  # noqa: FBT001  asyncssh's signature
        """Every no of every method is counted."""
        super().send_userauth_failure(partial_success)
        self._offers += 1
        if self._offers > limits.MAX_OFFERS:
            self.cut("too_many_offers")

    async def send_userauth_success(self) -> None:
        """Authentication is complete: it no longer counts as unauthenticated."""
        if self.admission is None:  # no way leads here; one that did would end here
            self.cut("not_admitted")
            return
        self._left_unauthenticated()
        self.idle_since = self._loop.time()
        await super().send_userauth_success()

    def _left_unauthenticated(self) -> None:
        if self._counted:
            self._counted = False
            self.door.authenticated(self._source)

    # ---- what it may open --------------------------------------------------------------------------------------------
    def _channel_asked_for(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """Sessions, so many at a time and not for ever (I-22), and what the grant names; no other kind (I-20)."""
        kind, sender, window, size = packet.get_string(), packet.get_uint32(), packet.get_uint32(), packet.get_uint32()
        if kind == b"direct-tcpip" and self.admission is not None:
            self._forward_asked_for(self.admission, packet, sender, window, size)
            return
        feature = _CHANNELS.get(kind, "unknown_channel") if kind != b"session" else self._why_no_session(size)
        if feature or self.admission is None:
            self.refuse(feature or "session")
            self.send_channel_open_failure(sender, OPEN_ADMINISTRATIVELY_PROHIBITED, NOT_PERMITTED, "en")
            return
        packet.check_end()
        self._sessions += 1
        self._sessions_open += 1
        session = ExecSession(self, self.admission)
        GatewayChannel(self, session).process_open(sender, window, size, session)

    def _forward_asked_for(self, admission: Admission, packet: SSHPacket, sender: int, window: int, size: int) -> None:
        """A connection to one of the grant's destinations, as an action of its own; the originator is not looked at."""
        host, port, _, _ = packet.get_string(), packet.get_uint32(), packet.get_string(), packet.get_uint32()
        packet.check_end()
        to = _destination(host, port)
        if (
            to is None
            or to not in forwards(admission.grant.flags)
            or size < limits.SMALLEST_PACKET
            or len(self._forwarding) >= limits.FORWARDS_AT_ONCE
            or self._forwards >= limits.FORWARDS
        ):
            self.refuse("direct_tcpip")
            self.send_channel_open_failure(sender, OPEN_ADMINISTRATIVELY_PROHIBITED, NOT_PERMITTED, "en")
            return
        self._forwards += 1
        session = ForwardSession(self, admission, to)
        self._forwarding.add(session)
        ForwardChannel(self, session).process_open(sender, window, size, session.opened())

    def forward_ended(self, session: ForwardSession) -> None:
        """A forwarded connection is over, or was never made."""
        self._forwarding.discard(session)

    def _why_no_session(self, packet_size: int) -> str:
        """The name of what is refused; empty for a session that may open."""
        if packet_size < limits.SMALLEST_PACKET:
            return "small_packets"
        at_once = max_sessions(self.admission.grant.flags) if self.admission is not None else 0
        if self._sessions_open >= at_once or self._sessions >= limits.SESSIONS:
            return "second_session"
        return "second_session" if self._no_more_sessions else ""

    def session_closed(self) -> None:
        """A session's channel is gone: another may be opened."""
        self._sessions_open -= 1

    def file_sessions(self) -> Sessions | None:
        """The file sessions that its grant allows."""
        return sessions_of(self.admission.grant.flags) if self.admission is not None else None

    def command_runs(self) -> None:
        """From here on it is busy."""
        self._running += 1
        self.idle_since = None

    def command_ended(self) -> None:
        """Idle again once nothing runs, whatever became of the channels."""
        self._running -= 1
        if not self._running:
            self.idle_since = self._loop.time()

    def _global_asked_for(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """Nothing is granted to a whole connection; a keepalive is answered, with no as well."""
        name, wants_reply = packet.get_string(), packet.get_boolean()
        if name == _NO_MORE_SESSIONS:
            self._no_more_sessions = True
        elif name != _KEEPALIVE:
            self.refuse(_GLOBALS.get(name, "unknown_request"))
        if wants_reply:
            self.send_packet(MSG_REQUEST_FAILURE)

    def refuse(self, feature: str) -> None:
        """Something was asked for that is not granted; a client that keeps asking is cut."""
        self.note(feature)
        self._refusals += 1
        if self._refusals > limits.REFUSALS:
            self.cut("refused_features")

    def note(self, feature: str) -> None:
        """Tells the log of a refused feature, once a connection."""
        if self.admission is not None and feature not in self._noted:
            self._noted.add(feature)
            self.door.tell(self.admission, feature)

    _packet_handlers: Mapping[int, object] = MappingProxyType(  # type: ignore[assignment]  # asyncssh's are untyped
        {
            **asyncssh.SSHServerConnection._packet_handlers,  # noqa: SLF001
            MSG_CHANNEL_OPEN: _channel_asked_for,
            MSG_GLOBAL_REQUEST: _global_asked_for,
            MSG_NEWKEYS: _keys_are_new,
        }
    )


def _rule(no: Refusal | WireError | InvalidSignature) -> str:
    if isinstance(no, Refusal):
        return no.rule or no.code
    return str(no) if isinstance(no, WireError) else "not signed for this connection"
