"""When each live grant ends, under an index; why an effect fails, and since when.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"
branch_labels: Final = None
depends_on: Final = None

_TENANTS: Final = sa.text("SELECT tenant FROM tenants")
_ANNOUNCE: Final = sa.text("SELECT set_config('grantd.tenant', :tenant, true)")
_ENDS: Final = sa.text(
    "UPDATE access_grant SET ends_at = COALESCE(not_after, must_start_by)"
    " WHERE tenant = :tenant AND state IN ('approved', 'active')"
)


def upgrade() -> None:
    op.add_column("access_grant", sa.Column("ends_at", sa.BigInteger(), nullable=True))
    op.add_column("outbox", sa.Column("why", sa.Text(), nullable=True))
    op.add_column("outbox", sa.Column("failing_since", sa.BigInteger(), nullable=True))
    _fill()
    op.create_index(op.f("ix_access_grant_tenant_ends_at_id"), "access_grant", ["tenant", "ends_at", "id"])
    op.create_index(op.f("ix_outbox_tenant_kind_subject"), "outbox", ["tenant", "kind", "subject"])


def _fill() -> None:
    """Tenant by tenant: forced row security shows the owner of the tables no more than the broker (I-40)."""
    conn = op.get_bind()
    for tenant in conn.execute(_TENANTS).scalars().all():
        if conn.dialect.name == "postgresql":
            conn.execute(_ANNOUNCE, {"tenant": tenant})
        conn.execute(_ENDS, {"tenant": tenant})
