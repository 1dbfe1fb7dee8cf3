"""A small SSH server for machines without an sshd program.

User certificates of one CA, force-command, exec through bash.

For the demonstration alone. Obeys what grantd relies on: one principal, source-address, force-command, several
sessions on one connection, stdout and stderr apart, exit status.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import signal
import sys
from pathlib import Path

import asyncssh

_PIECE = 32 * 1024


async def _run(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """The forced command if there is one, else the asked one, in a process group of its own."""
    child = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        process.command or "exit 1",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "SHLVL": "3"},
    )
    if child.stdin is None or child.stdout is None or child.stderr is None:
        raise RuntimeError("the command has no pipes")
    try:
        async with asyncio.TaskGroup() as group:
            feeding = group.create_task(_feed(process.stdin, child.stdin))
            gone = group.create_task(_kill_when_gone(process, child))
            async with asyncio.TaskGroup() as output:
                output.create_task(_copy(child.stdout, process.stdout))
                output.create_task(_copy(child.stderr, process.stderr))
            status = await child.wait()
            feeding.cancel()
            gone.cancel()
    finally:
        if child.returncode is None:
            os.killpg(child.pid, signal.SIGKILL)
    process.exit(status if status >= 0 else 128 - status)


async def _copy(source: asyncio.StreamReader, sink: asyncssh.SSHWriter[bytes]) -> None:
    while data := await source.read(_PIECE):
        sink.write(data)
        await sink.drain()


async def _feed(source: asyncssh.SSHReader[bytes], sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):  # the command closed its stdin: it has read enough
        while data := await source.read(_PIECE):
            sink.write(data)
            await sink.drain()
        sink.close()


async def _kill_when_gone(process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> None:
    """What sshd does not do either; here nobody else would, since the server outlives its connections."""
    await process.channel.wait_closed()
    if child.returncode is None:
        os.killpg(child.pid, signal.SIGKILL)


async def _serve(folder: Path, port: int) -> None:
    login = getpass.getuser()
    principals = folder / "principals" / login

    def authorized() -> asyncssh.SSHAuthorizedKeys:
        ca = (folder / "grantd_egress_ca.pub").read_text().strip()
        listed = principals.read_text().strip() if principals.exists() else "nobody"
        return asyncssh.import_authorized_keys(f'cert-authority,principals="{listed}" {ca}\n' if ca else "")

    class Server(asyncssh.SSHServer):
        """Lets in whoever shows a certificate of the CA with the principal that is listed for the login."""

        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            self._conn = conn

        def begin_auth(self, username: str) -> bool:
            self._conn.set_authorized_keys(authorized())
            return True

    await asyncssh.listen(
        "127.0.0.1",
        port,
        server_factory=Server,
        server_host_keys=[folder / "host_key"],
        process_factory=_run,
        encoding=None,
        allow_pty=False,
        agent_forwarding=False,
        compression_algs=["none"],
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
