"""One house for each module of tests that walk through real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import peers
from tests.e2e.stage import House


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house that this module's tests share; each test asks for a grant of its own."""
    for program in ("sshd", "ssh", "ssh-keygen"):
        peers.require(program)
    folder: Path = tmp_path_factory.mktemp("house")
    house = House.build(folder)
    yield house
    house.close()
