"""Bulk both ways over a real sshd, on both packet paths, while keys are exchanged by either side (I-26, I-30)."""

from __future__ import annotations

import asyncio
import hashlib
import os

import asyncssh.connection
import pytest

from broker.fastpath.gcm import Gcm
from broker.service.ports import Chunk
from tests.broker.adapters.target_ssh.world import world
from tests.peers_sshd import StartSshd

pytestmark = pytest.mark.sshd
BLOCKS, BLOCK = 24, 1 << 20


@pytest.mark.parametrize("fast_path", [True, False], ids=["fast", "stock"])
async def test_every_byte_through_many_key_exchanges(
    sshd_factory: StartSshd, monkeypatch: pytest.MonkeyPatch, *, fast_path: bool
) -> None:
    """Both sides ask for new keys every few MB, under load in both directions: nothing is lost, moved or doubled."""
    monkeypatch.setattr(asyncssh.connection, "_DEFAULT_REKEY_BYTES", 3 << 20)
    exchanges = _counted(monkeypatch)
    block, sent, got = os.urandom(BLOCK), hashlib.sha256(), hashlib.sha256()
    async with world(sshd_factory, config="RekeyLimit 4M", fast_path=fast_path) as made:
        process = await made.targets.start(made.plan("cat", sealed=True, wants_stdin=True))

        async def write() -> None:
            for _ in range(BLOCKS):
                sent.update(block)
                await process.write(block)
            await process.write_eof()

        size = 0
        async with asyncio.timeout(40), asyncio.TaskGroup() as group:
            group.create_task(write())
            while isinstance(chunk := await process.read(), Chunk):
                got.update(chunk.data)
                size += len(chunk.data)
        (connection,) = made.targets._sealed or [None]  # noqa: SLF001
        assert connection is None or isinstance(connection._send_encryption, Gcm) is fast_path  # noqa: SLF001
    assert (size, got.digest()) == (BLOCKS * BLOCK, sent.digest())
    assert len(exchanges) > BLOCKS // 4


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every set of new keys from now on."""
    seen: list[object] = []
    really = asyncssh.connection.SSHConnection.send_newkeys

    def noting(self: asyncssh.connection.SSHConnection, k: bytes, h: bytes) -> None:
        seen.append(self)
        really(self, k, h)

    monkeypatch.setattr(asyncssh.connection.SSHConnection, "send_newkeys", noting)
    return seen
