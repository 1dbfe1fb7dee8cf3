"""The two SSH legs of the broker and nothing else: no grant, no decision, no recording. What the packet path can do.

`python -m bench.legs FILE`: FILE is JSON that says where to listen, whom to trust and where the target is. Prints its
port and serves until its stdin ends. Everything between the legs is missing on purpose: the product has no such mode.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Final

import asyncssh
from asyncssh.connection import SSHServerConnection, SSHServerConnectionOptions

from broker.adapters.target_ssh.connection import dial, log_in
from broker.adapters.target_ssh.pool import opened
from broker.fastpath import FastChannel, FastConnection
from broker.service.ports import Chunk

_ERR: Final = asyncssh.EXTENDED_DATA_STDERR
_WINDOW: Final = 2 * 1024 * 1024


class _Channel(FastChannel, asyncssh.SSHServerChannel[bytes]):
    """Sends the quick way."""


class _Connection(FastConnection, SSHServerConnection):
    """Opens such channels, and says when its socket is full."""

    fast = True

    def __init__(self, loop: asyncio.AbstractEventLoop, options: SSHServerConnectionOptions) -> None:
        super().__init__(loop, options)
        self.roomy = asyncio.Event()
        self.roomy.set()

    def pause_writing(self) -> None:
        self.roomy.clear()

    def resume_writing(self) -> None:
        self.roomy.set()

    def create_server_channel(self, *_: object, **__: object) -> asyncssh.SSHServerChannel[Any]:
        return _Channel(
            self, self._loop, allow_pty=False, line_editor=False, line_echo=False, line_history=0, max_line_length=0,
            encoding=None, errors="strict", window=_WINDOW, max_pktsize=32 * 1024,
        )  # fmt: skip


class _Session(asyncssh.SSHServerSession[bytes]):
    """One command, sent on as it came."""

    def __init__(self, connection: _Connection, told: dict[str, Any]) -> None:
        self._connection, self._told = connection, told
        self._roomy = asyncio.Event()
        self._roomy.set()

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        self._connection.create_task(self._run(command))
        return True

    def pause_writing(self) -> None:
        self._roomy.clear()

    def resume_writing(self) -> None:
        self._roomy.set()

    def eof_received(self) -> bool:
        return True

    async def _run(self, command: str) -> None:
        told = self._told
        sock = await dial(told["host"], told["port"])
        (pair, *_) = asyncssh.load_keypairs([(told["key"], told["key"] + "-cert.pub")])
        upstream = await log_in(
            sock, host=told["host"], port=told["port"], login=told["login"], host_key=told["host_key"], keypair=pair
        )
        process = await opened(upstream)
        await process.run(command, nonce="", stdin=False)
        while isinstance(item := await process.read(), Chunk):
            self._channel.write(item.data, None if item.stream.value == "out" else _ERR)
            await self._roomy.wait()
            await self._connection.roomy.wait()
        self._channel.exit(item.exit_status or 0)
        upstream.abort()


class _Owner(asyncssh.SSHServer):
    """Lets the other clients' certificate in."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._told = told

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def session_requested(self) -> _Session:
        assert isinstance(self._connection, _Connection)
        return _Session(self._connection, self._told)


async def main(told: dict[str, Any]) -> None:
    """Serves."""
    trusted = asyncssh.import_authorized_keys(f'cert-authority,principals="{told["principal"]}" {told["ca"]}')
    options = await SSHServerConnectionOptions.construct(
        None, config=None, server_factory=lambda: _Owner(told), server_host_keys=[told["own_host_key"]],
        authorized_client_keys=trusted, encryption_algs=["aes128-gcm@openssh.com"], kex_algs=["curve25519-sha256"],
        compression_algs=["none"], encoding=None, line_editor=False, gss_host=None,
    )  # fmt: skip
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(loop, options), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
