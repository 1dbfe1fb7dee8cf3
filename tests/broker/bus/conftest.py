"""One broker without doors a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.broker.service.world import House, opened


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A house with the team `ops` and the target `web1`."""
    async with opened(tmp_path) as made:
        yield made
