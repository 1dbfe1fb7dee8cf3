"""A grant's credentials are counted by an index: their cap is looked at before each one more, however many there are.

Revision ID: 0008
"""

from __future__ import annotations

from typing import Final

from alembic import op

revision: Final = "0008"
down_revision: Final = "0007"
branch_labels: Final = None
depends_on: Final = None


def upgrade() -> None:
    op.create_index(op.f("ix_credential_tenant_grant_id_kind"), "credential", ["tenant", "grant_id", "kind"])


def downgrade() -> None:
    raise NotImplementedError("restore a backup")
