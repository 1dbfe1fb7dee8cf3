"""The newest moment that a log knows of: what a start measures its clock by (I-05)."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path

from broker.adapters.audit_log.times import newest_moment
from broker.core.events import AuditEvent
from tests.broker.adapters.store.fixtures import NOW, OTHER, TENANT, open_sqlite


async def test_the_newest_entry_of_this_tenant_counts(tmp_path: Path) -> None:
    """Whichever was written last, not whichever was written at last; other tenants have clocks of their own logs."""
    store = await open_sqlite(tmp_path)
    try:
        look = partial(store.read_sql, TENANT, partial(newest_moment, tenant=TENANT))
        assert await look() is None
        for hours in (1, 5, 3):
            event, at = AuditEvent(tenant=TENANT, name="person.added", facts={}), NOW + timedelta(hours=hours)
            await store.run(TENANT, lambda tx, event=event, at=at: tx.audit.append(event, at))  # type: ignore[misc]
        other = AuditEvent(tenant=OTHER, name="person.added", facts={})
        await store.run(OTHER, lambda tx: tx.audit.append(other, NOW + timedelta(hours=9)))
        assert await look() == NOW + timedelta(hours=5)
    finally:
        await store.close()
