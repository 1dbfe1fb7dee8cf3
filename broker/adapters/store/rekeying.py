"""Changing the keys of a tenant while it works: new versions, what they seal moved in batches, old ones deleted.

Every write names what it replaces (`WHERE blob = old`): two who rotate at once, or one that was killed half-way and
starts again, do the same work twice or not at all. Bytes of recordings are never touched, only their wrapped keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Column, Connection, Row, Table, and_, bindparam, delete, func, select, update

from broker.adapters.store.places import Places
from broker.adapters.store.schema import (
    audit_head,
    audit_pending,
    ended_key,
    recording_key,
    secret,
    subject_key,
    tenant_key,
)
from broker.adapters.store.statements import TenantRows, add
from broker.adapters.store.tenant_keys import ALL_KEYS, TenantKeys
from broker.adapters.vault import Place, SealingKey, Vault, head_naming
from broker.adapters.xaes import zero
from broker.core.clock import micros
from broker.core.errors import StoreFault
from broker.core.ids import TenantId
from broker.service.ports import KeyStanding, Purpose, Resealed, Sealed, Shredded

_OWN: Final = tenant_key.c.tenant == bindparam("tenant")


@dataclass(frozen=True, slots=True)
class _Kept:
    """Where the blobs of a purpose lie."""

    table: Table
    name: Column[Any]


_KEPT: Final[Mapping[Purpose, _Kept]] = {
    Purpose.VAULT: _Kept(secret, secret.c.name),
    Purpose.RECORDINGS: _Kept(recording_key, recording_key.c.recording),
    Purpose.SUBJECTS: _Kept(subject_key, subject_key.c.subject),
}


class VaultRowsSql(TenantRows):
    """ports.VaultRows over SQL."""

    __slots__ = ("_keys", "_places", "_vault")

    def __init__(self, conn: Connection, tenant: TenantId, vault: Vault) -> None:
        super().__init__(conn, tenant)
        self._vault = vault
        self._keys = TenantKeys(conn, tenant, vault)
        self._places = Places(tenant)

    # ---- what there is
    def standing(self) -> Sequence[KeyStanding]:
        rows = self._conn.execute(
            select(tenant_key.c.purpose, tenant_key.c.version, tenant_key.c.root_id)
            .where(_OWN)
            .order_by(tenant_key.c.purpose, tenant_key.c.version),
            {"tenant": self._tenant},
        ).all()
        return [
            KeyStanding(
                purpose=(purpose := Purpose(row.purpose)), version=row.version, root_id=row.root_id,
                seals=self._sealed_by(purpose, row.version),
            )
            for row in rows
        ]  # fmt: skip

    def behind(self) -> Sequence[Purpose]:
        rows = select(tenant_key.c.purpose).where(_OWN).group_by(tenant_key.c.purpose).having(func.count() > 1)
        return [Purpose(name) for name in self._conn.execute(rows, {"tenant": self._tenant}).scalars()]

    def wrapped_by(self) -> Mapping[str, int]:
        rows = select(tenant_key.c.root_id, func.count()).where(_OWN).group_by(tenant_key.c.root_id)
        return {row[0]: row[1] for row in self._conn.execute(rows, {"tenant": self._tenant})}

    def is_shredded(self) -> bool:
        return self._is_ended(ALL_KEYS)

    # ---- a purpose's key
    def rotate(self, purpose: Purpose) -> int:
        version = self._newest_version(purpose) + 1
        self._keys.make(purpose, version)
        return version

    def reseal(self, purpose: Purpose, *, after: str, limit: int) -> Resealed:
        kept = _KEPT[purpose]
        rows = self._conn.execute(
            select(kept.table)
            .where(kept.table.c.tenant == self._tenant, kept.name > after)
            .order_by(kept.name)
            .limit(limit)
        ).all()
        newest = self._keys.newest(purpose)
        # a blob names its key in its first bytes: those of the newest are passed over unopened
        old = [row for row in rows if not row.blob.startswith(head_naming(newest.id))]
        moved = [self._moved(kept, row, purpose, newest) for row in old]
        return Resealed(
            moved=len(moved),
            secrets=[sealed for sealed in moved if sealed is not None],
            last=getattr(rows[-1], kept.name.name) if len(rows) == limit else None,
        )

    def drop_unused(self, purpose: Purpose) -> Sequence[int]:
        newest = self._newest_version(purpose)
        versions = select(tenant_key.c.version).where(_OWN, tenant_key.c.purpose == purpose.value)
        older = [v for v in self._conn.execute(versions, {"tenant": self._tenant}).scalars() if v < newest]
        unused = [version for version in sorted(older) if not self._sealed_by(purpose, version)]
        for version in unused:
            self._conn.execute(
                delete(tenant_key).where(
                    tenant_key.c.tenant == self._tenant,
                    tenant_key.c.purpose == purpose.value,
                    tenant_key.c.version == version,
                )
            )
        return unused

    def _moved(self, kept: _Kept, row: Row[Any], purpose: Purpose, newest: SealingKey) -> Sealed | None:
        """Seals one row's value anew; what it was for a secret."""
        place = self._place_of(purpose, row)
        opened = self._keys.named_in(purpose, row.blob).open(place, row.blob)
        try:
            blob = newest.seal(place, opened)
        finally:
            zero(opened)
        self._swap(kept.table, row, blob)
        if purpose is not Purpose.VAULT:
            return None
        return Sealed(name=row.name, version=row.version, sha256=hashlib.sha256(blob).digest())

    def _place_of(self, purpose: Purpose, row: Row[Any]) -> Place:
        match purpose:
            case Purpose.VAULT:
                return self._places.secret(row.name, row.version)
            case Purpose.RECORDINGS:
                return self._places.recording(row.recording, row.key_id)
            case Purpose.SUBJECTS:
                return self._places.subject(row.subject, row.key_id)
            case Purpose.SEARCH | Purpose.HMAC:
                raise StoreFault("nothing is sealed under this key")

    # ---- the root key
    def is_stale(self) -> bool:
        return bool(self._vault.roots.previous) and bool(self._stale())

    def rewrap(self) -> int:
        rows = self._stale()
        root = self._vault.root
        for row in rows:
            place = self._places.tenant_key(Purpose(row.purpose), row.version)
            opened = self._vault.root_of(row.root_id).open(place, row.blob)
            try:
                blob = root.seal(place, opened)
            finally:
                zero(opened)
            self._swap(tenant_key, row, blob, root_id=root.id)
        return len(rows)

    def end_root(self, root_id: str, now: datetime) -> None:
        if self.wrapped_by().get(root_id, 0):
            raise StoreFault(f"the root key {root_id} still wraps keys of a tenant")
        add(self._conn, ended_key, {"tenant": self._tenant, "key_id": root_id, "at": micros(now)})

    def shred(self, now: datetime) -> Shredded:
        gone = 0
        for table in (tenant_key, subject_key):
            gone += self._conn.execute(delete(table).where(table.c.tenant == self._tenant)).rowcount
        add(self._conn, ended_key, {"tenant": self._tenant, "key_id": ALL_KEYS, "at": micros(now)})
        return Shredded(keys=gone, entries=self._audited())

    def _audited(self) -> int:
        """Entries that have their place, and those that wait for one."""
        placed = select(audit_head.c.size).where(audit_head.c.tenant == self._tenant)
        waiting = select(func.count()).select_from(audit_pending).where(audit_pending.c.tenant == self._tenant)
        return (self._conn.execute(placed).scalar_one_or_none() or 0) + self._conn.execute(waiting).scalar_one()

    # ---- parts
    def _stale(self) -> Sequence[Row[Any]]:
        """Tenant keys under former root keys."""
        former = [root.id for root in self._vault.roots.previous]
        found = select(tenant_key).where(tenant_key.c.tenant == self._tenant, tenant_key.c.root_id.in_(former))
        return self._conn.execute(found).all()

    def _swap(self, table: Table, row: Row[Any], blob: bytes, **more: str) -> None:
        """Compare and swap: in one transaction nobody can be between, so a miss is a fault of the database."""
        same = and_(*(column == getattr(row, column.name) for column in table.primary_key), table.c.blob == row.blob)
        if self._conn.execute(update(table).where(same).values(blob=blob, **more)).rowcount != 1:
            raise StoreFault("a sealed value changed while it was moved to another key")

    def _newest_version(self, purpose: Purpose) -> int:
        newest = select(func.max(tenant_key.c.version)).where(_OWN, tenant_key.c.purpose == purpose.value)
        return self._conn.execute(newest, {"tenant": self._tenant}).scalar_one() or 0

    def _sealed_by(self, purpose: Purpose, version: int) -> int:
        kept = _KEPT.get(purpose)
        if kept is None:
            return 0
        head = head_naming(self._places.tenant_key_id(purpose, version))
        named = func.substr(kept.table.c.blob, 1, len(head)) == head
        return self._conn.execute(
            select(func.count()).select_from(kept.table).where(kept.table.c.tenant == self._tenant, named)
        ).scalar_one()

    def _is_ended(self, key_id: str) -> bool:
        row = select(ended_key.c.at).where(ended_key.c.tenant == self._tenant, ended_key.c.key_id == key_id)
        return self._conn.execute(row).one_or_none() is not None
