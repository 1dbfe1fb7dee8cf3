"""`python -m broker` and the `grantd` program."""

from __future__ import annotations

import sys

from broker.cli import grantd
from broker.signer.harden import run_overwriting


def main() -> None:
    """Runs the command line."""
    if sys.argv[1:2] in (["serve"], ["signer"]):
        run_overwriting()
    grantd(prog_name="grantd")


if __name__ == "__main__":
    main()
