"""The kill switch's own listener: one RPC, on threads of its own, that asks neither the loop nor the store (I-61).

AdminService/Freeze as at the main listener, by client certificate. Who may is what the roster says
(broker.service.roster); an agent's certificate, or one that has ended, gets no further than that.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError

from broker.core.clock import Clock
from broker.core.errors import invalid
from broker.rpc.convert.admin import pulled_out
from broker.rpc.peer import must_be_valid, peer_of
from broker.rpc.server import CannotListen
from broker.rpc.status import told_of
from broker.rpc.tls import FetchIdentity, authorities_of, credentials
from broker.service.ports import Meter
from broker.service.switch import KillSwitch
from grantd.v1 import admin_pb2 as pb

log = structlog.get_logger()
THREADS = 4
MAX_CALLS = 16
_SERVICE, _NAME = "grantd.v1.AdminService", "Freeze"
_METHOD = f"{_SERVICE}/{_NAME}"
_OPTIONS = (
    ("grpc.max_receive_message_length", 4_096),
    ("grpc.so_reuseport", 0),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.max_concurrent_streams", 2),
    ("grpc.max_connection_idle_ms", 15_000),
    ("grpc.max_connection_age_ms", 60_000),
    ("grpc.max_connection_age_grace_ms", 5_000),
)


class FreezeLane:
    """Listens from `start` to `stop`. Needs no running loop.

    Raises:
        CannotListen: the address is taken or cannot be bound.
    """

    def __init__(
        self, *, address: str, identity: FetchIdentity, switch: KillSwitch, clock: Clock, meter: Meter
    ) -> None:
        self._switch, self._clock, self._meter = switch, clock, meter
        self._identity = identity
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix="freeze-lane")
        self._server = grpc.server(threads, options=_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
        handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
            self._freeze, response_serializer=pb.FreezeResponse.SerializeToString
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {_NAME: handler}),))
        try:
            self.port = self._server.add_secure_port(address, credentials(identity, clients=True))
        except RuntimeError as error:
            raise CannotListen(f"cannot listen on {address}") from error

    def start(self) -> None:
        """From here on the switch can be pulled."""
        self._server.start()
        log.info("freeze.listening", port=self.port)

    def stop(self) -> None:
        """Takes nothing new; what is being answered ends."""
        self._server.stop(None)

    def _freeze(self, raw: bytes, context: grpc.ServicerContext) -> pb.FreezeResponse:
        code = grpc.StatusCode.OK
        try:
            return self._pulled(raw, context)
        except Exception as error:
            told = told_of(error, method=_METHOD)
            code = told.code
            context.abort_with_status(told.status())
            raise AssertionError from error  # abort_with_status raises
        finally:
            log.info("freeze.served", code=code.name)
            self._meter.count("rpc_requests", method=_METHOD, code=code.name)

    def _pulled(self, raw: bytes, context: grpc.ServicerContext) -> pb.FreezeResponse:
        shown: Any = context.auth_context()
        peer = peer_of(shown)
        must_be_valid(peer, self._clock.now(), authorities_of(self._identity().client_ca))
        try:
            request = pb.FreezeRequest.FromString(raw)
        except DecodeError:
            raise invalid("bad_message", "these bytes are not the message of this call") from None
        pulled = self._switch.by_person(peer.tenant, peer.identity, peer.key, request.reason)
        return pulled_out(pulled)
