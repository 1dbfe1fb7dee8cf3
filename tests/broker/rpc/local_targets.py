"""Targets that are this machine: every command is a local process of bash, no SSH between."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.core.action import Outcome
from broker.core.forward import destination_in
from broker.core.identity import Target
from broker.core.ids import GrantId, TenantId
from broker.core.sshwire import ed25519_blob, parse_blob
from broker.core.terminal import Signal, Size
from broker.service.ports import Chunk, ExecPlan, Finding, Stream
from tests import peers
from tests.broker.rpc.local_pty import LocalPty


class LocalProcess:
    """ports.TargetProcess over a local process in a group of its own."""

    def __init__(self, process: asyncio.subprocess.Process, *, deaf: bool = False) -> None:
        self._process, self._deaf = process, deaf
        self.sizes: list[Size] = []
        assert process.stdout is not None
        assert process.stderr is not None
        self._open = {Stream.OUT: process.stdout, Stream.ERR: process.stderr}
        self._reads: dict[asyncio.Task[bytes], Stream] = {}

    async def read(self) -> Chunk | Outcome:
        while self._open or self._reads:
            for stream, source in self._open.items():
                if stream not in self._reads.values():
                    self._reads[asyncio.ensure_future(source.read(65_536))] = stream  # noqa: TID251  awaited below
            done, _ = await asyncio.wait(self._reads, return_when=asyncio.FIRST_COMPLETED)
            task = done.pop()
            stream = self._reads.pop(task)
            if data := task.result():
                return Chunk(stream=stream, data=data)
            del self._open[stream]
        status = await self._process.wait()
        name = signal.Signals(-status).name.removeprefix("SIG") if status < 0 else ""
        return Outcome(exit_status=None if status < 0 else status, signal=name, reason="")

    async def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    async def write_eof(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def resize(self, size: Size) -> None:
        self.sizes.append(size)

    async def signal(self, name: Signal) -> None:
        if self._deaf:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.Signals[f"SIG{name}"])

    async def cut(self) -> None:
        for task in self._reads:
            task.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        # a pipe that nobody reads any more would keep `wait` from ever returning
        self._process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001
        await self._process.wait()


def placed(command: bytes) -> str:
    """The command, with OpenSSH's helpers where this machine has them."""
    usual, server = f"/{peers.OPENSSH}", peers.find("sftp-server")
    unpacked = server is not None and server.is_relative_to(peers.PRIVATE_ROOT)
    return command.decode().replace(usual, str(server.parent) if server and unpacked else usual)


def _script(command: bytes) -> str:
    """What bash runs; a forward as the wrapper of a real target does it."""
    to = destination_in(command)
    if to is None:
        return placed(command)
    joined = "echo grantd-connected >&2; cat <&4 >&3 & cat <&3; kill $!; exit 0"
    return f"exec 3>/dev/tcp/{to.host}/{to.port} 4<&0 || exit; {joined}"


@dataclass(slots=True)
class LocalTargets:
    """ports.Targets: `bash -c` on this machine."""

    plans: list[ExecPlan] = field(default_factory=list)
    processes: list[LocalProcess | LocalPty] = field(default_factory=list)
    instead: bytes = b""
    """What a target that lies runs instead of every command."""
    deaf: bool = False
    """Signals do not reach what starts from now on."""

    async def start(self, plan: ExecPlan) -> LocalProcess | LocalPty:
        self.plans.append(plan)
        plan = replace(plan, command=self.instead or plan.command)
        self.processes.append(await (LocalPty.start(plan) if plan.pty is not None else self._start(plan)))
        return self.processes[-1]

    async def _start(self, plan: ExecPlan) -> LocalProcess:
        pipe = asyncio.subprocess.PIPE
        made = await asyncio.create_subprocess_exec(
            "bash", "--norc", "-c", _script(plan.command),
            stdin=pipe if plan.wants_stdin else asyncio.subprocess.DEVNULL,
            stdout=pipe, stderr=pipe, start_new_session=True, cwd=plan.cwd or None,
        )  # fmt: skip
        return LocalProcess(made, deaf=self.deaf)

    async def end_grant(self, tenant: TenantId, grant: GrantId) -> None:
        return None

    async def probe(
        self, target: Target, login: str, announce: Callable[[int], Awaitable[None]], serial: int
    ) -> Sequence[Finding]:
        await announce(serial)
        return [Finding(ok=True, what="reachable", advice="")]

    async def believes(
        self, target: Target, login: str, announce: Callable[[int], Awaitable[None]], generation: int
    ) -> bool:
        await announce(generation)
        return True

    def sshd_lines(self, target: Target, egress_cas: Sequence[str]) -> str:
        return "\n".join([f"TrustedUserCAKeys for {target.name}", *egress_cas, ""])

    async def fetch_host_key(self, host: str, port: int) -> str:
        return parse_blob(ed25519_blob(Ed25519PrivateKey.generate().public_key().public_bytes_raw())).line()
