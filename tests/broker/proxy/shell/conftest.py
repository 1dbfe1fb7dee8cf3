"""One door a test, as for every other way in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker.proxy.conftest import front
from tests.broker.proxy.shell.world import short_folder

__all__ = ["folder", "front"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name fits into a prompt."""
    with short_folder() as made:
        yield made
