"""The question whether what happens now can be proved later, and the heads kept outside the database."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from broker.adapters.audit_log.health import MAX_LAG_S, MAX_UNSIGNED_S, LogHealth, Marks
from broker.adapters.audit_log.pins import Pins
from broker.adapters.audit_log.signing import LogNames
from broker.core.errors import Blame, Refusal
from broker.core.ids import SYSTEM_TENANT, TenantId
from broker.core.keymaterial import WeakKey
from broker.core.secret import Secret
from tests.broker.adapters.audit_log.world import NAMES, T1, T2, HandClock, SeenMeter


@pytest.fixture
def clock() -> HandClock:
    """A clock that stands still."""
    return HandClock()


@pytest.fixture
def health(clock: HandClock) -> LogHealth:
    """Nothing waits, nothing is broken."""
    return LogHealth(clock=clock, meter=SeenMeter())


def refusal(health: LogHealth, tenant: TenantId) -> str:
    """The code of the refusal, empty where there is none."""
    try:
        health.refuse_if_broken(tenant)
    except Refusal as refused:
        return refused.code if refused.blame is Blame.UNAVAILABLE and refused.way_out else "no way out"
    return ""


def test_a_late_sequencer_refuses_grants(health: LogHealth, clock: HandClock) -> None:
    """An entry that waits over 30 s stops what would need more entries; its place lifts that (I-31)."""
    health.noted(T1)
    clock.forward(MAX_LAG_S)
    assert refusal(health, T1) == ""
    clock.forward(0.1)
    assert refusal(health, T1) == refusal(health, T2) == "audit_log_late"
    health.waiting.settle(T1, health.waiting.begin())
    assert refusal(health, T1) == ""


def test_a_late_head_refuses_grants(health: LogHealth, clock: HandClock) -> None:
    """Rows that no head outside the database covers within 60 s stop grants as well (I-32)."""
    health.unsigned.note(T1)
    clock.forward(MAX_UNSIGNED_S + 1)
    assert refusal(health, T1) == "audit_log_late"


def test_a_broken_log_refuses_its_tenant_and_a_broken_system_log_everybody(health: LogHealth) -> None:
    """A fork costs its own tenant; one of `_system`, which vouches for all, costs all."""
    health.break_log(T1, "cut")
    assert (refusal(health, T1), refusal(health, T2)) == ("audit_log_forked", "")
    health.break_log(SYSTEM_TENANT, "cut")
    assert refusal(health, T2) == "audit_log_forked"


def test_a_broken_log_makes_no_lag_for_others(health: LogHealth, clock: HandClock) -> None:
    """What can never get its place any more does not refuse other tenants for ever (I-60)."""
    health.noted(T1)
    health.unsigned.note(T1)
    health.break_log(T1, "cut")
    health.noted(T1)
    clock.forward(3_600)
    assert (refusal(health, T1), refusal(health, T2)) == ("audit_log_forked", "")


def test_what_is_noted_during_an_attempt_still_waits_after_it(clock: HandClock) -> None:
    """Settling forgets only what was there when the attempt began."""
    marks = Marks(clock)
    marks.note(T1)
    began = marks.begin()
    clock.forward(1)
    marks.note(T1)
    marks.settle(T1, began)
    assert (marks.names(), marks.oldest_s()) == ([T1], 1.0)
    marks.settle(T1, marks.begin())
    assert (marks.names(), marks.oldest_s()) == ([], 0.0)


def test_a_hanging_attempt_is_seen_as_lag(clock: HandClock) -> None:
    """The mark stays while the store does not answer: a hung database cannot look like an empty queue."""
    marks = Marks(clock)
    marks.note(T1)
    marks.begin()
    clock.forward(45)
    assert marks.oldest_s() == 45.0


def test_kept_heads_are_private_and_whole(tmp_path: Path) -> None:
    """Folder 0700, files 0600, `latest` replaced and the history kept at most once a minute."""
    pins = Pins(tmp_path / "checkpoints")
    for second, size in ((0, 1), (1, 2), (59, 3), (60, 4), (61, 5)):
        pins.keep(T1, f"note {size}".encode(), size=size, at_s=1_000 + second)
    folder = tmp_path / "checkpoints" / "t1"
    assert sorted(path.name for path in folder.iterdir()) == ["1", "4", "latest"]
    assert pins.newest(T1) == [b"note 5", b"note 4"]
    assert pins.tenants() == [T1]
    assert pins.newest(T2) == []
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)} == {0o700}


def test_a_kept_head_is_never_written_through_a_link(tmp_path: Path) -> None:
    """Somebody who can make a link in the folder cannot point the broker's writing elsewhere."""
    pins = Pins(tmp_path / "checkpoints")
    pins.keep(T1, b"note", size=1, at_s=1)
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (tmp_path / "checkpoints" / "t1" / ".latest.new").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        pins.keep(T1, b"other", size=2, at_s=2)
    assert victim.read_bytes() == b"mine"


@pytest.mark.parametrize(("domain", "cluster"), [("", "c1"), ("a b", "c1"), ("grantd.example", "C1"), ("x+y", "c1")])
def test_odd_names_of_a_cluster_are_refused(domain: str, cluster: str) -> None:
    """The origin of a log stands in every head: what could not be read back is refused at the start."""
    with pytest.raises(Refusal, match="name its logs"):
        LogNames(domain=domain, cluster=cluster)


def test_the_key_of_heads_is_strong_and_named_after_its_log() -> None:
    """A constant seed is refused (I-54); a log's key carries the log's name, so heads cannot change logs."""
    from broker.adapters.audit_log.signing import HeadKey  # noqa: PLC0415  beside its use

    with pytest.raises(WeakKey):
        HeadKey(NAMES, Secret(bytes(32)))
    key = HeadKey(NAMES, Secret(bytes(range(0, 64, 2))[::-1][:31] + b"\x55"))
    assert key.vkey(T1).startswith("grantd.example/c1/audit/t1+")
    assert key.vkey(T1) != key.vkey(T2)
    assert "Secret" not in repr(key)
