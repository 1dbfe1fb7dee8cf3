"""Starts the helper behind, and writes the launcher that finds it fastest. Imports little: `grantctl run` needs it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Final

from grantd.cli import thin
from grantd.errors import Invalid

IDLE: Final = timedelta(minutes=15)
_PATH: Final = re.compile(r"/[\w./+,:@=-]*")
_LAUNCHER: Final = """\
#!{python} -IS
# Made by `grantctl agentd --launcher`: grantctl, without what Python loads for programs that need more.
import sys

sys.path.append("{folder}")
import thin

status = thin.attempt(sys.argv[1:])
if status is None:
    thin.os.execv("{grantctl}", ["grantctl", *sys.argv[1:]])
thin.os._exit(status)
"""


def start_behind(idle: timedelta) -> None:
    """A process in a session of its own, with nothing of this one's: it outlives the terminal, not its idle time."""
    subprocess.Popen(  # noqa: S603  this very Python, words of our own
        [sys.executable, "-m", "grantd.cli.agentd", str(idle.total_seconds())],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True,
    )  # fmt: skip


def start_where_wanted() -> None:
    """For the next run, where the environment says so and none answers."""
    if os.environ.get(thin.SWITCH) != "start" or not os.environ.get("XDG_RUNTIME_DIR"):
        return
    where = thin.socket_path()
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(where or "")
        except OSError:
            start_behind(IDLE)


def write_launcher(path: Path) -> None:
    """A program that does what grantctl does, and starts in half the time where a helper runs. Raises Invalid."""
    python, folder = Path(sys.executable), Path(thin.__file__).parent
    grantctl = python.with_name("grantctl")
    if not grantctl.is_file():
        raise Invalid("no_program", f"there is no grantctl beside {python}")
    for each in (python, folder, grantctl):
        if _PATH.fullmatch(str(each)) is None:
            raise Invalid("bad_path", f"{each} cannot stand in a launcher")
    try:
        path.write_text(_LAUNCHER.format(python=python, folder=folder, grantctl=grantctl))
        path.chmod(0o755)
    except OSError as wrong:
        raise Invalid("bad_launcher", f"{path} cannot be written: {wrong.strerror}") from wrong
