"""The SSH door.

Listens, counts, admits by certificate, and hands one exec at a time to the use cases (I-18, I-20 to I-27).

asyncssh's own defaults are not safe with hostile peers (threats.md section 0): every option that matters is named here.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable
from datetime import datetime
from typing import Any, TypeVar

import asyncssh
import structlog
from asyncssh.connection import SSHServerConnectionOptions

from broker.core.clock import Clock
from broker.core.errors import Fault
from broker.core.flags import forwards
from broker.core.ids import GrantId
from broker.core.secret import Secret
from broker.proxy import limits
from broker.proxy.connection import GatewayConnection
from broker.service.gateway import Admission, Shown
from broker.service.ports import Meter
from broker.service.sessions import Sessions

log = structlog.get_logger()


class _Owner(asyncssh.SSHServer):
    """asyncssh wants one. Whatever it could grant is refused before it is asked; its defaults are no as well."""

    def __init__(self) -> None:
        self._connection: GatewayConnection

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn  # type: ignore[assignment]  # SshDoor makes no other

    def begin_auth(self, username: str) -> bool:
        """Authentication is always required, whatever the name."""
        self._connection.named(username)
        return True


class SshDoor:
    """The listener and what it counts.

    Args:
        host_key: Ed25519 private key, OpenSSH PEM.
        host_certificate: its certificate blob.
        ingress_cas: blobs of the one CA whose user certificates are looked at: two while a key follows another.
        fast_path: whether packets go the quicker way; its owner has asked `fastpath.changed()`.
        share: how many doors in other processes listen at the same address, with this one; 0 where it is alone. What
            limits everybody together is divided among them, rounded up.
        glance: called with the loop's time before what any client sent is looked at: an end that has come goes first.
    """

    def __init__(
        self,
        *,
        sessions: Sessions,
        host_key: Secret[bytes],
        host_certificate: bytes,
        ingress_cas: tuple[bytes, ...],
        clock: Clock,
        meter: Meter,
        fast_path: bool = True,
        share: int = 0,
        glance: Callable[[float], None] | None = None,
    ) -> None:
        self.sessions, self.ingress_cas, self.meter = sessions, ingress_cas, meter
        self.fast_path, self.glance = fast_path, glance
        self._host_key, self._host_certificate = host_key, host_certificate
        self._clock, self._share = clock, share
        self._sources: Counter[str] = Counter()
        self._grants: Counter[GrantId] = Counter()
        self._connections: set[GatewayConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Listens; returns the port."""
        await self.show(self._host_key, self._host_certificate, self.ingress_cas)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: GatewayConnection(loop, self._shown, door=self), host, port,
            backlog=limits.UNAUTHENTICATED, reuse_port=self._share > 0,
        )  # fmt: skip
        self._watching = self.spawn(self._watch())
        bound: int = self._server.sockets[0].getsockname()[1]
        log.info("gateway.listening", port=bound)
        return bound

    async def show(self, host_key: Secret[bytes], host_certificate: bytes, ingress_cas: tuple[bytes, ...]) -> None:
        """Connections that come from now on see this host key and certificate; those that are open keep theirs.

        Whose user certificates count is so for every login from now on.
        """
        self.ingress_cas = ingress_cas
        self._host_key, self._host_certificate = host_key, host_certificate
        # a server's options read no file of this machine: neither configuration nor keys nor known hosts
        self._shown = await SSHServerConnectionOptions.construct(None, **self._options())

    async def stop(self) -> None:
        """Takes nothing new, ends every connection, waits for what they ran to be sealed and written."""
        if self._server is not None:
            self._server.close()
        if self._watching is not None:
            self._watching.cancel()
        for connection in list(self._connections):
            connection.abort()  # its command is cut, its waiting action taken back: that is what is waited for
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=limits.LOGIN_S)
            for task in late:
                task.cancel()

    def _options(self) -> dict[str, Any]:
        key = asyncssh.import_private_key(self._host_key.reveal())
        certificate = asyncssh.import_certificate(_line(self._host_certificate))
        return {
            "config": None,
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
            "known_client_hosts": None,
            "x509_trusted_certs": None,
            "proxy_command": None,
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
    def enter(self, connection: GatewayConnection, address: str) -> bool:
        """Whether one more unauthenticated connection is taken from an address (I-26)."""
        source = _source(address)
        room = self._part(limits.UNAUTHENTICATED)
        # whole at each door, for the kernel may bring all of one source to the same; never more than half of the room
        of_one = min(limits.UNAUTHENTICATED_PER_SOURCE, max(1, room // 2))
        if self._sources.total() >= room or self._sources[source] >= of_one:
            self.meter.count("connections_refused", reason="too_many_unauthenticated")
            return False
        self._sources[source] += 1
        self._connections.add(connection)
        return True

    def authenticated(self, address: str) -> None:
        """One from an address is no longer unauthenticated."""
        _one_less(self._sources, _source(address))

    def bind(self, connection: GatewayConnection, admission: Admission) -> bool:
        """Gives a connection its grant, unless the grant has too many connections already (I-60)."""
        if self._grants[admission.grant.id] >= self._part(limits.CONNECTIONS_PER_GRANT):
            return False
        self._unbind(connection)
        self._grants[admission.grant.id] += 1
        connection.admission = admission
        return True

    def _part(self, limit: int) -> int:
        return -(-limit // max(1, self._share))

    def _unbind(self, connection: GatewayConnection) -> None:
        if connection.admission is not None:
            _one_less(self._grants, connection.admission.grant.id)
            connection.admission = None

    def leave(self, connection: GatewayConnection) -> None:
        """A connection is over. Told twice where asyncssh gives it up itself."""
        self._connections.discard(connection)
        self._unbind(connection)

    async def admit(self, shown: Shown) -> Admission:
        """The grant behind a certificate."""
        return await self.sessions.control.admit(shown)

    def tell(self, admission: Admission, feature: str) -> None:
        """Writes a refused feature to the log, beside the connection."""
        self.spawn(self._tell(admission, feature))

    def now(self) -> datetime:
        """By the broker's clock."""
        return self._clock.now()

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
            await self.sessions.control.refused(admission, feature)
        except Fault as fault:
            log.warning("gateway.refusal_unwritten", feature=feature, cause=fault.what)

    async def _watch(self) -> None:
        """Idle connections, and idle connections whose grant is over. What runs has its own deadline."""
        while True:
            await asyncio.sleep(limits.LOOK_EVERY_S)
            try:
                await self._look()
            except Fault as fault:
                log.warning("gateway.look_failed", cause=fault.what)

    async def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        over: dict[GrantId, bool] = {}
        for connection in list(self._connections):
            admission = connection.admission
            if connection.idle_since is None or admission is None:
                continue
            if now - connection.idle_since > limits.IDLE_S and not forwards(admission.grant.flags):  # `ssh -N` waits
                connection.cut("idle")
                continue
            grant = admission.grant.id
            if grant not in over:
                over[grant] = await self.sessions.control.is_over(admission)
            if over[grant]:
                connection.cut("grant_over")


def _source(address: str) -> str:
    """What counts as one source: an IPv4 address, also inside IPv6, or a /64."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


_K = TypeVar("_K", bound=Hashable)


def _one_less(counter: Counter[_K], key: _K) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]


def _line(blob: bytes) -> bytes:
    return b"ssh-ed25519-cert-v01@openssh.com " + base64.b64encode(blob)
