"""The clients that the broker is compared with: ssh as a process, cold and over a master, and asyncssh as a library."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final, Self

import asyncssh

from bench.stage import BenchStage
from tests import peers

COMMAND: Final = "true"
_NEGOTIATED: Final = re.compile(r"kex: (algorithm|host key algorithm|client->server cipher): (\S+)")
_CURVE: Final = ("-o", "KexAlgorithms=curve25519-sha256")


class OpenSsh:
    """Stock ssh with the other clients' certificate; nobody's configuration."""

    def __init__(self, stage: BenchStage, *, name: str = "mux") -> None:
        """`name`: of the master's socket."""
        self._program = peers.get("ssh")
        self._environment = peers.environment(self._program)
        self._control = stage.folder / name
        self._words = [
            str(self._program), "-F", "none", "-i", str(stage.peer_key),
            "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
            "-o", f"UserKnownHostsFile={stage.folder / 'known_hosts'}",
            "-p", str(stage.sshd.port), "-l", stage.sshd.login,
        ]  # fmt: skip
        self._host = stage.sshd.host
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Starts the master."""
        self._run("-o", f"ControlPath={self._control}", "-M", "-N", "-f")
        self._stack.callback(self._run, "-o", f"ControlPath={self._control}", "-O", "exit")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def cold(self) -> Mapping[str, float]:
        """A connection of its own, as it comes."""
        return {"ssh cold": self._timed()}

    def cold_curve25519(self) -> Mapping[str, float]:
        """The same with the key exchange that asyncssh negotiates at its oldest."""
        return {"ssh cold curve25519": self._timed(*_CURVE)}

    def mux(self) -> Mapping[str, float]:
        """A process over the master's connection."""
        return {"ssh mux": self._timed("-o", f"ControlPath={self._control}")}

    async def mux_beside(self) -> None:
        """The same, while others of its kind run."""
        words = [*self._words, "-o", f"ControlPath={self._control}", self._host, COMMAND]
        process = await asyncio.create_subprocess_exec(
            *words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=self._environment,
        )  # fmt: skip
        if status := await process.wait():
            raise RuntimeError(f"ssh over a master exited with status {status}")

    def negotiated(self, *, curve: bool) -> str:
        """Key exchange, host key and cipher of a cold connection."""
        said = self._run("-v", *(_CURVE if curve else ()), command=COMMAND)
        return ", ".join(dict.fromkeys(match.group(2) for match in _NEGOTIATED.finditer(said)))

    def _timed(self, *options: str) -> float:
        began = time.perf_counter()
        self._run(*options, command=COMMAND)
        return time.perf_counter() - began

    def _run(self, *options: str, command: str | None = None) -> str:
        words = [*self._words, *options, self._host, *([command] if command else [])]
        # a master that goes to the background keeps standard error open: a pipe of it would never end
        verbose = "-v" in options
        done = subprocess.run(
            words,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE if verbose else subprocess.DEVNULL,
            text=True,
            env=self._environment,
        )
        if done.returncode:
            raise RuntimeError(f"ssh {' '.join(options)} exited with status {done.returncode}")
        return done.stderr or ""


async def asyncssh_connected(stage: BenchStage) -> asyncssh.SSHClientConnection:
    """A connection that stays, with the broker's own ciphers."""
    return await asyncssh.connect(
        stage.sshd.host,
        stage.sshd.port,
        username=stage.sshd.login,
        client_keys=[(str(stage.peer_key), f"{stage.peer_key}-cert.pub")],
        known_hosts=str(stage.folder / "known_hosts"),
        encryption_algs=["aes128-gcm@openssh.com"],
        agent_path=None,
        config=None,
    )


async def asyncssh_once(connection: asyncssh.SSHClientConnection) -> None:
    """One command on it, its exit status checked."""
    done = await connection.run(COMMAND)
    if done.exit_status:
        raise RuntimeError(f"asyncssh: exit status {done.exit_status}")


class Asyncssh:
    """The persistent asyncssh client, driven from a thread that has no loop of its own."""

    def __init__(self, stage: BenchStage) -> None:
        self._stage = stage
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        self._connection = self._runner.run(asyncssh_connected(self._stage))
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.abort()
        self._runner.run(self._connection.wait_closed())
        self._runner.close()

    def once(self) -> Mapping[str, float]:
        """One command."""
        began = time.perf_counter()
        self._runner.get_loop().run_until_complete(asyncssh_once(self._connection))
        return {"asyncssh": time.perf_counter() - began}

    def negotiated(self) -> str:
        """The cipher; asyncssh does not say which key exchange it was."""
        return f"{self._connection.get_extra_info('send_cipher')}"
