"""A tenant's keys, one a purpose and version, each wrapped by a root key; what they seal is written by others.

Never opens a key without reading its row in the same transaction, never makes one under a key that was ended.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, select

from broker.adapters.store.hot import Hot
from broker.adapters.store.places import FIRST, Places
from broker.adapters.store.schema import ended_key, tenant_key
from broker.adapters.store.statements import TenantRows, add
from broker.adapters.vault import SealingKey, Vault
from broker.core.errors import StoreFault, VaultFault
from broker.core.ids import TenantId
from broker.service.ports import Purpose

ALL_KEYS: Final = "tk"
"""In `ended_key`: every tenant key of the tenant was shredded."""
_NEWEST: Final = Hot(
    select(tenant_key.c.version, tenant_key.c.root_id, tenant_key.c.blob)
    .where(tenant_key.c.tenant == bindparam("tenant"), tenant_key.c.purpose == bindparam("purpose"))
    .order_by(tenant_key.c.version.desc())
    .limit(1)
)
_OF_VERSION: Final = Hot(
    select(tenant_key.c.root_id, tenant_key.c.blob).where(
        tenant_key.c.tenant == bindparam("tenant"),
        tenant_key.c.purpose == bindparam("purpose"),
        tenant_key.c.version == bindparam("version"),
    )
)
_ENDED: Final = select(ended_key.c.key_id).where(
    ended_key.c.tenant == bindparam("tenant"), ended_key.c.key_id.in_([bindparam("root"), bindparam("all")])
)


class TenantKeys(TenantRows):
    """The rows of `tenant_key` of one tenant, opened."""

    __slots__ = ("_places", "_vault")

    def __init__(self, conn: Connection, tenant: TenantId, vault: Vault) -> None:
        super().__init__(conn, tenant)
        self._vault = vault
        self._places = Places(tenant)

    def newest(self, purpose: Purpose) -> SealingKey:
        """The one that seals from now on; made if there is none. Raises VaultFault where none may be made."""
        found = self._newest(purpose)
        if found is not None:
            return found
        self.make(purpose, FIRST)
        # read again: another transaction may have been first, and its key is the one that counts
        made = self._newest(purpose)
        if made is None:
            raise StoreFault("a tenant key was not stored")
        return made

    def named_in(self, purpose: Purpose, blob: bytes) -> SealingKey:
        """The tenant key that the blob names, and no other. Raises VaultFault."""
        version = self._places.version_named(purpose, blob)
        of = {"tenant": self._tenant, "purpose": purpose.value, "version": version}
        row = _OF_VERSION.one(self._conn, of)
        if row is None:
            name = self._places.tenant_key_id(purpose, version)
            raise VaultFault(f"a sealed value names a tenant key that is gone: {name}")
        return self._opened(purpose, version, row.root_id, row.blob)

    def make(self, purpose: Purpose, version: int) -> None:
        """A fresh key under the primary root key, unless that version is there already.

        Raises:
            VaultFault: the tenant's keys were shredded, or this process still has a root key that was replaced.
        """
        root = self._vault.root
        ended = set(self._conn.execute(_ENDED, {"tenant": self._tenant, "root": root.id, "all": ALL_KEYS}).scalars())
        if ALL_KEYS in ended:
            raise VaultFault("the keys of this tenant were shredded, it gets no new ones")
        if root.id in ended:
            raise VaultFault(f"the root key {root.id} was replaced, nothing is sealed under it any more")
        blob = self._vault.new_key(root, self._places.tenant_key(purpose, version))
        row = {"tenant": self._tenant, "purpose": purpose.value, "version": version, "root_id": root.id, "blob": blob}
        add(self._conn, tenant_key, row)

    def _newest(self, purpose: Purpose) -> SealingKey | None:
        row = _NEWEST.one(self._conn, {"tenant": self._tenant, "purpose": purpose.value})
        return None if row is None else self._opened(purpose, row.version, row.root_id, row.blob)

    def _opened(self, purpose: Purpose, version: int, root_id: str, blob: bytes) -> SealingKey:
        root = self._vault.root_of(root_id)
        key_id = self._places.tenant_key_id(purpose, version)
        return self._vault.opened(root, self._places.tenant_key(purpose, version), key_id, blob)
