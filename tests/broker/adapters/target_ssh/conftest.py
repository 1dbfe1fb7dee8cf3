"""A loop that outlives one call, so that hypothesis can run many examples on one pooled connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.broker.adapters.target_ssh.world import World, world
from tests.peers_sshd import StartSshd


@pytest.fixture
async def real(sshd_factory: StartSshd) -> AsyncIterator[World]:
    """An sshd and the adapter before it."""
    async with world(sshd_factory) as made:
        yield made


@pytest.fixture
async def bare(sshd_factory: StartSshd) -> AsyncIterator[World]:
    """As `real`, on a host that gives no terminals."""
    async with world(sshd_factory, config="PermitTTY no") as made:
        yield made


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """For tests that are not coroutines themselves."""
    with asyncio.Runner() as made:
        yield made
