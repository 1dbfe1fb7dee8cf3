"""The import contracts bite: each one, violated in a copy of the sources, is named as broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.peers import REPOSITORY

PACKAGES: Final = ("broker", "policy", "recorder", "agents/grantd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """A line that one contract must refuse, at the end of a source file."""

    contract: str
    file: str
    line: str


PLANTS: Final = (
    Plant(contract="layers", file="broker/rpc/__init__.py", line="import broker.proxy"),
    Plant(contract="layers", file="broker/jobs/__init__.py", line="import broker.adapters.store"),
    Plant(contract="layers", file="broker/core/__init__.py", line="import broker.service.ports"),
    Plant(contract="layers", file="policy/__init__.py", line="import broker.core"),
    Plant(contract="layers", file="broker/fastpath/__init__.py", line="import broker.core"),
    Plant(contract="fastpath", file="broker/service/__init__.py", line="import broker.fastpath"),
    Plant(contract="signer", file="broker/signer/__init__.py", line="import broker.service.ports"),
    Plant(contract="adapters", file="broker/adapters/__init__.py", line="import broker.service"),
    Plant(contract="apart", file="recorder/__init__.py", line="import policy"),
    Plant(contract="apart", file="agents/grantd/__init__.py", line="import recorder"),
    Plant(contract="standalone", file="agents/grantd/cli/__init__.py", line="import broker.core"),
    Plant(contract="pure", file="broker/core/__init__.py", line="import time"),
    Plant(contract="pure", file="policy/shell/__init__.py", line="import os.path"),
    Plant(contract="pure", file="recorder/merkle.py", line="import secrets"),
    Plant(contract="wire", file="broker/service/__init__.py", line="import grantd.v1"),
    Plant(contract="wire", file="broker/proxy/__init__.py", line="import grpc"),
    Plant(contract="cedar", file="broker/service/__init__.py", line="import cedarpy"),
    Plant(contract="light", file="agents/grantd/__init__.py", line="import click"),
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of everything that the contracts speak about."""
    copy = tmp_path_factory.mktemp("sources")
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", copy)
    return copy


def lint(sources: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run lint-imports on the copy, which shadows the repository that the environment points to."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", *arguments],
        check=False,
        cwd=sources,
        env=os.environ | {"PYTHONPATH": f"{sources}:{sources / 'agents'}", "COLUMNS": "300"},
        capture_output=True,
        text=True,
    )


def test_the_sources_keep_every_contract(sources: Path) -> None:
    """What the next test breaks was whole before."""
    result = lint(sources)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: f"{plant.contract}:{plant.file}")
def test_a_planted_violation_is_named(sources: Path, plant: Plant) -> None:
    """A contract that nothing can break would prove nothing."""
    file = sources / plant.file
    before = file.read_text()
    file.write_text(f"{before}\n{plant.line}\n")
    try:
        result = lint(sources, "--contract", plant.contract)
    finally:
        file.write_text(before)
    assert result.returncode == 1, result.stdout
    assert "1 broken" in result.stdout


def test_every_contract_has_a_plant() -> None:
    """A new contract comes with its violation."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert {contract["id"] for contract in settings["contracts"]} == {plant.contract for plant in PLANTS}
