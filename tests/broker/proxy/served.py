"""A door in a process of its own, whose memory is its own: `python -m tests.broker.proxy.served FOLDER LIMITS PATH`.

Prints one line of JSON once it listens, and serves until its stdin ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from broker.proxy import limits
from tests.broker.proxy.world import gate


async def main(folder: Path, *, fast_path: bool) -> None:
    """Serves."""
    async with gate(folder, fast_path=fast_path) as front:
        await front.trust()
        passes = [await front.admit(flags=frozenset({"stream_stdin", "sftp"})) for _ in range(1)]
        told = [
            {"key": shown.key.private_bytes_raw().hex(), "certificate": shown.certificate.hex(), "user": shown.user,
             "grant": shown.grant} for shown in passes
        ]  # fmt: skip
        print(json.dumps({"port": front.port, "passes": told}), flush=True)  # noqa: T201
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    for name, value in json.loads(sys.argv[2]).items():
        setattr(limits, name, value)
    asyncio.run(main(Path(sys.argv[1]), fast_path=sys.argv[3] == "fast"))
