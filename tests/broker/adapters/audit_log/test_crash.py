"""kill -9 between any two steps of keeping the log: nothing acknowledged is lost, doubled or left unproved."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import URL

from broker.adapters.audit_log.pins import Pins
from broker.core.ids import SYSTEM_TENANT
from recorder.entry import parse_entry
from recorder.verify import verify_bundle
from tests.broker.adapters.audit_log.crashing import EVENTS, begun
from tests.broker.adapters.audit_log.world import AGENT, ROOT, T1, export, open_log
from tests.peers import REPOSITORY
from tests.peers_postgres import PostgresCluster


def crashed(data: Path, url: URL) -> int:
    """How often the program killed itself until there was no step left."""
    command = [sys.executable, "-m", "tests.broker.adapters.audit_log.crashing", str(data)]
    command.append(url.render_as_string(hide_password=False))
    env = os.environ | {"GRANTD_TEST_ROOT": ROOT.hex()}
    done = subprocess.run(command, check=False, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.splitlines()[-1])


@pytest.mark.timeout(300)  # some sixty processes, on a machine that may be busy
async def test_a_kill_at_any_step_loses_and_doubles_nothing(url: URL, tmp_path: Path) -> None:
    """Each statement, commit and rename of sequencing and signing is survived; the guard stays content (I-31, I-32)."""
    killed = crashed(tmp_path, url)
    assert killed >= 20
    async with open_log(url, tmp_path) as log:
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


async def restored(url: URL, data: Path, cluster: Callable[[], PostgresCluster]) -> URL:
    """A database of before what the heads in `data` were signed for."""
    async with open_log(url, data) as log:
        await log.grow(5)
    if url.get_backend_name() == "sqlite":
        older = url.set(database=f"{url.database}.older")
        shutil.copy(str(url.database), str(older.database))
    else:
        older = cluster().create_database(template=str(url.database)).app
    async with open_log(url, data) as log:
        await log.grow(5)
    return older


@pytest.mark.timeout(180)
async def test_a_kill_while_a_restore_is_acknowledged_neither_hides_it_nor_raises_it_again(
    url: URL, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """I-32: at each step the log is as broken as before, or begun anew and sound; nothing else."""
    older = await restored(url, tmp_path, lambda: request.getfixturevalue("postgres_cluster"))
    pins, before = tmp_path / "checkpoints", tmp_path / "before"
    async with open_log(older, tmp_path) as log:
        assert log.health.broken(T1)
        await log.keeper.begin_epoch(SYSTEM_TENANT, log.clock.now(), by=AGENT)
    shutil.copytree(pins, before)
    seen, done = list[tuple[bool, int]](), False
    while not done:
        shutil.rmtree(pins)
        shutil.copytree(before, pins)
        done = begun(pins, len(seen) + 1)
        async with open_log(older, tmp_path) as log:
            seen.append((log.health.broken(T1), Pins(pins).epoch(T1)))
    assert len(seen) >= 8
    assert set(seen) == {(True, 0), (False, 1)}
    async with open_log(older, tmp_path) as log:
        await log.grow(3)
        assert not log.health.broken(T1)
