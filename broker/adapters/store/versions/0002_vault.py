"""Keys that were ended, and secrets that are checked out.

Revision ID: 0002
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"
branch_labels: Final = None
depends_on: Final = None

TENANT_TABLES: Final = ("ended_key", "secret_checkout", "secret_version")
_OWN_ROWS: Final = "tenant = current_setting('grantd.tenant', true)"


def upgrade() -> None:
    _create_ended_key()
    _create_secret_version()
    _create_secret_checkout()
    if op.get_bind().dialect.name == "postgresql":
        for table in TENANT_TABLES:
            op.execute(f'ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY')
            op.execute(f'ALTER TABLE "{table}" FORCE ROW LEVEL SECURITY')
            op.execute(f'CREATE POLICY own_rows ON "{table}" USING ({_OWN_ROWS}) WITH CHECK ({_OWN_ROWS})')


def downgrade() -> None:
    raise NotImplementedError("restore a backup: a key that was ended must stay so")


def _create_ended_key() -> None:
    op.create_table(
        "ended_key",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_ended_key_tenant")),
        sa.PrimaryKeyConstraint("tenant", "key_id", name=op.f("pk_ended_key")),
    )


def _create_secret_version() -> None:
    op.create_table(
        "secret_version",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("put_by", sa.Text(), nullable=False),
        sa.Column("put_at", sa.BigInteger(), nullable=False),
        _refers("secret_version", "target_id", "target"),
        _refers("secret_version", "put_by", "identity"),
        sa.PrimaryKeyConstraint("tenant", "target_id", "version", name=op.f("pk_secret_version")),
    )


def _create_secret_checkout() -> None:
    op.create_table(
        "secret_checkout",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("credential_id", sa.Text(), nullable=False),
        sa.Column("grant_id", sa.Text(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        _refers("secret_checkout", "credential_id", "credential"),
        _refers("secret_checkout", "grant_id", "access_grant"),
        _refers("secret_checkout", "target_id", "target"),
        sa.PrimaryKeyConstraint("tenant", "credential_id", name=op.f("pk_secret_checkout")),
        sa.UniqueConstraint("tenant", "grant_id", name=op.f("uq_secret_checkout_tenant_grant_id")),
    )
    op.create_index(
        op.f("ix_secret_checkout_tenant_target_id_version"), "secret_checkout", ["tenant", "target_id", "version"]
    )


def _refers(table: str, column: str, parent: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_tenant_{column}")
    return sa.ForeignKeyConstraint(["tenant", column], [f"{parent}.tenant", f"{parent}.id"], name=name)
