"""A broker that is killed at its k-th step of keeping the log, for every k until there is none left.

Run as a program with a data folder and the URL of a database. Steps are what reaches the world: statements, commits,
links, removals. Each round goes on where the killed one before left the files; what was acknowledged to callers is
written to `acknowledged`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy import event as sql_event

from broker.adapters.audit_log.pins import Pins
from tests.broker.adapters.audit_log.world import T1, HandClock, event, open_log

EVENTS = 5


class Fuse:
    """Counts steps once it is lit; at its number it kills the process as the kernel would."""

    def __init__(self, at: int) -> None:
        self.left, self.lit = at, False

    def step(self, *_: object, **__: object) -> None:
        self.left -= self.lit
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def heard(self, name: str, _: object) -> None:
        if name in ("os.rename", "os.link", "os.remove"):
            self.step()


async def one_round(data: Path, url: str, at: int) -> None:
    """Acknowledge some events, then keep the log until the fuse is through."""
    fuse = Fuse(at)
    for name in ("before_cursor_execute", "commit"):
        sql_event.listen(Engine, name, fuse.step)
    sys.addaudithook(fuse.heard)
    async with open_log(url, data, HandClock(mono=1_000.0 + at)) as log:
        told = await log.tell(*(event(tenant=T1, reason=f"round {at}") for _ in range(EVENTS)))
        with (data / "acknowledged").open("a") as file:
            file.writelines(f"{one}\n" for one in told)
        fuse.lit = True
        await log.settle()
        fuse.lit = False


def begun(pins: Path, at: int) -> bool:
    """Another process begins the next epoch of a log, killed at its `at`-th step; whether it was done before that."""
    return in_a_child(lambda: _begin(pins, at)) == 0


async def _begin(pins: Path, at: int) -> None:
    fuse = Fuse(at)
    sys.addaudithook(fuse.heard)
    fuse.lit = True
    Pins(pins).begin_epoch(T1)


def in_a_child(work: Callable[[], Coroutine[Any, Any, int | None]]) -> int:
    """How another process that does it ends: its status, or SIGKILL negative. Others end this program."""
    child = os.fork()
    if child == 0:
        code = 9
        try:
            code = asyncio.run(work()) or 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0 and code != -signal.SIGKILL:
        raise SystemExit(f"ended with {code}")
    return code


def keep(data: Path, url: str) -> Iterator[str]:
    """The last line is how many rounds were killed."""
    for at in range(1, 1_000):
        code = in_a_child(partial(one_round, data, url, at))
        if code == 0:
            yield str(at - 1)
            return
        if code > 0:
            raise SystemExit(f"round {at} ended with {code}")


if __name__ == "__main__":
    for line in keep(Path(sys.argv[1]), sys.argv[2]):
        print(line, flush=True)  # noqa: T201  the answer of a program
