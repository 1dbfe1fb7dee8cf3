"""One exec through the door, by clients that mean well."""

from __future__ import annotations

import asyncio
import hashlib

import asyncssh

from tests.broker.proxy.world import Gate


async def test_streams_and_exit_status_arrive_apart(front: Gate) -> None:
    """stdout, stderr and the status are the command's own."""
    await front.trust()
    client = await front.connect(await front.admit())
    ran = await client.run("echo out; echo err >&2; exit 3", encoding=None)
    assert (ran.stdout, ran.stderr, ran.exit_status) == (b"out\n", b"err\n", 3)
    client.close()
    await client.wait_closed()
