"""Unlocks an encrypted key file into an ssh-agent of our own: OpenSSH asks for the passphrase, we never see it.

The agent listens in a private directory, holds this one key, and ends with this program; should it be killed, the
agent forgets the key by itself. It saves a second implementation of OpenSSH's key encryption.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from grantd.errors import Invalid

_LIFE: Final = "8h"
_START_SECONDS: Final = 5.0
_WAY_OUT: Final = "ssh-add it to your own ssh-agent"


def unlock(path: Path) -> Path:
    """The socket of an agent that holds the key of `path`. Asks on the terminal. Raises Invalid."""
    if not sys.stdin.isatty():
        raise Invalid("key_locked", f"{path} is encrypted and there is no terminal to ask on", _WAY_OUT)
    agent, add = shutil.which("ssh-agent"), shutil.which("ssh-add")
    if agent is None or add is None:
        raise Invalid("key_locked", f"{path} is encrypted; unlocking needs ssh-agent and ssh-add", _WAY_OUT)
    socket = _start(agent)
    environment = {**os.environ, "SSH_AUTH_SOCK": str(socket), "SSH_ASKPASS_REQUIRE": "never"}
    added = subprocess.run([add, "-q", "-t", _LIFE, "--", str(path)], check=False, env=environment)  # noqa: S603  OpenSSH's own program, a path after --
    if added.returncode != 0:
        raise Invalid("wrong_passphrase", f"{path} was not unlocked")
    return socket


def _start(program: str) -> Path:
    folder = tempfile.mkdtemp(prefix="grantctl-")  # 0700
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    socket = Path(folder) / "agent"
    process = subprocess.Popen(  # noqa: S603  OpenSSH's own program
        [program, "-D", "-t", _LIFE, "-a", str(socket)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    atexit.register(_end, process)
    deadline = time.monotonic() + _START_SECONDS
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Invalid("key_locked", "a private ssh-agent could not be started", _WAY_OUT)
        time.sleep(0.01)
    return socket


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()
