"""The quick way is taken only over the asyncssh that it was written against (docs/adr/0027)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import pytest
from asyncssh.channel import SSHChannel
from asyncssh.connection import SSHConnection
from structlog.testing import capture_logs

from broker.app import _fast_path
from broker.config import Settings
from broker.fastpath import FastChannel, FastConnection, changed, pins
from tests.broker.adapters.audit_log.world import SeenMeter


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nothing is remembered of another test, nor by another one of these."""
    changed.cache_clear()
    yield
    changed.cache_clear()


def test_the_sources_are_those_that_were_read() -> None:
    """After an update of asyncssh: read what changed, then `python -m broker.fastpath.pins`."""
    assert changed() == ()


@pytest.mark.parametrize(("ours", "theirs"), [(FastConnection, SSHConnection), (FastChannel, SSHChannel)])
def test_everything_overridden_is_pinned(ours: type, theirs: type) -> None:
    """An override of what nobody watches would go unnoticed."""
    overridden = {name for name, made in vars(ours).items() if callable(made) and hasattr(theirs, name)}
    assert overridden
    assert {f"{theirs.__name__}.{name}" for name in overridden} <= set(pins.PINS)


def test_each_pin_is_of_one_source() -> None:
    """Nothing is pinned twice, or under another's name."""
    assert set(pins.digests()) == set(pins.PINS)
    assert len(pins.PINS) == len(pins.RELIED_ON)


@pytest.mark.parametrize("name", ["SSHConnection.send_packet", "GCMCipher"])
def test_a_changed_source_turns_it_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """asyncssh's own way, a warning that names what changed, and a metric."""
    monkeypatch.setattr(pins, "PINS", MappingProxyType({**pins.PINS, name: "0" * 64}))
    meter = SeenMeter()
    with capture_logs() as logs:
        assert _fast_path(Settings(data=tmp_path), meter) is False
    assert [(line["event"], line["names"]) for line in logs] == [("ssh.fast_path_off", (name,))]
    assert meter.gauges["ssh_fast_path"] == 0


def test_a_source_that_cannot_be_read_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed without sources: nobody knows what runs."""

    def unreadable(part: object) -> str:
        raise OSError

    monkeypatch.setattr(inspect, "getsource", unreadable)
    assert set(changed()) == set(pins.PINS)


@pytest.mark.parametrize("asked", [True, False])
def test_the_configuration_has_the_last_word(tmp_path: Path, *, asked: bool) -> None:
    """`ssh.fast_path`."""
    meter = SeenMeter()
    settings = Settings.made(data=tmp_path, ssh={"fast_path": asked})
    assert _fast_path(settings, meter) is asked
    assert meter.gauges["ssh_fast_path"] == asked
