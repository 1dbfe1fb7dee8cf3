"""The harness of many sessions runs, with few of them. Never looks at a figure."""

from __future__ import annotations

import pytest

from bench import scale


@pytest.mark.e2e
@pytest.mark.sshd
@pytest.mark.timeout(180)
def test_few_sessions_of_each_kind(capsys: pytest.CaptureFixture[str]) -> None:
    """In one worker: each phase is told, and a grant is taken away at the end."""
    few = {"idle": 2, "busy": 1, "workers": 1, "seconds": 0.2, "reads": 2}
    scale.main([word for name, value in few.items() for word in (f"--{name}", str(value))])
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["workers", "alone", "idle", "busy", "revoked"]
