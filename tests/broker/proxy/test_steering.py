"""What a client says beside its bytes: the newest size, in bounded numbers, and signals that never wait for one."""

from __future__ import annotations

import asyncio
import contextlib

from broker.core.terminal import Signal, Size, Terminal
from broker.proxy.steering import APART_S, ClientSteering


def _opened() -> ClientSteering:
    steering = ClientSteering()
    steering.open(Terminal())
    return steering


async def _told(steering: ClientSteering, told: list[Size | Signal]) -> None:
    while True:
        told.append(await steering.next())


async def test_a_flood_of_sizes_is_told_a_few_times_and_the_last_one_always() -> None:
    """I-60: each is recorded, so a client that drags its window, or means harm, fills no disk with them."""
    steering, told = _opened(), list[Size | Signal]()
    loop = asyncio.get_running_loop()
    began = loop.time()
    following = asyncio.ensure_future(_told(steering, told))  # noqa: TID251  ended below
    for columns in range(1, 501):
        steering.resized(Size(columns=columns, rows=10))
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        while not told or told[-1] != Size(columns=500, rows=10):  # noqa: ASYNC110  nothing rings
            await asyncio.sleep(0.01)
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following
    assert len(told) <= (loop.time() - began) / APART_S + 2


async def test_a_signal_does_not_wait_for_a_size() -> None:
    """Ctrl-C goes through while a window is dragged."""
    steering = _opened()
    steering.resized(Size(columns=1, rows=1))
    assert await steering.next() == Size(columns=1, rows=1)
    steering.resized(Size(columns=2, rows=1))
    steering.signalled(Signal.INT)
    assert await steering.next() is Signal.INT
    async with asyncio.timeout(10):
        assert await steering.next() == Size(columns=2, rows=1)
