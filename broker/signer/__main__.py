"""`python -m broker.signer`: how the broker starts its signer. Takes no secret on its command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import structlog

from broker.core.errors import Fault
from broker.signer.process import SignerConfig, run_signer


def main(argv: list[str] | None = None) -> int:
    """0 after SIGTERM, 1 if it may not start (one line on standard error says why)."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    try:
        run_signer(_config(argv))
    except Fault as fault:
        structlog.get_logger().error("signer.not_started", why=fault.what)
        return 1
    return 0


def _config(argv: list[str] | None) -> SignerConfig:
    parser = argparse.ArgumentParser(prog="broker.signer", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="the keys and the journal, mode 0700")
    parser.add_argument("--socket", type=Path, required=True, help="Unix socket to listen at")
    parser.add_argument("--allowed-uid", type=int, required=True, help="uid of the broker")
    parser.add_argument("--parent-pid", type=int, help="embedded: only this process may ask, and its end is the end")
    given = parser.parse_args(argv)
    return SignerConfig(
        directory=given.directory, socket=given.socket, allowed_uid=given.allowed_uid, parent_pid=given.parent_pid
    )


if __name__ == "__main__":
    sys.exit(main())
