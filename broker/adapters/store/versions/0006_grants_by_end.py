"""What was revoked lately is found by an index: targets that keep a revocation list are told it.

Revision ID: 0006
"""

from __future__ import annotations

from typing import Final

from alembic import op

revision: Final = "0006"
down_revision: Final = "0005"
branch_labels: Final = None
depends_on: Final = None


def upgrade() -> None:
    op.create_index(op.f("ix_access_grant_tenant_ended_at"), "access_grant", ["tenant", "ended_at"])


def downgrade() -> None:
    raise NotImplementedError("restore a backup")
