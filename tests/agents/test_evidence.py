"""grantctl on what was recorded and audited: played, fetched, exported, searched, into files that are nobody's yet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from grantd.v1 import audit_pb2, session_pb2
from tests.agents.console import grantctl
from tests.agents.fake_broker import FakeBroker


def test_playing_a_recording(broker: FakeBroker, home: Path) -> None:
    """Streams marked, times, characters put together, every unsafe byte escaped (F38)."""
    kinds = [
        (5, b'{"argv":"x"}'),
        (1, b"one\r\ntwo \x1b[2J gr\xc3"),
        (1, b"\xbcn\n"),
        (2, b"bad\n"),
        (6, b'{"status":0}'),
    ]
    broker.played = [
        session_pb2.PlayRecordingResponse(t_us=number * 1_500_000, kind=kind, payload=payload)
        for number, (kind, payload) in enumerate(kinds)
    ]
    ran = grantctl(home, "sessions", "play", "se_1", "--reason", "a test")
    assert ran.stdout.decode().splitlines() == [
        '      0s.000 exec {"argv":"x"}',
        "      1s.500  out one",
        "      1s.500  out two \\x1b[2J gr\u00fcn",
        "      4s.500  err bad",
        '      6s.000 exit {"status":0}',
    ]
    told = grantctl(home, "sessions", "play", "se_1", "--reason", "a test", "-o", "json")
    assert len(told.stdout.splitlines()) == 5


def test_fetching_a_recording(home: Path, tmp_path: Path) -> None:
    """Part by part, never over an existing file."""
    ran = grantctl(home, "sessions", "fetch", "se_1", "--reason", "a test", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "se_1.grec").read_bytes() == b"onetwo"
    assert (tmp_path / "se_1.1.grec").read_bytes() == b"three"
    assert grantctl(home, "sessions", "fetch", "se_1", "--reason", "a test", cwd=tmp_path).returncode == 2


def test_exporting_a_recording(home: Path, tmp_path: Path) -> None:
    """Each form by its flag, one file that is never overwritten; what breaks off leaves none."""
    ran = grantctl(
        home, "sessions", "export", "se_1", "--reason", "a test", "--cast", "v3", "--with-input", cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "se_1.cast").read_bytes() == b"2 True a test"
    assert (tmp_path / "se_1.cast").stat().st_mode & 0o777 == 0o600
    assert grantctl(home, "sessions", "export", "se_1", "--text", "--reason", "why").stdout == b"4 False why"
    assert (
        grantctl(home, "sessions", "export", "se_1", "--reason", "a test", "--cast", "v2", "--out", "-").stdout
        == b"1 False a test"
    )
    broken = grantctl(home, "sessions", "export", "se_1", "--html", "--reason", "break", cwd=tmp_path)
    assert broken.returncode == 1
    assert b"too long" in broken.stderr
    assert {path.name for path in tmp_path.iterdir()} & {"se_1.html", "se_1.cast"} == {"se_1.cast"}
    for wrong in ((), ("--html", "--text"), ("--html", "--with-input"), ("--cast", "v3")):
        assert grantctl(home, "sessions", "export", "se_1", "--reason", "a test", *wrong, cwd=tmp_path).returncode == 2


def test_searching_recordings(home: Path) -> None:
    """Session, time and line, escaped; what could not be read is said; nothing found is exit code 1, as in grep."""
    ran = grantctl(home, "sessions", "grep", "needle", "--reason", "broken")
    assert ran.returncode == 0
    assert ran.stdout.decode().splitlines() == [
        "se_1  deployer as root on web1",
        "  1:02:03  a Needle \\x1b]0;x\\x07in it",
    ]
    assert b"7 recordings searched" in ran.stderr
    assert b"1 of them could not be read" in ran.stderr
    missed = grantctl(home, "sessions", "grep", "haystack", "--reason", "a test", "-o", "json")
    assert missed.returncode == 1
    assert json.loads(missed.stdout)["looked"]["recordings"] == "7"


def test_exporting_a_bundle(broker: FakeBroker, home: Path, tmp_path: Path) -> None:
    """Files below the directory, in pieces."""
    pieces = [("log/checkpoint", b"a"), ("log/checkpoint", b"b"), ("entries", b"c")]
    broker.bundle = [audit_pb2.ExportBundleResponse(path=path, data=data) for path, data in pieces]
    assert grantctl(home, "audit", "export", str(tmp_path / "out"), "--reason", "audit").returncode == 0
    assert (tmp_path / "out/log/checkpoint").read_bytes() == b"ab"
    assert grantctl(home, "audit", "export", str(tmp_path / "out"), "--reason", "audit").returncode == 2


@pytest.mark.parametrize("path", ["../evil", "/evil", "a/../../evil", "a//b", "", "./x", "a\nb"])
def test_a_bundle_stays_in_its_directory(broker: FakeBroker, home: Path, tmp_path: Path, path: str) -> None:
    """A name that leads elsewhere ends the export."""
    broker.bundle = [audit_pb2.ExportBundleResponse(path=path, data=b"x")]
    ran = grantctl(home, "audit", "export", str(tmp_path / "out"), "--reason", "audit")
    assert ran.returncode == 1
    assert list((tmp_path / "out").rglob("*")) == []
    assert not (tmp_path / "evil").exists()
