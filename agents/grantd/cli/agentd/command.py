"""`grantctl agentd`: starts the helper, in front or behind."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path

import click

from grantd.cli.agentd.helper import AlreadyRunning, Helper, harden, private_directory
from grantd.cli.agentd.start import start_behind, write_launcher
from grantd.cli.exits import Exit
from grantd.cli.shell import DURATION, Shell


@click.command()
@click.option("--idle", type=DURATION, default="15m", show_default=True, help="end after so long without a run")
@click.option("--detach", is_flag=True, help="go on behind, with no terminal; nothing happens where one runs already")
@click.option(
    "--launcher", type=click.Path(path_type=Path, dir_okay=False), help="only write a grantctl that starts faster"
)
@click.pass_obj
def agentd(shell: Shell, *, idle: timedelta, detach: bool, launcher: Path | None) -> int:
    """Stay connected, so that `grantctl run` starts at once: for this user alone, until nothing ran for a while.

    `grantctl run` finds it by its socket in $XDG_RUNTIME_DIR/grantd and does without it where there is none.
    """
    if launcher is not None:
        write_launcher(launcher)
        return Exit.OK
    directory = private_directory()
    if detach:
        start_behind(idle)
        return Exit.OK
    harden()
    shell.say(f"grantctl: the helper listens in {directory}")
    asyncio.run(Helper(directory=directory, idle=idle, uid=os.geteuid()).serve())
    return Exit.OK


def behind(words: list[str]) -> int:
    """What that process does."""
    harden()
    try:
        helper = Helper(directory=private_directory(), idle=timedelta(seconds=float(words[0])), uid=os.geteuid())
        asyncio.run(helper.serve())
    except AlreadyRunning:
        pass
    return Exit.OK
