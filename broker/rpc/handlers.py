"""Servicers bound to descriptors: every method gets its handler, wrapped by the gate. A missing one stops the start.

One canonical log line and two metrics a call; no payload, no metadata, no text of callers in either (I-36, I-45).
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
)
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message

from broker.core.clock import Clock
from broker.core.errors import Fault, Refusal, invalid
from broker.core.identity import Caller
from broker.core.roles import Permission
from broker.rpc.call import Call, Ids, OpenCall, token_of
from broker.rpc.checks import checked
from broker.rpc.declared import Rpc, rpcs_of
from broker.rpc.gate import Gate
from broker.rpc.status import told_of
from broker.service.ports import Meter

log = structlog.get_logger()
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Work: TypeAlias = Callable[[Call | OpenCall], Awaitable[Any]]


class Unserved(Fault):
    """A service of the contract has no servicer, or a servicer lacks a method: the daemon does not start."""


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """What came instead of a message."""


@dataclass(slots=True, kw_only=True)
class _Line:
    """The canonical log line of one call, while it is being written."""

    rpc: Rpc
    started: float
    code: str = "OK"
    reason: str = ""
    rule: str = ""
    caller: Caller | None = None
    ids: Ids = field(default_factory=Ids)


class Doorway:
    """Makes handlers."""

    def __init__(self, *, gate: Gate, meter: Meter, clock: Clock) -> None:
        self._gate, self._meter, self._clock = gate, meter, clock

    def serve(
        self, servicers: Mapping[str, object], services: Iterable[ServiceDescriptor], *, only_open: bool
    ) -> list[grpc.GenericRpcHandler]:
        """A generic handler a service.

        Args:
            servicers: full service name -> object with a method an RPC.
            services: whose RPCs are served.
            only_open: just those that ask for no credential (the join address).

        Raises:
            Undeclared: an RPC declares no permission.
            Unserved: an RPC has no implementation.
        """
        made = []
        for service in services:
            rpcs = [rpc for rpc in rpcs_of(service) if not only_open or rpc.permission is Permission.NONE]
            handlers = {rpc.name: self._handler(rpc, _method(servicers, rpc)) for rpc in rpcs}
            if handlers:
                made.append(grpc.method_handlers_generic_handler(service.full_name, handlers))
        return made

    def _handler(self, rpc: Rpc, method: Callable[..., Any]) -> grpc.RpcMethodHandler[Any, Any]:
        kinds: dict[tuple[bool, bool], tuple[Any, Any]] = {
            (False, False): (grpc.unary_unary_rpc_method_handler, self._unary),
            (False, True): (grpc.unary_stream_rpc_method_handler, self._server_stream),
            (True, True): (grpc.stream_stream_rpc_method_handler, self._both_streams),
        }
        make, wrap = kinds[rpc.client_streams, rpc.server_streams]
        handler: grpc.RpcMethodHandler[Any, Any] = make(
            wrap(rpc, method), request_deserializer=_reader(rpc.takes), response_serializer=_written
        )
        return handler

    def _unary(self, rpc: Rpc, method: Callable[..., Awaitable[Message]]) -> Callable[..., Awaitable[Message]]:
        async def behave(request: Message | _Unreadable, context: Context) -> Message:
            async def work(call: Call | OpenCall) -> Message:
                return await method(_noted(rpc, request, call), call)

            answer: Message = await self._answer(rpc, context, work)
            return answer

        return behave

    def _server_stream(
        self, rpc: Rpc, method: Callable[..., AsyncGenerator[Message, None]]
    ) -> Callable[..., Awaitable[None]]:
        async def behave(request: Message | _Unreadable, context: Context) -> None:
            async def work(call: Call | OpenCall) -> None:
                async with aclosing(method(_noted(rpc, request, call), call)) as messages:
                    async for message in messages:
                        await context.write(message)

            await self._answer(rpc, context, work)

        return behave

    def _both_streams(self, rpc: Rpc, method: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def behave(requests: AsyncIterable[Message | _Unreadable], context: Context) -> None:
            async def work(call: Call | OpenCall) -> None:
                await method(_each(rpc, requests, call), call, context.write)

            await self._answer(rpc, context, work)

        return behave

    async def _answer(self, rpc: Rpc, context: Context, work: Work) -> Any:  # noqa: ANN401  the RPC's own message
        line = _Line(rpc=rpc, started=self._clock.monotonic())
        try:
            return await self._admitted(rpc, context, work, line)
        except asyncio.CancelledError:
            line.code = (grpc.StatusCode.OK if line.ids.complete else grpc.StatusCode.CANCELLED).name
            raise
        except Exception as error:  # noqa: BLE001  the one place where a failure becomes a status
            await self._refuse(context, error, line)
        finally:
            self._write(line)

    async def _admitted(self, rpc: Rpc, context: Context, work: Work, line: _Line) -> Any:  # noqa: ANN401  as above
        if rpc.permission is Permission.NONE:
            return await work(OpenCall(ids=line.ids))
        caller, peer = await self._gate.admit(rpc, context.auth_context())
        line.caller = caller
        with self._gate.room(caller):
            call = Call(
                caller=caller,
                certificate_not_after=peer.not_after,
                token=token_of(context.invocation_metadata()),
                ids=line.ids,
            )
            if not rpc.server_streams:
                return await work(call)
            return await _guarded(work(call), self._gate.watch(rpc, peer))

    async def _refuse(self, context: Context, error: Exception, line: _Line) -> NoReturn:
        told = told_of(error, method=line.rpc.method)
        line.code, line.reason = told.code.name, told.reason
        line.rule = error.rule if isinstance(error, Refusal) else ""
        await context.abort_with_status(told.status())

    def _write(self, line: _Line) -> None:
        seconds = self._clock.monotonic() - line.started
        who = {"identity": line.caller.identity, "tenant": line.caller.tenant} if line.caller else {}
        who |= {"rule": line.rule} if line.rule else {}
        log.info(
            "rpc.served", method=line.rpc.method, code=line.code, reason=line.reason,
            duration_ms=round(seconds * 1000, 2), **who, **line.ids.found,
        )  # fmt: skip
        self._meter.count("rpc_requests", method=line.rpc.method, code=line.code)
        self._meter.observe("rpc_duration_seconds", seconds, method=line.rpc.method)


async def _guarded(work: Awaitable[Any], guard: Coroutine[Any, Any, None]) -> None:
    """Runs `work` while `guard` has nothing to say; what either raises comes out as it was."""
    try:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(guard)
            await work
            watching.cancel()
    except BaseExceptionGroup as several:
        raise _first(several) from None


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _method(servicers: Mapping[str, object], rpc: Rpc) -> Callable[..., Any]:
    method = getattr(servicers.get(rpc.service), rpc.name, None)
    if not callable(method):
        raise Unserved(f"{rpc.method} has no implementation")
    found: Callable[..., Any] = method
    return found


def _reader(kind: type[Message]) -> Callable[[bytes], Message | _Unreadable]:
    """Bytes that are no such message become a refusal at the gate, not a text of the parser."""

    def read(raw: bytes) -> Message | _Unreadable:
        try:
            return kind.FromString(raw)
        except DecodeError:
            return _Unreadable()

    return read


def _written(message: Message) -> bytes:
    return message.SerializeToString()


async def _each(
    rpc: Rpc, requests: AsyncIterable[Message | _Unreadable], call: Call | OpenCall
) -> AsyncIterator[Message]:
    async for request in requests:
        yield _noted(rpc, request, call)


def _noted(rpc: Rpc, request: Message | _Unreadable, call: Call | OpenCall) -> Message:
    if isinstance(request, _Unreadable):
        raise _not_a_message()
    call.ids.note(**{name: getattr(request, name) for name in rpc.id_fields})
    checked(request)
    return request


def _not_a_message() -> Refusal:
    return invalid(
        "bad_message", "these bytes are not the message of this call", "use the grantd client of this version"
    )
