"""The furthest moment, kept outside the database (I-05)."""

from __future__ import annotations

import stat
from datetime import timedelta
from pathlib import Path

import pytest

from broker.adapters.high_water import HighWater
from broker.core.errors import Fault
from tests.broker.adapters.store.fixtures import NOW


def test_what_was_kept_last_is_read(tmp_path: Path) -> None:
    """To the microsecond, for its owner alone; nothing before the first time."""
    mark = HighWater(tmp_path / "high-water")
    assert mark.read() is None
    for moment in (NOW, NOW + timedelta(microseconds=1)):
        mark.keep(moment)
    assert HighWater(tmp_path / "high-water").read() == NOW + timedelta(microseconds=1)
    assert [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()] == [0o600]


@pytest.mark.parametrize("content", [b"", b"yesterday", b"-5", b"\xff"])
def test_a_file_that_holds_no_moment_is_no_start(tmp_path: Path, content: bytes) -> None:
    """It is never taken for a clean beginning: an operator looks at it."""
    (tmp_path / "high-water").write_bytes(content)
    with pytest.raises(Fault):
        HighWater(tmp_path / "high-water").read()


def test_a_disk_that_does_not_take_it_is_a_fault(tmp_path: Path) -> None:
    """And what was kept before stays."""
    mark = HighWater(tmp_path / "gone" / "high-water")
    with pytest.raises(Fault):
        mark.keep(NOW)
