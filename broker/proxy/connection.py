"""One connection at the SSH door: who it is, what it may open, how long it may take (I-20 to I-26).

Identity is the certificate whose signature completed authentication, and its row; user name, offered keys and
anything else
that a client says carry no authority (I-24). Overrides asyncssh where its defaults are not safe with hostile peers.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncssh
import structlog
from asyncssh.connection import SSHServerConnection, SSHServerConnectionOptions
from asyncssh.packet import String
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from broker.core.errors import Fault, Refusal
from broker.core.sshcert import CERT_KIND, USER, SshCertificate
from broker.core.sshcert import parse as parse_certificate
from broker.core.sshwire import KeyKind, Reader, WireError, parse_blob
from broker.proxy import limits
from broker.proxy.channel import GatewayChannel
from broker.service.gateway import Admission, Shown

if TYPE_CHECKING:
    from broker.proxy.server import SshDoor

log = structlog.get_logger()
_SIGNATURE_BYTES = 64
_POLL_S = 0.01
_NOT_PERMITTED = "not permitted by this grant"


class GatewayConnection(SSHServerConnection):
    """An SSH server connection that admits exactly one grant."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: SSHServerConnectionOptions, *, door: SshDoor) -> None:
        super().__init__(loop, options)
        self.door = door
        self.admission: Admission | None = None
        self.sessions_open = 0
        self._sessions = self._failures = self._offers = self._refusals = 0
        self._names: set[str] = set()
        self._source = ""
        self._counted = False
        self._rekeying_since: float | None = None
        self.writable = asyncio.Event()
        self.writable.set()

    # ---- life --------------------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Counts it in, or ends it at once over the caps on unauthenticated connections."""
        peer = transport.get_extra_info("peername") or ("",)
        self._source = str(peer[0])
        if not self.door.enter(self, self._source):
            transport.close()
            return
        self._counted = True
        if isinstance(transport, asyncio.WriteTransport):
            transport.set_write_buffer_limits(high=limits.SEND_HIGH)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None = None) -> None:
        """Counts it out."""
        self._left_unauthenticated()
        self.door.leave(self)
        self.writable.set()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The socket is full: the target is not read until it drains (threats.md M4)."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """There is room again."""
        self.writable.set()

    async def until_writable(self) -> None:
        """Returns once bytes would leave, and not pile up behind a full socket or an unfinished key exchange (M4)."""
        await self.writable.wait()
        while not self._kex_complete and not self.is_closed():  # noqa: ASYNC110  asyncssh tells nobody when it is done
            await asyncio.sleep(_POLL_S)

    def is_stale(self, now: float) -> bool:
        """Whether a key exchange has been going on for too long. Asked every second by the door."""
        if self._kex_complete or not self._auth_complete:
            self._rekeying_since = None
            return False
        self._rekeying_since = self._rekeying_since or now
        return now - self._rekeying_since > limits.REKEY_S

    def _left_unauthenticated(self) -> None:
        if self._counted:
            self._counted = False
            self.door.authenticated(self._source)

    # ---- who it is ---------------------------------------------------------------------------------------------------
    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        """True for a certificate of the ingress CA whose row admits it.

        The grant is bound once its signature held (F28).
        """
        self._names.add(username)
        if len(self._names) > limits.MAX_USER_NAMES:
            return self._failed("too_many_names", fatal=True)
        if not key_data.startswith(String(CERT_KIND)):
            self._offers += 1
            return self._failed("plain_key", fatal=True) if self._offers > limits.MAX_OFFERS else False
        try:
            certificate = parse_certificate(key_data)
            _must_be_ours(certificate, self.door.ingress_ca)
            if msg:
                _must_be_signed(certificate, String(self._session_id) + msg, signature)
            admission = await self.door.admit(_shown(certificate, username))
        except (Refusal, WireError, InvalidSignature):
            return self._failed("certificate")
        except Fault as fault:
            log.warning("gateway.admission_failed", cause=fault.what)
            return self._failed("broker")
        if msg:
            self.admission = admission
        return True

    def public_key_auth_supported(self) -> bool:
        """The only method there is."""
        return True

    def _failed(self, reason: str, *, fatal: bool = False) -> bool:
        self._failures += 1
        self.door.meter.count("connections_refused", reason=reason)
        if fatal or self._failures >= limits.MAX_FAILURES:
            self._loop.call_soon(self.abort)
        return False

    async def send_userauth_success(self) -> None:
        """Authentication is complete: it no longer counts as unauthenticated."""
        self._left_unauthenticated()
        await super().send_userauth_success()

    # ---- what it may open --------------------------------------------------------------------------------------------
    def create_server_channel(
        self, encoding: str | None = "", errors: str = "", window: int = 0, max_pktsize: int = 0
    ) -> GatewayChannel:
        """A channel of ours instead of asyncssh's."""
        return GatewayChannel(
            self,
            self._loop,
            allow_pty=False,
            line_editor=False,
            line_echo=False,
            line_history=0,
            max_line_length=0,
            encoding=None,
            errors="strict",
            window=limits.WINDOW,
            max_pktsize=limits.PACKET,
        )

    def may_open_session(self) -> bool:
        """One at a time, and not for ever (I-22)."""
        self._sessions += 1
        if self.sessions_open >= limits.SESSIONS_AT_ONCE or self._sessions > limits.SESSIONS:
            self.refuse("second_session")
            return False
        return True

    def refuse(self, feature: str) -> None:
        """Tells the log that something was asked for that is not granted; a client that keeps asking is cut."""
        self._refusals += 1
        if self._refusals > limits.REFUSALS:
            self._loop.call_soon(self.abort)
            return
        if self.admission is not None:
            self.door.tell(self.admission, feature)


def refused_open(connection: GatewayConnection, feature: str) -> asyncssh.ChannelOpenError:
    """The answer to a channel that is not granted: always the same words (I-27)."""
    connection.refuse(feature)
    return asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, _NOT_PERMITTED)


def _must_be_ours(certificate: SshCertificate, ingress_ca: bytes) -> None:
    if certificate.kind != USER or certificate.ca_key != ingress_ca:
        raise WireError("not a user certificate of the ingress CA")


def _must_be_signed(certificate: SshCertificate, message: bytes, signature: bytes) -> None:
    reader = Reader(signature)
    kind, raw = reader.string(), reader.string()
    reader.end()
    if kind != KeyKind.ED25519.encode() or len(raw) != _SIGNATURE_BYTES:
        raise WireError("not an Ed25519 signature")
    Ed25519PublicKey.from_public_bytes(parse_blob(certificate.public_key).point).verify(raw, message)


def _shown(certificate: SshCertificate, user: str) -> Shown:
    return Shown(
        user=user,
        key_id=certificate.key_id,
        serial=certificate.serial,
        key_sha256=parse_blob(certificate.public_key).sha256(),
        principals=certificate.principals,
        valid_after=_moment(certificate.valid_after),
        valid_before=_moment(certificate.valid_before),
        options=frozenset(certificate.critical),
        extensions=frozenset(certificate.extensions),
    )


def _moment(seconds: int) -> datetime:
    """Certificates count to 2^64; whatever is beyond our calendar is as good as never."""
    return datetime.fromtimestamp(min(seconds, 253_402_300_799), UTC)
