"""The loops run over the services' own house."""

from __future__ import annotations

from tests.broker.service.conftest import house

__all__ = ["house"]
