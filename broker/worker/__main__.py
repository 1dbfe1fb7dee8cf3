"""`python -m broker.worker`: how the broker starts its data workers. Takes no secret on its command line."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from asyncio import selector_events

import structlog

from broker.adapters.system import give_way_quickly
from broker.core.errors import Fault
from broker.logs import configure
from broker.signer import harden
from broker.worker.house import serve

READ_BYTES = 64 * 1024
"""Of one read from a socket: a flood leaves the loop to others sooner."""


def main(argv: list[str] | None = None) -> int:
    """0 at the end of the bus or of a stop, 1 if it may not start (one line says why)."""
    parser = argparse.ArgumentParser(prog="broker.worker", description=__doc__)
    parser.add_argument("--bus", type=int, required=True, help="descriptor of the socket to the control process")
    parser.add_argument("--parent-pid", type=int, required=True, help="the control process: its end is the end")
    given = parser.parse_args(argv)
    configure("info")
    give_way_quickly()
    try:
        harden.private_files()
        harden.no_dumps()
        harden.overwrite_freed()
        harden.end_with(given.parent_pid, signal.SIGKILL)
        why = harden.lock_memory()
        if why:
            structlog.get_logger().info("memory.not_locked", why=why, pid=os.getpid())
        # a Ctrl-C at the terminal or a stop of the service reaches both: the control process ends its workers in order
        for word in (signal.SIGINT, signal.SIGTERM):
            signal.signal(word, signal.SIG_IGN)
        selector_events._SelectorSocketTransport.max_size = READ_BYTES  # type: ignore[attr-defined]  # noqa: SLF001
        asyncio.run(serve(socket.socket(fileno=given.bus)))
    except Fault as fault:
        structlog.get_logger().error("worker.not_started", why=fault.what, pid=os.getpid())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
