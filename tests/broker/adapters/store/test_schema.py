"""The schema keeps its own rules, and both databases have it."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Column, MetaData, Table, Text, create_engine
from sqlalchemy.pool import NullPool

from broker.adapters.store import migrations, readiness
from broker.adapters.store.columns import DATA_CLASS, p2, tenant
from broker.adapters.store.migrations import check, migrate
from broker.adapters.store.schema import metadata
from broker.core.errors import Refusal, StoreFault
from tests.broker.adapters.store.fixtures import Database

CLASSES = {"P0", "P1", "P2"}


def untagged(tables: MetaData) -> list[str]:
    """Columns without a data class."""
    return [str(c) for table in tables.sorted_tables for c in table.c if c.info.get(DATA_CLASS) not in CLASSES]


def test_every_column_has_a_data_class() -> None:
    """Purge, export and redaction are derived from it (I-55, P20)."""
    assert untagged(metadata) == []


def test_an_untagged_column_is_found() -> None:
    """The check sees what it is for: neither no class nor an unknown one passes."""
    planted = MetaData()
    Table(
        "t",
        planted,
        tenant(),
        p2("fine", Text()),
        Column("bare", Text()),
        Column("odd", Text(), info={DATA_CLASS: "P9"}),
    )
    assert untagged(planted) == ["t.bare", "t.odd"]


def test_secrets_are_told_from_the_rest() -> None:
    """What is P0 is sealed or hashed bytes: never text that somebody could read (I-53)."""
    secret = {str(c): str(c.type) for table in metadata.sorted_tables for c in table.c if c.info[DATA_CLASS] == "P0"}
    assert secret == dict.fromkeys(
        ["join_token.secret_sha256", "recording_key.blob", "secret.blob", "subject_key.blob", "tenant_key.blob"], "BLOB"
    )


def test_the_tenant_is_in_every_key() -> None:
    """Primary keys, foreign keys on both ends, unique constraints: none reaches across tenants (I-40)."""
    for table in metadata.sorted_tables:
        assert "tenant" in table.primary_key.columns, table.name
        for constraint in table.foreign_key_constraints:
            ends = {(element.parent.name, element.column.name) for element in constraint.elements}
            assert ("tenant", "tenant") in ends, constraint.name
        for unique in (c for c in table.constraints if c.__visit_name__ == "unique_constraint"):
            assert "tenant" in unique.columns, unique.name  # type: ignore[attr-defined]
    assert all(table.foreign_key_constraints for table in metadata.sorted_tables if table.name != "tenants")


def test_the_program_knows_the_newest_revision() -> None:
    """A new revision without its number in readiness.py would stop every broker."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == readiness.HEAD


def test_the_database_has_the_schema(database: Database) -> None:
    """What the migrations make is what schema.py says, on each back end; migrating again changes nothing."""
    migrate(database.owner)
    check(database.owner)


def test_a_difference_is_found(database: Database) -> None:
    """The comparison sees a column that no revision made."""
    metadata.tables["team"].append_column(p2("planted", Text(), nullable=True))
    try:
        with pytest.raises(CommandError, match="planted"):
            check(database.owner)
    finally:
        metadata.tables["team"]._columns.remove(metadata.tables["team"].c.planted)  # noqa: SLF001  no public way back
    check(database.owner)


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Nobody else reads the database, whatever the umask (I-53)."""
    file = tmp_path / "new.db"
    migrate(f"sqlite:///{file}")
    assert file.stat().st_mode & 0o777 == 0o600
    assert [left.name for left in tmp_path.iterdir()] == ["new.db"]


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:", "no url: pass@word", ""])
def test_other_databases_are_refused(url: str) -> None:
    """A clear refusal that does not repeat the URL: it may hold a password."""
    with pytest.raises(Refusal) as refused:
        migrate(url)
    assert not url or url not in str(refused.value)


def test_a_failed_migration_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it or nothing: a half-made schema would be nobody's version."""
    file = tmp_path / "new.db"
    monkeypatch.setattr(migrations, "_config", lambda _: (_ for _ in ()).throw(LookupError("stop")))
    with pytest.raises(LookupError):
        migrate(f"sqlite:///{file}")
    monkeypatch.undo()
    engine = create_engine(f"sqlite:///{file}", poolclass=NullPool)
    with engine.connect() as conn:
        assert conn.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one() == 0


def test_a_missing_folder_is_a_fault(tmp_path: Path) -> None:
    """The database cannot be made where there is no place for it, and says so."""
    with pytest.raises(StoreFault):
        migrate(f"sqlite:///{tmp_path}/none/new.db")
