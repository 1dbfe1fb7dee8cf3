"""The systemd units: known keys, and an exposure that systemd itself scores as low."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from tests import peers
from tests.peers import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

SYSTEMD: Final = REPOSITORY / "deploy" / "systemd"
UNITS: Final = sorted(SYSTEMD.glob("*.service"))
EXPOSURE_TENTHS: Final = 15


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze, which needs no running systemd for what is asked here."""
    command = [str(peers.require("systemd-analyze")), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def verify(unit: str, folder: Path) -> str:
    """What systemd has to say about the unit's keys; the program is replaced by one that every machine has."""
    lines = [line if not line.startswith("ExecStart=") else "ExecStart=/bin/true" for line in unit.splitlines()]
    copy = folder / "grantd-under-test.service"
    copy.write_text("\n".join(lines) + "\n")
    said = analyze("verify", "--man=no", str(copy)).stderr
    return "\n".join(line for line in said.splitlines() if copy.name in line)


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_hold_only_keys_that_systemd_knows(unit: Path, tmp_path: Path) -> None:
    """A misspelt directive is ignored by systemd with a line in the journal: the wall would simply not be there."""
    assert verify(unit.read_text(), tmp_path) == ""


def test_a_misspelt_key_is_found(tmp_path: Path) -> None:
    """The test above can fail."""
    assert "ProtectHom" in verify(UNITS[0].read_text().replace("ProtectHome=", "ProtectHom="), tmp_path)


def test_the_broker_with_a_signer_apart_exposes_little(tmp_path: Path) -> None:
    """The drop-in takes away what would hide the signer's user, and no more: keys are known, the score holds."""
    joined = (SYSTEMD / "grantd.service").read_text() + (SYSTEMD / "grantd.service.d" / "signer.conf").read_text()
    alone = [line for line in joined.splitlines() if line != "Requires=grantd-signer.service"]  # not installed here
    assert verify("\n".join(alone), tmp_path) == ""
    (tmp_path / "grantd.service").write_text(joined)
    scored = analyze("security", "--offline=true", f"--threshold={EXPOSURE_TENTHS}", str(tmp_path / "grantd.service"))
    assert scored.returncode == 0, scored.stdout[-400:]


def test_the_signer_has_no_network() -> None:
    """Not an address family but Unix sockets, and a network namespace with nothing in it (I-53)."""
    said = (SYSTEMD / "grantd-signer.service").read_text().splitlines()
    assert {"PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX", "CapabilityBoundingSet="} <= set(said)


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_expose_little(unit: Path) -> None:
    """An exposure of at most 1.5 of 10; each loosened wall shows as a failure here."""
    scored = analyze("security", "--offline=true", f"--threshold={EXPOSURE_TENTHS}", str(unit))
    assert scored.returncode == 0, scored.stdout[-400:]
