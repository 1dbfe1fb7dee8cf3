"""One door a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.broker.proxy.world import Gate, gate


@pytest.fixture
async def front(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gate]:
    """An open door; a test that matters on both packet paths asks for `BOTH_PATHS`."""
    async with gate(tmp_path, fast_path=getattr(request, "param", True)) as made:
        yield made
