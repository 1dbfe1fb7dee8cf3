"""Names the fixtures of fixtures.py for this folder."""

from __future__ import annotations

from tests.broker.adapters.store.fixtures import database, postgres_migrated, postgres_shared, store

__all__ = ["database", "postgres_migrated", "postgres_shared", "store"]
