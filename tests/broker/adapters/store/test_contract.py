"""Both databases keep the same promises."""

from __future__ import annotations

from tests.contract.store import StoreContract


class TestStore(StoreContract):
    """The contract, on each database of the fixture `store`."""
