"""One SSH connection to one target: pinned key, one certificate, nothing from this machine's own SSH set-up.

Never accepts a host key that is not the pinned one (also at rekey), never opens what a target asks for, and never lets
a target make the broker's memory grow: asyncssh bounds neither what waits to be sent nor what a key exchange defers.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import TYPE_CHECKING, Final, cast

import asyncssh
from asyncssh.constants import MSG_CHANNEL_OPEN, MSG_DEBUG, MSG_IGNORE, OPEN_ADMINISTRATIVELY_PROHIBITED
from asyncssh.packet import SSHPacket

from broker.adapters.target_ssh.faults import fault, fault_of
from broker.fastpath import FastConnection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from asyncssh.packet import SSHPacketLogger

DIAL_SECONDS: Final = 5.0
LOGIN_SECONDS: Final = 15.0
KEEPALIVE_SECONDS: Final = 15
KEEPALIVE_MISSES: Final = 3
REKEY_SECONDS: Final = 30.0
MAX_UNSENT: Final = 4 * 1024 * 1024
"""Bytes that may wait for a target that does not read; one more and the connection ends."""
MAX_DEFERRED: Final = 512
"""Packets that may wait for the end of a key exchange."""
_SLOW_DEFERRED: Final = 32
_DEBUGS, _DEBUG_BYTES = 4, 100
_MAX_OPENS: Final = 16
"""Channels that a target may ask for, all refused, before the connection ends."""

_KEX: Final = (
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
)
_CIPHERS: Final = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
_SIGNATURES: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)


class Connection(FastConnection, asyncssh.SSHClientConnection):
    """asyncssh's client connection with the ceilings of I-26 and I-27, and without Nagle's and delayed ACKs' waits.

    The overridden methods are private to asyncssh; pyproject.toml pins the minor version, test_connection holds them.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: asyncssh.SSHClientConnectionOptions,
        *,
        wait: str,
        keypair: asyncssh.SSHKeyPair | None,
        fast_path: bool,
    ) -> None:
        super().__init__(loop, options, wait=wait)
        self.fast = fast_path
        self._keypair = keypair
        self.debugs: deque[bytes] = deque(maxlen=_DEBUGS)
        """The last debug messages, each its first _DEBUG_BYTES: the target's words, for checks of it alone."""
        self.on_lost: Callable[[], object] = _nothing
        """Called once when the connection is gone."""
        self._agent = None
        self._get_agent_keys = False
        self._full = False
        self._drained = asyncio.Event()
        self._drained.set()
        self._opens = 0
        self._rekey_began: float | None = None

    async def writable(self) -> None:
        """Returns when more may be sent without growing what waits."""
        await self._drained.wait()

    async def public_key_auth_requested(self) -> asyncssh.SSHKeyPair | None:
        """Offers the certificate once, and nothing else ever."""
        pair, self._keypair = self._keypair, None
        if pair is not None:
            self._choose_signature_alg(pair)
        return pair

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Reads, and looks whether a key exchange takes too long."""
        self.acknowledge_at_once()  # sshd's answers to the first requests wait for our ACK
        super().data_received(data, datatype)
        if self._kex_complete or not self._auth_complete:
            self._rekey_began = None
        elif self._rekey_began is None:
            self._rekey_began = self._loop.time()
        elif self._loop.time() - self._rekey_began > REKEY_SECONDS:
            self._force_close(asyncssh.ConnectionLost("rekey"))

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self._full = True
        self._drained.clear()

    def resume_writing(self) -> None:
        """The socket takes bytes again."""
        self._full = False
        self._look_if_drained()

    def send_packet(self, pkttype: int, *args: bytes, handler: SSHPacketLogger | None = None) -> None:
        """Sends, and gives up on a target that lets a key exchange hold back too much."""
        if pkttype == MSG_IGNORE:
            return  # asyncssh puts one before each packet against CBC's weakness; only AES-GCM is spoken here
        super().send_packet(pkttype, *args, handler=handler)
        if len(self._deferred_packets) > _SLOW_DEFERRED:
            self._drained.clear()
        if len(self._deferred_packets) > MAX_DEFERRED:
            self._force_close(asyncssh.ConnectionLost("deferred"))

    def _send_deferred_packets(self) -> None:
        super()._send_deferred_packets()
        self._look_if_drained()

    def _look_if_drained(self) -> None:
        if not self._full and len(self._deferred_packets) <= _SLOW_DEFERRED:
            self._drained.set()

    def _send(self, data: bytes) -> None:
        super()._send(data)
        if self._transport is not None and self._transport.get_write_buffer_size() > MAX_UNSENT:
            self._force_close(asyncssh.ConnectionLost("unsent"))

    def _cleanup(self, exc: Exception | None) -> None:
        self._drained.set()
        super()._cleanup(exc)
        self.on_lost()

    def _hear(self, _type: int, _id: int, packet: SSHPacket) -> None:
        packet.get_boolean()
        self.debugs.append(packet.get_string()[:_DEBUG_BYTES])

    def _refuse_channel(self, _type: int, _id: int, packet: SSHPacket) -> None:
        """Whatever kind a target asks for (forwarded-tcpip, x11, agent, session): no."""
        packet.get_string()
        channel = packet.get_uint32()
        self._opens += 1
        if self._opens > _MAX_OPENS:
            raise asyncssh.ProtocolError("too many channels asked for")
        self.send_channel_open_failure(channel, OPEN_ADMINISTRATIVELY_PROHIBITED, "refused", "en")

    _packet_handlers: Mapping[int, object] = {  # type: ignore[assignment]  # asyncssh leaves the handlers untyped
        **asyncssh.SSHClientConnection._packet_handlers,  # noqa: SLF001
        MSG_CHANNEL_OPEN: _refuse_channel,
        MSG_DEBUG: _hear,
    }


async def dial(host: str, port: int) -> socket.socket:
    """A connected socket. Raises TargetFault `unreachable`."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(DIAL_SECONDS):
            for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                sock = socket.socket(family, kind, protocol)
                try:
                    sock.setblocking(False)  # noqa: FBT003  the standard library's own signature
                    await loop.sock_connect(sock, address)
                except BaseException as error:
                    sock.close()
                    if not isinstance(error, OSError):
                        raise
                else:
                    return sock
    except (OSError, UnicodeError):  # no such name, no route, refused, or too late
        raise fault("unreachable") from None
    raise fault("unreachable")


async def log_in(
    sock: socket.socket,
    *,
    host: str,
    port: int,
    login: str,
    host_key: str,
    keypair: asyncssh.SSHKeyPair,
    fast_path: bool = True,
) -> Connection:
    """The SSH handshake over a connected socket, which is the connection's from here on. Raises TargetFault."""
    pinned = asyncssh.import_public_key(host_key)
    options = _options(host=host, port=port, login=login, known_hosts=([pinned], [], []))
    return await _handshake(sock, options, wait="auth", keypair=keypair, fast_path=fast_path)


async def shown_host_key(host: str, port: int) -> asyncssh.SSHKey:
    """The Ed25519 key that the address proves to own right now; nobody logs in. Raises TargetFault."""
    sock = await dial(host, port)
    options = _options(host=host, port=port, login="grantd", known_hosts=None, host_key_algs=("ssh-ed25519",))
    connection = await _handshake(sock, options, wait="kex", keypair=None, fast_path=False)
    key = connection.get_server_host_key()
    connection.abort()
    if key is None:
        raise fault("connection_lost")
    return key


async def _options(
    *, host: str, port: int, login: str, known_hosts: object, host_key_algs: tuple[str, ...] = _SIGNATURES
) -> asyncssh.SSHClientConnectionOptions:
    """Everything asyncssh would otherwise read from files, the environment, an agent or Kerberos is switched off."""
    options = await asyncssh.SSHClientConnectionOptions.construct(
        config=None,
        host=host,
        port=port,
        username=login,
        known_hosts=known_hosts,
        x509_trusted_certs=None,
        x509_trusted_cert_paths=(),
        # the pinned key decides; other kinds are offered so that a host that changed its kind of key is told apart
        server_host_key_algs=host_key_algs,
        client_keys=None,
        agent_path=None,
        agent_forwarding=False,
        gss_host=None,
        preferred_auth=("publickey",),
        password_auth=False,
        kbdint_auth=False,
        host_based_auth=False,
        disable_trivial_auth=True,
        kex_algs=_KEX,
        encryption_algs=_CIPHERS,
        signature_algs=_SIGNATURES,
        compression_algs=("none",),
        login_timeout=LOGIN_SECONDS,
        keepalive_interval=KEEPALIVE_SECONDS,
        keepalive_count_max=KEEPALIVE_MISSES,
        utf8_decode_errors="replace",
    )
    return cast("asyncssh.SSHClientConnectionOptions", options)


async def _handshake(
    sock: socket.socket,
    made: Awaitable[asyncssh.SSHClientConnectionOptions],
    *,
    wait: str,
    keypair: asyncssh.SSHKeyPair | None,
    fast_path: bool,
) -> Connection:
    loop = asyncio.get_running_loop()
    connection: Connection | None = None
    try:
        async with asyncio.timeout(LOGIN_SECONDS):
            options = await made
            options.waiter = loop.create_future()
            connection = Connection(loop, options, wait=wait, keypair=keypair, fast_path=fast_path)
            await loop.create_connection(lambda: connection, sock=sock)
            await options.waiter
    except BaseException as error:
        if connection is not None:
            connection.abort()
        sock.close()
        if isinstance(error, (OSError, asyncssh.Error)):
            raise fault_of(error) from None
        raise
    return connection


def _nothing() -> None:
    """Nothing hangs on it."""
