"""What each sealed value of a tenant is bound to (formats.md 3.1). A changed place makes what lies there unreadable."""

from __future__ import annotations

import re
from typing import Final

from broker.adapters.vault import Place, key_id_of
from broker.core.errors import VaultFault
from broker.core.ids import AuditId, RecordingId, TenantId
from broker.service.ports import Purpose

FIRST: Final = 1
_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}")


class Places:
    """The places of one tenant."""

    __slots__ = ("_tenant",)

    def __init__(self, tenant: TenantId) -> None:
        self._tenant = tenant

    def tenant_key_id(self, purpose: Purpose, version: int) -> str:
        """The id that stands in every blob which this key seals."""
        return f"{self._prefix(purpose)}_{version}"

    def version_named(self, purpose: Purpose, blob: bytes) -> int:
        """The version of the tenant key that `blob` names. Raises VaultFault where it names no such key."""
        prefix, _, version = key_id_of(blob).rpartition("_")
        if prefix != self._prefix(purpose) or not _VERSION.fullmatch(version):
            raise VaultFault("a sealed value names a key of another tenant or purpose")
        return int(version)

    def tenant_key(self, purpose: Purpose, version: int) -> Place:
        return Place(tenant=self._tenant, kind="tenant_key", id=purpose, field="key", version=version)

    def recording(self, recording: RecordingId, key_id: str) -> Place:
        return Place(tenant=self._tenant, kind="recording_key", id=recording, field=key_id, version=FIRST)

    def subject(self, subject: str, key_id: str) -> Place:
        return Place(tenant=self._tenant, kind="subject_key", id=subject, field=key_id, version=FIRST)

    def secret(self, name: str, version: int) -> Place:
        return Place(tenant=self._tenant, kind="secret", id=name, field="value", version=version)

    def disclosure(self, entry: AuditId, index: int) -> Place:
        return Place(tenant=self._tenant, kind="disclosure", id=entry, field=str(index), version=FIRST)

    def _prefix(self, purpose: Purpose) -> str:
        return f"tk_{self._tenant}_{purpose}"
