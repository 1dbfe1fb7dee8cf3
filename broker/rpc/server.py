"""The two listeners: `main` by client certificate with every RPC, `join` with the few that ask for none. Always TLS.

gRPC keeps no limit on connections of its own; what each may hold, and how long it may idle, is bounded here (I-60).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import grpc.aio
import structlog
from google.protobuf.descriptor import ServiceDescriptor

from broker.core.clock import Clock
from broker.core.errors import Fault
from broker.rpc.declared import SERVICES
from broker.rpc.gate import Gate, Identify, Tell
from broker.rpc.handlers import Doorway
from broker.rpc.health import Health
from broker.rpc.tls import FetchIdentity, authorities_of, credentials
from broker.service.ports import Meter

log = structlog.get_logger()
MAX_MESSAGE_BYTES = 1 << 20
MAX_CALLS = 1_000
"""Calls and streams open at the main listener."""
MAX_CALLS_PER_IDENTITY = MAX_CALLS // 4
"""No more than 25 % of a shared pool for one identity (I-60)."""
MAX_JOIN_CALLS = 64
_MINUTE = 60_000
_BOTH: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # else a second daemon silently shares the port
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
)
_MAIN = (
    *_BOTH,
    ("grpc.max_concurrent_streams", MAX_CALLS_PER_IDENTITY),
    ("grpc.keepalive_time_ms", _MINUTE),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_connection_idle_ms", 10 * _MINUTE),
)
_JOIN = (
    *_BOTH,
    ("grpc.max_concurrent_streams", 4),
    ("grpc.max_connection_idle_ms", _MINUTE // 4),
    ("grpc.max_connection_age_ms", _MINUTE),
    ("grpc.max_connection_age_grace_ms", 10_000),
)


class CannotListen(Fault):
    """An address is taken or cannot be bound: the daemon does not start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where to listen, `host:port`; port 0 takes a free one."""

    main: str
    join: str


class RpcServers:
    """Both servers. Build it inside the running loop; `start`, then `serving(True)`, at the end `stop`.

    Args:
        servicers: full service name -> servicer (broker.rpc.services).
        services: the contract; a test plants more.

    Raises:
        Undeclared, Unserved: an RPC without a permission or without an implementation.
    """

    def __init__(
        self, *, listen: Listen, identity: FetchIdentity, servicers: Mapping[str, object], identify: Identify,
        tell: Tell, meter: Meter, clock: Clock, services: Iterable[ServiceDescriptor] = SERVICES,
        calls_per_identity: int = MAX_CALLS_PER_IDENTITY,
    ) -> None:  # fmt: skip
        self._gate = Gate(
            identify=identify, tell=tell, clock=clock, authorities=lambda: authorities_of(identity().client_ca),
            per_identity=calls_per_identity,
        )  # fmt: skip
        doorway = Doorway(gate=self._gate, meter=meter, clock=clock)
        self._health = Health()
        contract = tuple(services)
        self._main = grpc.aio.server(
            handlers=[*doorway.serve(servicers, contract, only_open=False), self._health.handler(watch=True)],
            options=_MAIN,
            maximum_concurrent_rpcs=MAX_CALLS,
        )
        self._join = grpc.aio.server(
            handlers=[*doorway.serve(servicers, contract, only_open=True), self._health.handler(watch=False)],
            options=_JOIN,
            maximum_concurrent_rpcs=MAX_JOIN_CALLS,
        )
        self.main_port = _bind(self._main, listen.main, identity, clients=True)
        self.join_port = _bind(self._join, listen.join, identity, clients=False)

    async def start(self) -> None:
        """Accepts connections; health says NOT_SERVING until `serving`."""
        await self._health.say(serving=False)
        await self._main.start()
        await self._join.start()
        log.info("rpc.listening", main_port=self.main_port, join_port=self.join_port)

    async def serving(self, serving: bool) -> None:  # noqa: FBT001  reads as a sentence
        """What health says from now on."""
        await self._health.say(serving=serving)

    async def stop(self, grace_s: float) -> None:
        """Says NOT_SERVING, takes nothing new, lets what runs end for `grace_s` seconds, then cancels it."""
        await self._health.say(serving=False)
        await self._join.stop(grace_s)
        await self._main.stop(grace_s)


def _bind(server: grpc.aio.Server, address: str, identity: FetchIdentity, *, clients: bool) -> int:
    try:
        port = server.add_secure_port(address, credentials(identity, clients=clients))
    except RuntimeError as error:
        raise CannotListen(f"cannot listen on {address}") from error
    if not port:
        raise CannotListen(f"cannot listen on {address}")
    return port
