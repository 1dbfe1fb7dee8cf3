"""The keys of one tenant as rows: every one sealed by the key above it (formats.md 3.1), made when first needed.

Never stores or returns an unsealed key as a row, never opens one without reading its row in the same transaction.
"""

from __future__ import annotations

import os
import re
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, bindparam, select

from broker.adapters.store.hot import Hot
from broker.adapters.store.schema import recording_key, secret, subject_key, tenant_key
from broker.adapters.store.statements import TenantRows, add, put
from broker.adapters.vault import Place, SealingKey, Vault, key_id_of
from broker.adapters.xaes import zero
from broker.core.errors import StoreFault, VaultFault
from broker.core.ids import AuditId, RecordingId, TenantId
from broker.core.secret import Secret
from broker.service.ports import RecordingKey

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
_RECORDING: Final = select(recording_key.c.key_id, recording_key.c.blob).where(
    recording_key.c.tenant == bindparam("tenant"), recording_key.c.recording == bindparam("recording")
)
_SUBJECT: Final = Hot(
    select(subject_key.c.key_id, subject_key.c.blob).where(
        subject_key.c.tenant == bindparam("tenant"), subject_key.c.subject == bindparam("subject")
    )
)
_SECRET: Final = select(secret.c.version, secret.c.blob).where(
    secret.c.tenant == bindparam("tenant"), secret.c.name == bindparam("name")
)
_FIRST = 1
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


class Purpose(StrEnum):
    """What a tenant key is for; one is never used in another's place."""

    VAULT = "vault"
    RECORDINGS = "recordings"
    SUBJECTS = "subjects"
    SEARCH = "search"
    HMAC = "hmac"


class KeyRowsSql(TenantRows):
    """KeyRows over SQL, and the subject keys that seal what the audit log discloses."""

    __slots__ = ("_sealing", "_vault")

    def __init__(self, conn: Connection, tenant: TenantId, vault: Vault) -> None:
        super().__init__(conn, tenant)
        self._vault = vault
        self._sealing: dict[str, SealingKey] = {}
        """Subject keys that this unit has read: a command seals a dozen values of one subject."""

    # ---- recordings
    def new_recording_key(self, recording: RecordingId) -> RecordingKey:
        """As ports.KeyRows. Raises StoreFault if the recording has a key: a second one would orphan its frames."""
        key_id = _fresh_id("dek")
        wrapper = self.tenant_key(Purpose.RECORDINGS)
        blob = self._vault.new_key(wrapper, self._recording_place(recording, key_id))
        row = {"tenant": self._tenant, "recording": recording, "key_id": key_id, "blob": blob}
        if not add(self._conn, recording_key, row):
            raise StoreFault("the recording has a key already")
        return self._recording(recording, key_id, blob)

    def recording_key(self, recording: RecordingId) -> RecordingKey | None:
        row = self._conn.execute(_RECORDING, {"tenant": self._tenant, "recording": recording}).one_or_none()
        return None if row is None else self._recording(recording, row.key_id, row.blob)

    def search_key(self) -> Secret[bytes]:
        return Secret(bytes(self.tenant_key(Purpose.SEARCH).key.reveal()))

    # ---- secrets
    def secret(self, name: str) -> Secret[bytes] | None:
        row = self._conn.execute(_SECRET, {"tenant": self._tenant, "name": name}).one_or_none()
        if row is None:
            return None
        wrapper = self._key_of(Purpose.VAULT, row.blob)
        return Secret(_taken(wrapper.open(self._secret_place(name, row.version), row.blob)))

    def put_secret(self, name: str, value: Secret[bytes]) -> None:
        """As ports.KeyRows; each value has its own version, which its seal binds."""
        row = self._conn.execute(_SECRET, {"tenant": self._tenant, "name": name}).one_or_none()
        version = _FIRST if row is None else row.version + 1
        blob = self.tenant_key(Purpose.VAULT).seal(self._secret_place(name, version), value.reveal())
        put(self._conn, secret, {"tenant": self._tenant, "name": name, "version": version, "blob": blob})

    # ---- subjects
    def subject_key(self, subject: str) -> SealingKey:
        """The key whose deletion erases everything sealed for `subject` (I-35); made if there is none."""
        found = self._sealing.get(subject) or self._subject(subject)
        if found is not None:
            self._sealing[subject] = found
            return found
        key_id = _fresh_id("sk")
        blob = self._vault.new_key(self.tenant_key(Purpose.SUBJECTS), self._subject_place(subject, key_id))
        add(self._conn, subject_key, {"tenant": self._tenant, "subject": subject, "key_id": key_id, "blob": blob})
        # read again: another transaction may have been first, and its key is the one that counts
        made = self._subject(subject)
        if made is None:
            raise StoreFault("a subject's key was not stored")
        return made

    def seal_disclosure(self, subject: str, entry: AuditId, index: int, disclosure: bytes) -> bytes:
        """Disclosure number `index` of an audit entry, sealed under its subject's key and to that very place."""
        return self.subject_key(subject).seal(self._disclosure_place(entry, index), disclosure)

    def open_disclosure(self, subject: str, entry: AuditId, index: int, blob: bytes) -> bytes | None:
        """What seal_disclosure sealed; None once the subject's key is deleted.

        Raises:
            VaultFault: the key is there and the blob is not one of its at this place.
        """
        key = self._subject(subject)
        return None if key is None else _taken(key.open(self._disclosure_place(entry, index), blob))

    # ---- tenant keys
    def tenant_key(self, purpose: Purpose) -> SealingKey:
        """The newest key of the tenant for `purpose`; made if there is none."""
        newest = self._newest(purpose)
        if newest is not None:
            return newest
        blob = self._vault.new_key(self._vault.root, self._tenant_place(purpose, _FIRST))
        root_id = self._vault.root.id
        row = {"tenant": self._tenant, "purpose": purpose.value, "version": _FIRST, "root_id": root_id, "blob": blob}
        add(self._conn, tenant_key, row)
        made = self._newest(purpose)
        if made is None:
            raise StoreFault("a tenant key was not stored")
        return made

    def _newest(self, purpose: Purpose) -> SealingKey | None:
        row = _NEWEST.one(self._conn, {"tenant": self._tenant, "purpose": purpose.value})
        return None if row is None else self._opened(purpose, row.version, row.root_id, row.blob)

    def _key_of(self, purpose: Purpose, blob: bytes) -> SealingKey:
        """The tenant key that the blob names, and no other."""
        prefix, _, version = key_id_of(blob).rpartition("_")
        if prefix != self._tenant_key_prefix(purpose) or not _VERSION.fullmatch(version):
            raise VaultFault("a sealed value names a key of another tenant or purpose")
        of = {"tenant": self._tenant, "purpose": purpose.value, "version": int(version)}
        row = _OF_VERSION.one(self._conn, of)
        if row is None:
            raise VaultFault("a sealed value names a tenant key that is gone")
        return self._opened(purpose, int(version), row.root_id, row.blob)

    def _opened(self, purpose: Purpose, version: int, root_id: str, blob: bytes) -> SealingKey:
        if root_id != self._vault.root.id:
            raise VaultFault(f"a tenant key was wrapped by {root_id}, the configured root key is {self._vault.root.id}")
        key_id = f"{self._tenant_key_prefix(purpose)}_{version}"
        return self._vault.opened(self._vault.root, self._tenant_place(purpose, version), key_id, blob)

    def _recording(self, recording: RecordingId, key_id: str, blob: bytes) -> RecordingKey:
        wrapper = self._key_of(Purpose.RECORDINGS, blob)
        opened = wrapper.open(self._recording_place(recording, key_id), blob)
        return RecordingKey(recording=recording, key_id=key_id, key=Secret(_taken(opened)))

    def _subject(self, subject: str) -> SealingKey | None:
        row = _SUBJECT.one(self._conn, {"tenant": self._tenant, "subject": subject})
        if row is None:
            return None
        wrapper = self._key_of(Purpose.SUBJECTS, row.blob)
        return self._vault.opened(wrapper, self._subject_place(subject, row.key_id), row.key_id, row.blob)

    # ---- places: what each blob is bound to
    def _tenant_key_prefix(self, purpose: Purpose) -> str:
        return f"tk_{self._tenant}_{purpose}"

    def _tenant_place(self, purpose: Purpose, version: int) -> Place:
        return Place(tenant=self._tenant, kind="tenant_key", id=purpose, field="key", version=version)

    def _recording_place(self, recording: RecordingId, key_id: str) -> Place:
        return Place(tenant=self._tenant, kind="recording_key", id=recording, field=key_id, version=_FIRST)

    def _subject_place(self, subject: str, key_id: str) -> Place:
        return Place(tenant=self._tenant, kind="subject_key", id=subject, field=key_id, version=_FIRST)

    def _secret_place(self, name: str, version: int) -> Place:
        return Place(tenant=self._tenant, kind="secret", id=name, field="value", version=version)

    def _disclosure_place(self, entry: AuditId, index: int) -> Place:
        return Place(tenant=self._tenant, kind="disclosure", id=entry, field=str(index), version=_FIRST)


def _taken(opened: bytearray) -> bytes:
    """The port's immutable bytes; the buffer they came in is zeroed."""
    value = bytes(opened)
    zero(opened)
    return value


def _fresh_id(prefix: str) -> str:
    return f"{prefix}_{os.urandom(8).hex()}"
