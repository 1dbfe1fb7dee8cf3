"""One door a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.broker.proxy.world import Gate, gate


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Gate]:
    """An open door."""
    async with gate(tmp_path) as made:
        yield made
