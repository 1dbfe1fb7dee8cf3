"""Tests of one group run on one worker: what they share is built once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.groups import group_of
from tests.peers import REPOSITORY

MODULE = """
import pytest

pytestmark = pytest.mark.xdist_group("{name}")


@pytest.mark.parametrize("number", range(4))
def test_it(number):
    pass
"""
RAN = re.compile(r"\[(gw\d)\].* (\S+\.py)::")


@pytest.mark.timeout(180)
def test_a_group_stays_on_its_worker(tmp_path: Path) -> None:
    """Whatever pytest and pytest-xdist are locked: seen in a run of theirs."""
    for name in ("one", "two", "three"):
        (tmp_path / f"test_{name}.py").write_text(MODULE.replace("{name}", name))
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_xdist_make_scheduler as _one\n"
                                          "pytest_xdist_make_scheduler = _one\n")  # fmt: skip
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = none: none\n")
    words = [sys.executable, "-m", "pytest", "-v", "-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider",
             "-p", "no:asyncio", "."]  # fmt: skip
    ran = subprocess.run(
        words, cwd=tmp_path, env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}, capture_output=True,
        text=True, check=False, timeout=150,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    places = set(RAN.findall(ran.stdout))
    assert {module for _, module in places} == {"test_one.py", "test_two.py", "test_three.py"}
    assert len(places) == 3, places
    assert len({worker for worker, _ in places}) == 2, "both work"


def test_whoever_shares_a_house_is_a_group() -> None:
    """A module with a house of its own, or a mark inside a test, would be torn apart again."""
    for module in sorted((REPOSITORY / "tests/e2e").glob("test_*.py")):
        assert group_of(str(module)) or "house: House" not in module.read_text(), module.name
    for module in (REPOSITORY / "tests").rglob("test_*.py"):
        said = module.read_text()
        assert ("xdist_group(" in said) == bool(group_of(str(module))) or module.name == "test_groups.py", module
