"""The SSH door.

Listens, counts, admits by certificate, and hands one exec at a time to the use cases (I-18, I-20 to I-27).

asyncssh's own defaults are not safe with hostile peers (threats.md section 0): every option that matters is named here.
"""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import asyncssh
import structlog
from asyncssh.connection import SSHServerConnectionOptions

from broker.core.clock import Clock
from broker.core.errors import Fault
from broker.core.secret import Secret
from broker.proxy import limits
from broker.proxy.connection import GatewayConnection, refused_open
from broker.proxy.exec_session import ExecSession
from broker.service.gateway import Admission, Shown
from broker.service.ports import Entropy, Meter
from broker.service.use_cases import UseCases

log = structlog.get_logger()


class _Owner(asyncssh.SSHServer):
    """What a connection may open: sessions. Everything else is refused and told to the log."""

    def __init__(self) -> None:
        self._connection: GatewayConnection

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn  # type: ignore[assignment]  # SshDoor makes no other

    def begin_auth(self, username: str) -> bool:
        return True

    def session_requested(self) -> ExecSession | bool:
        connection = self._connection
        if connection.admission is None or not connection.may_open_session():
            return False
        return ExecSession(connection, connection.admission)

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        raise refused_open(self._connection, "direct_tcpip")

    def unix_connection_requested(self, dest_path: str) -> bool:
        raise refused_open(self._connection, "direct_streamlocal")

    def tun_requested(self, unit: int | None) -> bool:
        raise refused_open(self._connection, "tun")

    def tap_requested(self, unit: int | None) -> bool:
        raise refused_open(self._connection, "tap")

    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        self._connection.refuse("tcpip_forward")
        return False

    def unix_server_requested(self, listen_path: str) -> bool:
        self._connection.refuse("streamlocal_forward")
        return False


class SshDoor:
    """The listener and what it counts.

    Args:
        host_key: Ed25519 private key, OpenSSH PEM.
        host_certificate: its certificate blob.
        ingress_ca: blob of the one CA whose user certificates are looked at.
    """

    def __init__(
        self,
        *,
        use_cases: UseCases,
        host_key: Secret[bytes],
        host_certificate: bytes,
        ingress_ca: bytes,
        clock: Clock,
        entropy: Entropy,
        meter: Meter,
    ) -> None:
        self.use_cases, self.ingress_ca, self.meter = use_cases, ingress_ca, meter
        self._host_key, self._host_certificate = host_key, host_certificate
        self._clock, self._entropy = clock, entropy
        self._sources: Counter[str] = Counter()
        self._connections: set[GatewayConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listens; returns the port."""
        options = await SSHServerConnectionOptions.construct(None, **self._options())
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: GatewayConnection(loop, options, door=self), host, port, backlog=limits.UNAUTHENTICATED
        )
        self._watching = self.spawn(self._watch())
        bound: int = self._server.sockets[0].getsockname()[1]
        log.info("gateway.listening", port=bound)
        return bound

    async def stop(self) -> None:
        """Takes nothing new, ends every connection, waits for what they ran to be sealed and written."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=limits.LOGIN_S)

    def _options(self) -> dict[str, Any]:
        key = asyncssh.import_private_key(self._host_key.reveal())
        certificate = asyncssh.import_certificate(_line(self._host_certificate))
        return {
            "server_factory": _Owner,
            "server_host_keys": [(key, certificate)],
            "encryption_algs": ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"],
            "kex_algs": ["mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org"],
            "mac_algs": ["hmac-sha2-256-etm@openssh.com"],
            "compression_algs": ["none"],
            "signature_algs": ["ssh-ed25519"],
            "public_key_auth": True,
            "password_auth": False,
            "kbdint_auth": False,
            "host_based_auth": False,
            "gss_host": None,
            "gss_kex": False,
            "gss_auth": False,
            "authorized_client_keys": None,
            "allow_pty": False,
            "line_editor": False,
            "line_echo": False,
            "agent_forwarding": False,
            "x11_forwarding": False,
            "allow_scp": False,
            "rdns_lookup": False,
            "encoding": None,
            "window": limits.WINDOW,
            "max_pktsize": limits.PACKET,
            "login_timeout": limits.LOGIN_S,
            "keepalive_interval": limits.KEEPALIVE_S,
            "keepalive_count_max": limits.KEEPALIVES,
            "server_version": "grantd",
        }

    # ---- what connections ask of the door ----------------------------------------------------------------------------
    def enter(self, connection: GatewayConnection, source: str) -> bool:
        """Whether one more unauthenticated connection is taken from `source` (I-26)."""
        if (
            self._sources.total() >= limits.UNAUTHENTICATED
            or self._sources[source] >= limits.UNAUTHENTICATED_PER_SOURCE
        ):
            self.meter.count("connections_refused", reason="too_many_unauthenticated")
            return False
        self._sources[source] += 1
        self._connections.add(connection)
        return True

    def authenticated(self, source: str) -> None:
        """One of `source` is no longer unauthenticated."""
        self._sources[source] -= 1
        if self._sources[source] <= 0:
            del self._sources[source]

    def leave(self, connection: GatewayConnection) -> None:
        """A connection is over."""
        self._connections.discard(connection)

    async def admit(self, shown: Shown) -> Admission:
        """The grant behind a certificate."""
        return await self.use_cases.gateway.admit(shown)

    def tell(self, admission: Admission, feature: str) -> None:
        """Writes a refused feature to the log, beside the connection."""
        self.spawn(self._tell(admission, feature))

    def token(self) -> str:
        """An idempotency key for a command that has none of its own."""
        return self._entropy.token(16).hex()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task whose parent is the door: kept, awaited at the stop, its failure logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("gateway.task_failed", cause=repr(error), exc_info=error)

    async def _tell(self, admission: Admission, feature: str) -> None:
        try:
            await self.use_cases.gateway.refused(admission, feature)
        except Fault as fault:
            log.warning("gateway.refusal_unwritten", feature=feature, cause=fault.what)

    async def _watch(self) -> None:
        """Every second: unfinished key exchanges, idle connections, connections whose grant is over."""
        idle: dict[GatewayConnection, float] = {}
        while True:
            await asyncio.sleep(1.0)
            now = self._clock.monotonic()
            for connection in list(self._connections):
                if connection.sessions_open:
                    idle.pop(connection, None)
                elif connection.admission is not None:
                    idle.setdefault(connection, now)
                if (
                    connection.is_stale(now)
                    or now - idle.get(connection, now) > limits.IDLE_S
                    or self._is_over(connection)
                ):
                    connection.abort()
            for gone in idle.keys() - self._connections:
                del idle[gone]

    def _is_over(self, connection: GatewayConnection) -> bool:
        """The grant's end, for a connection that runs nothing; what runs has its own deadline."""
        admission = connection.admission
        if admission is None or admission.grant.not_after is None or connection.sessions_open:
            return False
        return self._clock.now() >= admission.grant.not_after


def _line(blob: bytes) -> bytes:

    return b"ssh-ed25519-cert-v01@openssh.com " + base64.b64encode(blob)
