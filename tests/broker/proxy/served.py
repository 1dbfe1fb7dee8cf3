"""A door in a process of its own, whose memory is its own: `python -m tests.broker.proxy.served FOLDER LIMITS PATH`.

Prints one line of JSON once it listens, answers each line on its stdin with what was refused so far, and serves until
its stdin ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from broker.core.ids import SYSTEM_TENANT
from broker.proxy import limits
from tests.broker.proxy.world import Gate, gate
from tests.broker.rpc.world import TENANT

_KEEPS_EVERY_S = 2.0


async def main(folder: Path, *, fast_path: bool) -> None:
    """Serves."""
    async with gate(folder, fast_path=fast_path) as front:
        await front.trust()
        passes = [await front.admit(flags=frozenset({"stream_stdin", "sftp", "sessions=2"})) for _ in range(2)]
        told = [
            {"key": shown.key.private_bytes_raw().hex(), "certificate": shown.certificate.hex(), "user": shown.user,
             "grant": shown.grant} for shown in passes
        ]  # fmt: skip
        print(json.dumps({"port": front.port, "passes": told}), flush=True)  # noqa: T201
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(_keep(front))
            while await asyncio.to_thread(sys.stdin.readline):
                print(json.dumps({"refusals": front.refusals()}), flush=True)  # noqa: T201
            keeping.cancel()


async def _keep(front: Gate) -> None:
    """As a broker's own job: the log's rows get their place, or after half a minute nothing is granted any more."""
    keeper = front.house.keeper
    while True:
        for tenant in (TENANT, SYSTEM_TENANT):
            while await keeper.sequence(tenant):
                pass
            await keeper.sign_head(tenant, datetime.now(UTC))
        await asyncio.sleep(_KEEPS_EVERY_S)


if __name__ == "__main__":
    for name, value in json.loads(sys.argv[2]).items():
        setattr(limits, name, value)
    asyncio.run(main(Path(sys.argv[1]), fast_path=sys.argv[3] == "fast"))
