"""`make demo` without a terminal: the story is told to its end, and each step saw what it is there to show."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.peers import REPOSITORY

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-demo"), pytest.mark.timeout(240)]

STEPS = 12


def test_the_demonstration_shows_what_it_says() -> None:
    """What `make demo </dev/null` runs exits 0, with a table in which every step is ok."""
    told = subprocess.run(
        [sys.executable, "-m", "deploy.demo"],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert told.returncode == 0, told.stdout[-4000:] + told.stderr[-2000:]
    table = told.stdout.rpartition("What was seen")[2].strip().splitlines()
    assert len(table) == STEPS
    assert all(row.lstrip().startswith("ok ") for row in table), table
    seen = told.stdout
    for words in (
        "ran at once, nobody was asked",
        "the exact bytes were shown; approved; ran",
        "the agent was told",
        "refused by the host's own sshd",
        "the process on the host too",
        "verified without a key",
        "entries verified offline",
    ):
        assert words in seen
