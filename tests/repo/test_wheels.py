"""What the two distributions hold: the SDK lives in other people's environments and brings nothing of the daemon."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.peers import REPOSITORY


def build(project: Path, out: Path) -> zipfile.ZipFile:
    """The project's wheel, built by the installed backend without any download."""
    hatchling = Path(sys.executable).with_name("hatchling")
    subprocess.run(
        [str(hatchling), "build", "-t", "wheel", "-d", str(out)], check=True, cwd=project, capture_output=True
    )
    (wheel,) = out.glob("*.whl")
    return zipfile.ZipFile(wheel)


def packages(wheel: zipfile.ZipFile) -> set[str]:
    """The importable top-level names that installing the wheel would claim."""
    return {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" not in name}


@pytest.mark.parametrize(
    ("project", "claimed"),
    [(".", {"broker", "policy", "recorder", "grantd"}), ("agents", {"grantd"})],
    ids=["daemon", "sdk"],
)
def test_wheels_claim_their_packages_and_carry_the_licence(project: str, claimed: set[str], tmp_path: Path) -> None:
    """`broker`, `policy` and `recorder` are other distributions' names too; an agent must not receive them."""
    with build(REPOSITORY / project, tmp_path) as wheel:
        assert packages(wheel) == claimed
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel.namelist())


def test_the_sdk_needs_three_libraries_and_no_more(tmp_path: Path) -> None:
    """Every further one would be one more conflict in an agent's environment; why there are three: docs/adr/0016."""
    with build(REPOSITORY / "agents", tmp_path) as wheel:
        (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        wanted = message_from_bytes(wheel.read(metadata)).get_all("Requires-Dist") or []
    needed = {entry.split("<")[0].split(">")[0] for entry in wanted if "extra ==" not in entry}
    assert needed == {"grpcio", "protobuf", "cryptography"}


def test_data_travels_with_the_daemon(tmp_path: Path) -> None:
    """What the sources keep beside themselves (policies, catalogue, migrations) is in the wheel as well."""
    sources = {
        path.relative_to(REPOSITORY).as_posix()
        for package in ("broker", "policy", "recorder")
        for path in (REPOSITORY / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with build(REPOSITORY, tmp_path) as wheel:
        assert sources - set(wheel.namelist()) == set()
