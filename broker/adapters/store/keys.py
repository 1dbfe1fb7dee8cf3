"""The keys of one tenant as rows: every one sealed by the key above it (formats.md 3.1), made when first needed.

Never stores or returns an unsealed key as a row, never opens one without reading its row in the same transaction.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, bindparam, delete, select

from broker.adapters.store.hot import Hot
from broker.adapters.store.places import FIRST, Places
from broker.adapters.store.rekeying import VaultRowsSql
from broker.adapters.store.schema import recording_key, secret, subject_key
from broker.adapters.store.statements import TenantRows, add, put
from broker.adapters.store.tenant_keys import TenantKeys
from broker.adapters.vault import SealingKey, Vault
from broker.adapters.xaes import zero
from broker.core.errors import StoreFault
from broker.core.ids import AuditId, RecordingId, TenantId
from broker.core.secret import Secret
from broker.service.ports import Purpose, RecordingKey, Sealed

T = TypeVar("T")

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
_DROP_SECRET: Final = delete(secret).where(secret.c.tenant == bindparam("ten"), secret.c.name == bindparam("what"))


class KeyRowsSql(TenantRows):
    """KeyRows over SQL, and the subject keys that seal what the audit log discloses."""

    __slots__ = ("_keys", "_places", "_sealing", "_vault")

    def __init__(self, conn: Connection, tenant: TenantId, vault: Vault) -> None:
        super().__init__(conn, tenant)
        self._vault = vault
        self._keys = TenantKeys(conn, tenant, vault)
        self._places = Places(tenant)
        self._sealing: dict[str, SealingKey] = {}
        """Subject keys that this unit has read: a command seals a dozen values of one subject."""

    # ---- recordings
    def new_recording_key(self, recording: RecordingId) -> RecordingKey:
        """As ports.KeyRows. Raises StoreFault if the recording has a key: a second one would orphan its frames."""
        key_id = _fresh_id("dek")
        wrapper = self.tenant_key(Purpose.RECORDINGS)
        blob = self._vault.new_key(wrapper, self._places.recording(recording, key_id))
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
        return self.use_secret(name, lambda value: Secret(bytes(value)))

    def use_secret(self, name: str, use: Callable[[bytearray], T]) -> T | None:
        row = self._secret_row(name)
        if row is None:
            return None
        wrapper = self._keys.named_in(Purpose.VAULT, row.blob)
        value = wrapper.open(self._places.secret(name, row.version), row.blob)
        try:
            return use(value)
        finally:
            zero(value)

    def put_secret(self, name: str, value: Secret[bytes]) -> Sealed:
        row = self._secret_row(name)
        return self.put_value(name, value.reveal(), version=FIRST if row is None else row.version + 1)

    def put_value(self, name: str, value: bytes | bytearray, *, version: int) -> Sealed:
        blob = self.tenant_key(Purpose.VAULT).seal(self._places.secret(name, version), value)
        put(self._conn, secret, {"tenant": self._tenant, "name": name, "version": version, "blob": blob})
        return Sealed(name=name, version=version, sha256=hashlib.sha256(blob).digest())

    def drop_secret(self, name: str) -> bool:
        return self._conn.execute(_DROP_SECRET, {"ten": self._tenant, "what": name}).rowcount == 1

    def _secret_row(self, name: str) -> Any | None:  # noqa: ANN401  a row
        return self._conn.execute(_SECRET, {"tenant": self._tenant, "name": name}).one_or_none()

    # ---- subjects
    def subject_key(self, subject: str) -> SealingKey:
        """The key whose deletion erases everything sealed for `subject` (I-35); made if there is none."""
        found = self._sealing.get(subject) or self._subject(subject)
        if found is not None:
            self._sealing[subject] = found
            return found
        key_id = _fresh_id("sk")
        blob = self._vault.new_key(self.tenant_key(Purpose.SUBJECTS), self._places.subject(subject, key_id))
        add(self._conn, subject_key, {"tenant": self._tenant, "subject": subject, "key_id": key_id, "blob": blob})
        # read again: another transaction may have been first, and its key is the one that counts
        made = self._subject(subject)
        if made is None:
            raise StoreFault("a subject's key was not stored")
        return made

    def seal_disclosure(self, subject: str, entry: AuditId, index: int, disclosure: bytes) -> bytes:
        """Disclosure number `index` of an audit entry, sealed under its subject's key and to that very place."""
        return self.subject_key(subject).seal(self._places.disclosure(entry, index), disclosure)

    def open_disclosure(self, subject: str, entry: AuditId, index: int, blob: bytes) -> bytes | None:
        """What seal_disclosure sealed; None once the subject's key is deleted.

        Raises:
            VaultFault: the key is there and the blob is not one of its at this place.
        """
        key = self._subject(subject)
        return None if key is None else _taken(key.open(self._places.disclosure(entry, index), blob))

    # ---- tenant keys
    @property
    def rekeying(self) -> VaultRowsSql:
        return VaultRowsSql(self._conn, self._tenant, self._vault)

    def tenant_key(self, purpose: Purpose) -> SealingKey:
        """The newest key of the tenant for `purpose`; made if there is none."""
        return self._keys.newest(purpose)

    def _recording(self, recording: RecordingId, key_id: str, blob: bytes) -> RecordingKey:
        wrapper = self._keys.named_in(Purpose.RECORDINGS, blob)
        opened = wrapper.open(self._places.recording(recording, key_id), blob)
        return RecordingKey(recording=recording, key_id=key_id, key=Secret(_taken(opened)))

    def _subject(self, subject: str) -> SealingKey | None:
        row = _SUBJECT.one(self._conn, {"tenant": self._tenant, "subject": subject})
        if row is None:
            return None
        wrapper = self._keys.named_in(Purpose.SUBJECTS, row.blob)
        return self._vault.opened(wrapper, self._places.subject(subject, row.key_id), row.key_id, row.blob)


def _taken(opened: bytearray) -> bytes:
    """The port's immutable bytes; the buffer they came in is zeroed."""
    value = bytes(opened)
    zero(opened)
    return value


def _fresh_id(prefix: str) -> str:
    return f"{prefix}_{os.urandom(8).hex()}"
