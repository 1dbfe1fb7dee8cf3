"""Options that several commands of `grantd` have."""

from __future__ import annotations

from pathlib import Path

import click

CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("/etc/grantd/grantd.toml"),
    envvar="GRANTD_CONFIG",
    show_default=True,
    help="settings file",
)
TENANT = click.option("--tenant", default="", help="whose [the one that the settings name]")
OUTPUT = click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="how to answer"
)
