"""A house for those who need a signer, a clock and a store at once."""

from __future__ import annotations

from tests.broker.service.conftest import house

__all__ = ["house"]
