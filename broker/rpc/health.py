"""grpc.health.v1: the only answer without credentials (F23). Says whether the broker serves, and nothing else.

The join address answers Check alone: a Watch there would let strangers hold streams for ever.
"""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio

_SERVICE = "grpc.health.v1.Health"


class Health:
    """One state for both listeners."""

    def __init__(self) -> None:
        self._servicer = aio.HealthServicer()

    async def say(self, *, serving: bool) -> None:
        """Changes the answer; watchers are told."""
        states = health_pb2.HealthCheckResponse
        await self._servicer.set("", states.SERVING if serving else states.NOT_SERVING)

    def handler(self, *, watch: bool) -> grpc.GenericRpcHandler:
        """Check, and where `watch`, Watch."""
        reads, writes = health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString
        handlers = {
            "Check": grpc.unary_unary_rpc_method_handler(
                self._servicer.Check, request_deserializer=reads, response_serializer=writes
            )
        }
        if watch:
            handlers["Watch"] = grpc.unary_stream_rpc_method_handler(
                self._servicer.Watch, request_deserializer=reads, response_serializer=writes
            )
        return grpc.method_handlers_generic_handler(_SERVICE, handlers)
