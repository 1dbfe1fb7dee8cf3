"""The newest moment that a log knows of: a start whose clock is behind it must not issue anything (I-05)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, select

from broker.adapters.store.schema import audit_checkpoint, audit_pending
from broker.core.clock import from_micros
from broker.core.ids import TenantId


def newest_moment(connection: Connection, tenant: TenantId) -> datetime | None:
    """When the newest waiting entry or signed head was made; None for an empty log."""
    found = [
        connection.execute(select(func.max(table.c.at)).where(table.c.tenant == tenant)).scalar()
        for table in (audit_pending, audit_checkpoint)
    ]
    return max((from_micros(us) for us in found if us is not None), default=None)
