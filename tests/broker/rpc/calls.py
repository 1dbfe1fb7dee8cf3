"""Calls and their refusals, as a client sees them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeVar, cast

import grpc.aio
from google.protobuf.duration_pb2 import Duration

from grantd.errors import from_rpc
from grantd.v1 import access_pb2, options_pb2
from tests.pace import Since

A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)


class Stream(Protocol[A_co]):
    """A call whose answers come one by one."""

    def __aiter__(self) -> AsyncIterator[A_co]: ...
    def read(self) -> Awaitable[object]: ...


async def next_of(call: Stream[A]) -> A:
    """The next message of a stream that must have one."""
    answer = await call.read()
    assert answer is not grpc.aio.EOF
    return cast("A", answer)


async def refusal_of(call: Awaitable[object]) -> tuple[str, str]:
    """(status, reason) of a call that must fail; the reason is empty where the transport spoke."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        trailing = dict(error.trailing_metadata() or ())
        reason = from_rpc(error).code if "grpc-status-details-bin" in trailing else ""
        return error.code().name, reason
    raise AssertionError(f"answered: {answer!r}")


async def said(holds: Callable[[], bool], *, within: float = 5.0) -> None:
    """Waits until something holds."""
    since = Since()
    while not holds():
        assert since.s() < within, "it never came true"
        await asyncio.sleep(0.01)


def wish(**fields: object) -> access_pb2.RequestAccessRequest:
    """A request that is granted; fields may differ."""
    given: dict[str, object] = {
        "idempotency_key": secrets.token_hex(8), "target": "web1", "login": "deploy",
        "ceiling": options_pb2.COMMAND_CLASS_WRITE, "ttl": Duration(seconds=600), "reason": "release",
    }  # fmt: skip
    return access_pb2.RequestAccessRequest(**given | fields)  # type: ignore[arg-type]
