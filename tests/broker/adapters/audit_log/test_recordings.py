"""Recordings in a bundle: only those whose end the log vouches for, held against what it committed to."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.core.events import AuditEvent
from recorder.grec import Kind
from recorder.verify import verify_bundle
from tests.broker.adapters.audit_log.world import T1, Log, export, open_log, sqlite_url
from tests.recorder import recordings

DONE, OPEN = "rc_" + "a" * 26, "rc_" + "b" * 26
SESSION = "se_" + "d" * 26


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[Log]:
    """A log with one recording that ended and one that still runs."""
    (tmp_path / "recordings").mkdir()
    async with open_log(sqlite_url(tmp_path), tmp_path) as opened:
        with recordings.store(tmp_path / "recordings") as files:
            for rec in (DONE, OPEN):
                sink = await files.create(recordings.meta(rec, sid=SESSION))
                begin = sink.opened
                facts: dict[str, str | int] = {"rec": rec, "session": SESSION}
                facts |= {"part": begin.part, "leaves": begin.leaves, "root": begin.root.hex()}
                await opened.tell(AuditEvent(tenant=T1, name="recording.opened", facts=facts))
                await sink.event(Kind.OUT, 0, b"Linux web1\n")
                if rec == DONE:
                    end = await sink.close(recordings.DONE)
                    facts |= {"part": end.part, "leaves": end.leaves, "root": end.root.hex()}
                    await opened.tell(AuditEvent(tenant=T1, name="recording.closed", facts=facts))
            await opened.settle()
            yield opened
            await sink.close(recordings.DONE)


async def test_a_bundle_carries_what_the_log_vouches_for(log: Log, tmp_path: Path) -> None:
    """The ended recording is in the bundle and verifies without a key; the running one waits for its end (I-32)."""
    head = await log.reader.head(T1)
    assert head is not None
    bundle = await export(log, tmp_path / "bundle")
    report = verify_bundle(bundle, vkeys=[head.vkey])
    assert report.problems == ()
    assert [path.name for path in (bundle / "recordings").iterdir()] == [DONE]
    shutil.rmtree(bundle / "recordings" / DONE)
    assert verify_bundle(bundle, vkeys=[head.vkey]).problems == (f"recording {DONE} is missing",)


async def test_a_changed_recording_is_named(log: Log, tmp_path: Path) -> None:
    """One flipped bit in a recording's file is found against the root that the log holds."""
    head = await log.reader.head(T1)
    assert head is not None
    (part,) = (tmp_path / "recordings").glob(f"t1/*/*/*/{DONE}/p0000.grec")
    data = bytearray(part.read_bytes())
    data[-40] ^= 1
    part.write_bytes(data)
    bundle = await export(log, tmp_path / "bundle")
    problems = verify_bundle(bundle, vkeys=[head.vkey]).problems
    assert any(problem.startswith(f"recording {DONE}: ") for problem in problems), problems
