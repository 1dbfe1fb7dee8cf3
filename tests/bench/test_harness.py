"""The harness runs, whatever it measures: one round against real processes. Never looks at a figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench import goals


@pytest.mark.e2e
@pytest.mark.sshd
@pytest.mark.timeout(180)
def test_one_round_of_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every goal gets a verdict, and what ran is in the sessions, on disk and in a log that verifies."""
    out = tmp_path / "bench.json"
    words = ["--rounds", "1", "--warmups", "0", "--rate-rounds", "1", "--each", "1", "--out", str(out)]
    assert bench.main(words) == 0
    promised = {goal.id for goal in (*goals.LATENCY, *goals.RATE, *goals.APPEND)}
    assert json.loads(out.read_text())["goals"].keys() == promised
    assert "each has its session and sealed recording" in capsys.readouterr().out
