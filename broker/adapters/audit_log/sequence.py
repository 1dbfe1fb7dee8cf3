"""One step of the sequencer: waiting entries get their places in the log, in one transaction.

A plain function of a connection: the store makes it atomic, so a crash at any statement leaves every entry either
waiting or in the tree, never both and never neither. Never makes, opens or changes an entry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, bindparam, delete, func, insert, select

from broker.adapters.audit_log import tree
from broker.adapters.store.audit import unpack
from broker.adapters.store.schema import audit_disclosure, audit_entry, audit_pending
from broker.core.ids import TenantId
from recorder.merkle import leaf_hash

BATCH: Final = 5_000  # entries a transaction: bounds how long the store's writer is held

_OLDEST = (
    select(audit_pending.c.n)
    .where(audit_pending.c.tenant == bindparam("ten"))
    .order_by(audit_pending.c.n)
    .limit(bindparam("most"))
)
_WAITING = select(audit_pending.c.n).where(audit_pending.c.tenant == bindparam("ten")).limit(1)
# One statement: what is deleted is exactly what is returned, also when other units commit meanwhile (PostgreSQL).
_TAKE = (
    delete(audit_pending)
    .where(audit_pending.c.tenant == bindparam("ten"), audit_pending.c.n.in_(_OLDEST))
    .returning(audit_pending.c.n, audit_pending.c.entry, audit_pending.c.disclosures)
)


def waiting(connection: Connection, tenant: TenantId) -> bool:
    """Whether anything of this tenant waits for its place."""
    return connection.execute(_WAITING, {"ten": tenant}).first() is not None


def sequence(connection: Connection, tenant: TenantId, *, most: int) -> int:
    """Move up to `most` waiting entries into the log, oldest first. Returns how many; 0 also while another leads.

    Raises:
        LogDamaged: the stored tree contradicts itself; nothing is moved.
    """
    if not _leads(connection, tenant):
        return 0
    taken = connection.execute(_TAKE, {"ten": tenant, "most": most}).mappings().all()
    rows = sorted(taken, key=lambda row: int(row["n"]))
    if rows:
        first = tree.grow(connection, tenant, [leaf_hash(bytes(row["entry"])) for row in rows])
        _place(connection, tenant, first, rows)
    return len(rows)


def _place(connection: Connection, tenant: TenantId, first: int, rows: Sequence[RowMapping]) -> None:
    entries = [{"tenant": tenant, "seq": first + k, "entry": row["entry"]} for k, row in enumerate(rows)]
    connection.execute(insert(audit_entry), entries)
    disclosures: list[dict[str, Any]] = [
        {"tenant": tenant, "seq": first + k, "i": i, "subject": sealed.subject, "blob": sealed.blob}
        for k, row in enumerate(rows)
        for i, sealed in enumerate(unpack(bytes(row["disclosures"])))
    ]
    if disclosures:
        connection.execute(insert(audit_disclosure), disclosures)


def _leads(connection: Connection, tenant: TenantId) -> bool:
    """One leader a log: on SQLite the one writer is it; on PostgreSQL whoever holds the lock until the commit."""
    if connection.dialect.name != "postgresql":
        return True
    lock = hashlib.sha256(b"grantd/audit/" + tenant.encode()).digest()[:8]
    key = int.from_bytes(lock, "big", signed=True)
    return bool(connection.execute(select(func.pg_try_advisory_xact_lock(key))).scalar_one())
