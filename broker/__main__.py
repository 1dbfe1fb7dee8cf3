"""`python -m broker` and the `grantd` program."""

from __future__ import annotations

from broker.cli import grantd


def main() -> None:
    """Runs the command line."""
    grantd(prog_name="grantd")


if __name__ == "__main__":
    main()
