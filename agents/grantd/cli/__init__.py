"""grantctl: the broker for people and scripts. Needs the extra `cli` of the distribution."""

from grantd.cli.app import main

__all__ = ["main"]
