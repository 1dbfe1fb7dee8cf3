"""Sealed credentials for the night when nobody answers.

Revision ID: 0007
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0007"
down_revision: Final = "0006"
branch_labels: Final = None
depends_on: Final = None

_OWN_ROWS: Final = "tenant = current_setting('grantd.tenant', true)"


def upgrade() -> None:
    op.create_table(
        "break_glass",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("ceiling", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("use", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("reviewed_by", sa.Text(), nullable=True),
        sa.Column("reviewed_at", sa.BigInteger(), nullable=True),
        _refers("person", "identity"),
        _refers("target_id", "target"),
        _refers("made_by", "identity"),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_break_glass")),
        sa.UniqueConstraint("tenant", "request_id", name=op.f("uq_break_glass_tenant_request_id")),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute('ALTER TABLE "break_glass" ENABLE ROW LEVEL SECURITY')
        op.execute('ALTER TABLE "break_glass" FORCE ROW LEVEL SECURITY')
        op.execute(f'CREATE POLICY own_rows ON "break_glass" USING ({_OWN_ROWS}) WITH CHECK ({_OWN_ROWS})')


def downgrade() -> None:
    raise NotImplementedError("restore a backup")


def _refers(column: str, parent: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_break_glass_tenant_{column}")
    return sa.ForeignKeyConstraint(["tenant", column], [f"{parent}.tenant", f"{parent}.id"], name=name)
