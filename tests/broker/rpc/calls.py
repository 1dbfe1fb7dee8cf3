"""Calls and their refusals, as a client sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc.aio

from grantd.errors import from_rpc


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
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.01)
