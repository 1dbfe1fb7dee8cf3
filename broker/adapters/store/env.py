"""What Alembic runs a migration in: the connection that migrations.py gave it, in the transaction that it began."""

from __future__ import annotations

from alembic import context

from broker.adapters.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,  # SQLite can, and a half-made schema helps nobody
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
