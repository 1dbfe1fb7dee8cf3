"""The log on both databases: a test that asks for `log` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from broker.adapters.store.migrations import migrate
from tests.broker.adapters.audit_log.world import Log, open_log, sqlite_url
from tests.peers_postgres import APP, PostgresDatabase


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """A migrated, empty database of each kind, as the broker's role sees it."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    database: PostgresDatabase = request.getfixturevalue("postgres_database")
    migrate(database.owner, app_role=APP)
    return database.app


@pytest.fixture
def shared_url(postgres_database: PostgresDatabase) -> URL:
    """A database that several brokers may use at once."""
    migrate(postgres_database.owner, app_role=APP)
    return postgres_database.app


@pytest.fixture
async def log(url: URL, tmp_path: Path) -> AsyncIterator[Log]:
    """A started log over it."""
    async with open_log(url, tmp_path) as opened:
        yield opened
