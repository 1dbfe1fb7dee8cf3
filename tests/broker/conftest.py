"""What tests share that run the daemon's own entry points within this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(scope="module")
def own_logs() -> Iterator[None]:
    """An entry point configures logging for its process: here the configuration goes again, and no logger keeps it."""
    before, configure = structlog.get_config(), structlog.configure

    def uncached(**given: object) -> None:
        configure(**{**given, "cache_logger_on_first_use": False})  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", uncached)
        yield
    configure(**before)
