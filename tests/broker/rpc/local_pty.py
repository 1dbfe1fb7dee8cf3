"""A local command in a terminal of its own: the stand-in target's, for doors that ask for one."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import termios

from broker.core.action import Outcome
from broker.core.terminal import Signal, Size
from broker.service.ports import Chunk, ExecPlan, Stream


class LocalPty:
    """ports.TargetProcess over a local process that leads the session of a pty."""

    def __init__(self, process: asyncio.subprocess.Process, master: int) -> None:
        self._process, self._master = process, master
        self.sizes: list[Size] = []

    @classmethod
    async def start(cls, plan: ExecPlan) -> LocalPty:
        assert plan.pty is not None
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (plan.pty.size.rows, plan.pty.size.columns))
        made = await asyncio.create_subprocess_exec(
            "bash", "--norc", "-c", plan.command.decode(), stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            cwd=plan.cwd or None, env={**os.environ, "TERM": "dumb", **plan.env},
        )  # fmt: skip
        os.close(slave)
        os.set_blocking(master, False)
        return cls(made, master)

    async def read(self) -> Chunk | Outcome:
        while True:
            try:
                if data := os.read(self._master, 65_536):
                    return Chunk(stream=Stream.OUT, data=data)
            except BlockingIOError:
                await asyncio.sleep(0.005)
                continue
            except OSError:  # the last of its processes closed the terminal
                break
        status = await self._process.wait()
        name = signal.Signals(-status).name.removeprefix("SIG") if status < 0 else ""
        return Outcome(exit_status=None if status < 0 else status, signal=name, reason="")

    async def write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self._master, data)

    async def write_eof(self) -> None:
        return None

    async def resize(self, size: Size) -> None:
        self.sizes.append(size)
        termios.tcsetwinsize(self._master, (size.rows, size.columns))

    async def signal(self, name: Signal) -> None:
        if name is Signal.INT:
            await self.write(b"\x03")
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.Signals[f"SIG{name}"])

    async def cut(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        with contextlib.suppress(OSError):
            os.close(self._master)
