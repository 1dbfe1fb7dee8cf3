"""Secrets are known by their names: one can be on several targets, or on none.

Revision ID: 0005
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0005"
down_revision: Final = "0004"
branch_labels: Final = None
depends_on: Final = None

_TABLES: Final = ("secret_checkout", "secret_version")
_OWN_ROWS: Final = "tenant = current_setting('grantd.tenant', true)"


def upgrade() -> None:
    for table in _TABLES:  # nothing ever wrote to them
        op.drop_table(table)
    _create_secret_version()
    _create_secret_checkout()
    if op.get_bind().dialect.name == "postgresql":
        for table in _TABLES:
            op.execute(f'ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY')
            op.execute(f'ALTER TABLE "{table}" FORCE ROW LEVEL SECURITY')
            op.execute(f'CREATE POLICY own_rows ON "{table}" USING ({_OWN_ROWS}) WITH CHECK ({_OWN_ROWS})')


def downgrade() -> None:
    raise NotImplementedError("restore a backup")


def _create_secret_version() -> None:
    op.create_table(
        "secret_version",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("put_by", sa.Text(), nullable=False),
        sa.Column("put_at", sa.BigInteger(), nullable=False),
        _refers("secret_version", "put_by", "identity"),
        sa.PrimaryKeyConstraint("tenant", "name", "version", name=op.f("pk_secret_version")),
    )


def _create_secret_checkout() -> None:
    op.create_table(
        "secret_checkout",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("credential_id", sa.Text(), nullable=False),
        sa.Column("grant_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        _refers("secret_checkout", "credential_id", "credential"),
        _refers("secret_checkout", "grant_id", "access_grant"),
        sa.PrimaryKeyConstraint("tenant", "credential_id", name=op.f("pk_secret_checkout")),
        sa.UniqueConstraint("tenant", "grant_id", name=op.f("uq_secret_checkout_tenant_grant_id")),
    )
    op.create_index(op.f("ix_secret_checkout_tenant_name_version"), "secret_checkout", ["tenant", "name", "version"])


def _refers(table: str, column: str, parent: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_tenant_{column}")
    return sa.ForeignKeyConstraint(["tenant", column], [f"{parent}.tenant", f"{parent}.id"], name=name)
