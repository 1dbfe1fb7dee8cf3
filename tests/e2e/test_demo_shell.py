"""`make demo-shell`: every screen of the gated shell in real terminals, and each step saw what it is there to show."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests import peers
from tests.peers import REPOSITORY

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-demo-shell"), pytest.mark.timeout(300)]

STEPS = 15


def test_the_screens_show_what_they_say() -> None:
    """Exits 0 with a table in which every step is ok; what a person reads at the prompt stands there word for word."""
    tmux = peers.require("tmux")
    if tmux.is_relative_to(peers.PRIVATE_ROOT):
        pytest.skip("tmux is unpacked only: the story starts what is installed")
    told = subprocess.run(
        [sys.executable, "-m", "deploy.demo.shell"],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    sys.stdout.write(told.stdout)
    assert told.returncode == 0, told.stdout[-6000:] + told.stderr[-3000:]
    table = told.stdout.rpartition("What was seen")[2].strip().splitlines()
    assert len(table) == STEPS
    assert all(row.lstrip().startswith("ok ") for row in table), table
    for words in (
        r"\$ uname -sr  read",
        r"waiting for a person to allow this \(\w{6}\), 9:\d\d left; Ctrl-C takes it back",
        r"MAY THIS COMMAND RUN",
        r"install is above what the grant allows; ask for one up to",
        r"access ends in 10 s *\|\n.*echo half a li *\|\n.*grantd: ended: expired *\|\n.*Connection to",
    ):
        assert re.search(words, told.stdout), words
