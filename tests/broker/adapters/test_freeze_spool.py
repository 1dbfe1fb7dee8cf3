"""A pull of the kill switch outlives the process before anybody is told (I-61)."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.adapters.freeze_spool import FreezeFiles
from broker.core.errors import StoreFault
from broker.core.ids import TenantId
from broker.service.ports import FreezeOrder

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def order(tenant: str | None) -> FreezeOrder:
    """One with a hostile reason."""
    reason = "a\u202eb\x1b[31m\n\"'"
    return FreezeOrder(
        tenant=TenantId(tenant) if tenant else None, by="pe_x", name="olga", reason=reason, at=NOW
    )  # fmt: skip


def test_what_was_put_is_found_by_the_next_process(tmp_path: Path) -> None:
    """Of each tenant one, and of all of them; the second pull of the same replaces the first."""
    spool = FreezeFiles(tmp_path / "freezes")
    assert list(spool.all()) == []
    for each in (order("t1"), order(None), order("t2"), order("t1")):
        spool.put(each)
    assert {o.tenant: o for o in FreezeFiles(tmp_path / "freezes").all()} == {
        "t1": order("t1"), "t2": order("t2"), None: order(None)
    }  # fmt: skip
    spool.drop(TenantId("t1"))
    spool.drop(TenantId("t1"))
    spool.drop(None)
    assert list(spool.all()) == [order("t2")]


def test_the_files_are_the_brokers_alone(tmp_path: Path) -> None:
    """0600 in 0700: a reason may say more than others should read."""
    FreezeFiles(tmp_path / "freezes").put(order("t1"))
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "freezes", tmp_path / "freezes" / "t1.json")]
    assert modes == [0o700, 0o600]


def test_it_is_on_the_disk_before_anybody_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content, then the name: both are synced, in this order."""
    synced = list[bool]()
    real = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    FreezeFiles(tmp_path / "freezes").put(order("t1"))
    assert synced == [False, True]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"v": 1}', b'{"by": 1, "name": 2, "reason": 3, "at_us": "x"}'])
def test_a_damaged_file_is_a_freeze(tmp_path: Path, damage: bytes) -> None:
    """Nobody lifts one by damaging it; a half-written one beside it is none."""
    spool = FreezeFiles(tmp_path / "freezes")
    spool.put(order("t1"))
    (tmp_path / "freezes" / "t1.json").write_bytes(damage)
    (tmp_path / "freezes" / "t2.new").write_bytes(b"{")
    assert [(o.tenant, o.by) for o in spool.all()] == [("t1", "unknown")]


def test_a_disk_that_does_not_take_it_is_said(tmp_path: Path) -> None:
    """Whoever pulled must know that a restart would lift it."""
    (tmp_path / "freezes").write_bytes(b"no folder")
    with pytest.raises(StoreFault):
        FreezeFiles(tmp_path / "freezes").put(order("t1"))
