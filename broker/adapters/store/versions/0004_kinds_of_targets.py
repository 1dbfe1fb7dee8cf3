"""Targets beyond SSH, and credentials that exist on them until they are taken away.

Revision ID: 0004
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"
branch_labels: Final = None
depends_on: Final = None


def upgrade() -> None:
    """Every target so far is an SSH host, every credential a signature."""
    op.add_column("target", sa.Column("kind", sa.Text(), nullable=False, server_default="ssh"))
    op.add_column("target", sa.Column("settings", sa.Text(), nullable=False, server_default="{}"))
    op.add_column("credential", sa.Column("state", sa.Text(), nullable=False, server_default="signed"))
    op.add_column("credential", sa.Column("ended_at", sa.BigInteger(), nullable=True))
    op.create_index(op.f("ix_credential_tenant_state_grant_id"), "credential", ["tenant", "state", "grant_id"])
