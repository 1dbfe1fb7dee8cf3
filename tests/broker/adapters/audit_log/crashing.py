"""A broker that is killed at its k-th step of keeping the log, for every k until there is none left.

Run as a program with a data folder. Steps are what reaches the world: statements, commits, renames. Each round goes on
where the killed one before left the files; what was acknowledged to callers is written to `acknowledged`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy import event as sql_event

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
        if name == "os.rename":
            self.step()


async def one_round(data: Path, at: int) -> None:
    """Acknowledge some events, then keep the log until the fuse is through."""
    fuse = Fuse(at)
    for name in ("before_cursor_execute", "commit"):
        sql_event.listen(Engine, name, fuse.step)
    sys.addaudithook(fuse.heard)
    async with open_log(f"sqlite:///{data / 'grantd.db'}", data, HandClock(mono=1_000.0 + at)) as log:
        told = await log.tell(*(event(tenant=T1, reason=f"round {at}") for _ in range(EVENTS)))
        with (data / "acknowledged").open("a") as file:
            file.writelines(f"{one}\n" for one in told)
        fuse.lit = True
        await log.settle()
        fuse.lit = False


def main(data: Path) -> None:
    """Prints how many rounds were killed."""
    for at in range(1, 1_000):
        child = os.fork()
        if child == 0:
            asyncio.run(one_round(data, at))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            print(at - 1)  # noqa: T201  the answer of a program
            return
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            raise SystemExit(f"round {at} ended with {status}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
