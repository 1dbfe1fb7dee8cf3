"""One house for each module of tests that walk through real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import peers
from tests.e2e.stage import House
from tests.e2e.tap import Tapped
from tests.peers_sshd import may_unshare


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house that this module's tests share; each test asks for a grant of its own."""
    for program in ("sshd", "ssh", "ssh-keygen"):
        peers.require(program)
    folder: Path = tmp_path_factory.mktemp("house")
    house = House.build(folder)
    yield house
    house.close()


@pytest.fixture(scope="session")
def tapped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tapped]:
    """A house whose target keeps what goes through it; all input is recorded."""
    yield from _tapped(tmp_path_factory.mktemp("tapped"), "all")


@pytest.fixture(scope="module")
def tapped_less(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tapped]:
    """The same, for tests that start the broker anew with other settings."""
    yield from _tapped(tmp_path_factory.mktemp("tapped"), "off")


def _tapped(folder: Path, keeps: str) -> Iterator[Tapped]:
    for program in ("sshd", "ssh", "ssh-keygen"):
        peers.require(program)
    if not may_unshare():
        pytest.skip("the login can have another shell only where an sshd can have a mount namespace of its own")
    made = Tapped.build(folder, keeps)
    yield made
    made.close()
