"""kill -9 between any two steps of keeping the log: nothing acknowledged is lost, doubled or left unproved."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recorder.entry import parse_entry
from recorder.verify import verify_bundle
from tests.broker.adapters.audit_log.crashing import EVENTS
from tests.broker.adapters.audit_log.world import ROOT, T1, export, open_log, sqlite_url
from tests.peers import REPOSITORY


@pytest.mark.timeout(180)  # some sixty processes, on a machine that may be busy
async def test_a_kill_at_any_step_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Each statement, commit and rename of sequencing and signing is survived; the guard stays content (I-31, I-32)."""
    sqlite_url(tmp_path)
    command = [sys.executable, "-m", "tests.broker.adapters.audit_log.crashing", str(tmp_path)]
    env = os.environ | {"GRANTD_TEST_ROOT": ROOT.hex()}
    done = subprocess.run(command, check=False, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr[-2000:]
    killed = int(done.stdout.splitlines()[-1])
    assert killed >= 20
    async with open_log(f"sqlite:///{tmp_path / 'grantd.db'}", tmp_path) as log:
        await log.settle()
        assert not log.health.broken(T1)
        kept = [parse_entry(row.entry).id for row in await log.all()]
        acknowledged = (tmp_path / "acknowledged").read_text().split()
        assert len(acknowledged) == (killed + 1) * EVENTS
        assert kept == acknowledged
        head = await log.reader.head(T1)
        assert head is not None
        assert head.size == len(kept)
        bundle = await export(log, tmp_path / "bundle")
        assert verify_bundle(bundle, vkeys=[head.vkey]).problems == ()
