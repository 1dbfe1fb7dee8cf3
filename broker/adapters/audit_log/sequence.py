"""One step of the sequencer: waiting entries get their places in the log, in one transaction.

A plain function of a connection: the store makes it atomic, so a crash at any statement leaves every entry either
waiting or in the tree, never both and never neither. Never makes, opens or changes an entry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from broker.adapters.audit_log import tree
from broker.adapters.store.audit import unpack
from broker.adapters.store.hot import Hot
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
_TAKE = Hot(
    delete(audit_pending)
    .where(audit_pending.c.tenant == bindparam("ten"), audit_pending.c.n.in_(_OLDEST))
    .returning(audit_pending.c.n, audit_pending.c.entry, audit_pending.c.disclosures)
)
_INSERT = Hot(insert(audit_entry), columns=("tenant", "seq", "entry"))
_DISCLOSE = Hot(insert(audit_disclosure), columns=("tenant", "seq", "i", "subject", "blob"))


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
    taken = sorted(_TAKE.rows(connection, {"ten": tenant, "most": most}), key=itemgetter(0))
    if taken:
        entries = [bytes(entry) for _, entry, _ in taken]
        first = tree.grow(connection, tenant, [leaf_hash(entry) for entry in entries])
        _INSERT.run(connection, *({"tenant": tenant, "seq": first + k, "entry": one} for k, one in enumerate(entries)))
        disclosures = list(_disclosures(tenant, first, [bytes(packed) for _, _, packed in taken]))
        if disclosures:
            _DISCLOSE.run(connection, *disclosures)
    return len(taken)


def _disclosures(tenant: TenantId, first: int, packed: Sequence[bytes]) -> Iterator[dict[str, object]]:
    for seq, waited in enumerate(packed, start=first):
        for i, sealed in enumerate(unpack(waited)):
            yield {"tenant": tenant, "seq": seq, "i": i, "subject": sealed.subject, "blob": sealed.blob}


def _leads(connection: Connection, tenant: TenantId) -> bool:
    """One leader a log: on SQLite the one writer is it; on PostgreSQL whoever holds the lock until the commit."""
    if connection.dialect.name != "postgresql":
        return True
    lock = hashlib.sha256(b"grantd/audit/" + tenant.encode()).digest()[:8]
    key = int.from_bytes(lock, "big", signed=True)
    return bool(connection.execute(select(func.pg_try_advisory_xact_lock(key))).scalar_one())
