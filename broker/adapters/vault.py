"""Sealing values to the row they lie in (formats.md 3.1, I-50). Never tries a second key: the id in the blob names one.

Blob: `01 | 01 (XAES-256-GCM) | u16 length | key id | nonce[24] | ciphertext | tag[16]`.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

import structlog

from broker.adapters.xaes import NONCE_BYTES, TAG_BYTES, Key, Xaes
from broker.core.errors import Fault, VaultFault
from broker.core.keymaterial import KEY_BYTES
from broker.core.records import pae

DOMAIN: Final = b"grantd/vault/v1"
MAX_OPENED_KEYS: Final = 4_096
"""Keys kept open in one process; the least used is forgotten first."""
LOOK_AGAIN_S: Final = 0.5
"""Between two looks for a root key that a row names and this process does not know."""
_HEAD: Final = b"\x01\x01"
_FIXED_BYTES = len(_HEAD) + 2 + NONCE_BYTES + TAG_BYTES
_MAX_ID = 255

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a sealed value lies. Moved to any other place, it does not open."""

    tenant: str
    kind: str
    id: str
    field: str
    version: int

    def aad(self, key_id: str) -> bytes:
        """What the seal binds besides the value."""
        texts = (self.tenant, self.kind, self.id, self.field, str(self.version), key_id)
        return pae([DOMAIN, *(text.encode() for text in texts)])


class SealingKey:
    """An opened key with its id: seals values to places and opens them there. Safe for threads."""

    __slots__ = ("_cipher", "id", "key")

    def __init__(self, key_id: str, key: Key) -> None:
        if not 0 < len(key_id.encode()) <= _MAX_ID:
            raise VaultFault("a key id must have 1 to 255 bytes")
        self.id = key_id
        self.key = key
        self._cipher = Xaes(key)

    def __repr__(self) -> str:
        return f"SealingKey({self.id})"

    def seal(self, place: Place, plaintext: bytes | bytearray) -> bytes:
        """The blob for `place`, under a fresh random nonce."""
        return self.seal_with(place, plaintext, nonce=os.urandom(NONCE_BYTES))

    def seal_with(self, place: Place, plaintext: bytes | bytearray, *, nonce: bytes) -> bytes:
        """As seal, under a nonce of the caller's: for published vectors alone."""
        return head_naming(self.id) + nonce + self._cipher.seal(nonce, plaintext, place.aad(self.id))

    def open(self, place: Place, blob: bytes) -> bytearray:
        """What was sealed for `place`, in a buffer to zero after use.

        Raises:
            VaultFault: another key's, another place's, or damaged.
        """
        if key_id_of(blob) != self.id:
            raise VaultFault("a sealed value names another key")
        body = blob[len(_HEAD) + 2 + len(self.id.encode()) :]
        return self._cipher.open(body[:NONCE_BYTES], body[NONCE_BYTES:], place.aad(self.id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """The root keys that this process can read. One of them wraps, the others only open."""

    primary: SealingKey
    previous: tuple[SealingKey, ...]
    """Replaced: what they still wrap is moved to the primary one."""
    coming: tuple[SealingKey, ...]
    """Not in force yet: readable already, so that whoever makes it primary first locks nobody out."""

    @classmethod
    def only(cls, primary: SealingKey) -> Self:
        """The usual case."""
        return cls(primary=primary, previous=(), coming=())

    def of_id(self, root_id: str) -> SealingKey | None:
        """By exact id."""
        return next((root for root in (self.primary, *self.previous, *self.coming) if root.id == root_id), None)


class Vault:
    """The root keys, and what this process has opened under them.

    An opened key is remembered by its place and its exact blob: whoever asks must have read the row just now, so a key
    whose transaction rolled back, or whose row was deleted, is never used from memory.
    """

    __slots__ = ("_asked", "_lock", "_opened", "_read", "_roots")

    def __init__(self, root: SealingKey | Roots, *, read: Callable[[], Roots] | None = None) -> None:
        """`read` gives the root keys as they lie in their places now: they are looked at again while this runs."""
        self._roots = root if isinstance(root, Roots) else Roots.only(root)
        self._read = read
        self._asked: float | None = None
        self._opened: OrderedDict[tuple[Place, str, bytes], SealingKey] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def root(self) -> SealingKey:
        """Wraps tenant keys and nothing else."""
        return self._roots.primary

    @property
    def roots(self) -> Roots:
        """All that can be read."""
        return self._roots

    def root_of(self, root_id: str) -> SealingKey:
        """The root key of exactly this id; its places are looked at again before it is said to be missing.

        Raises:
            VaultFault: there is none. Names it, and tries no other.
        """
        found = self._roots.of_id(root_id)
        if found is None and self._may_look_again():
            self.look_again()
            found = self._roots.of_id(root_id)
        if found is None:
            raise VaultFault(f"a tenant key was wrapped by {root_id}, the configured root key is {self.root.id}")
        return found

    def look_again(self) -> None:
        """Takes the root keys from their places once more. What cannot be read now changes nothing."""
        if self._read is None:
            return
        try:
            found = self._read()
        except Fault as fault:
            log.warning("vault.root_keys_unreadable", cause=fault.what)
            return
        if found.primary.id != self.root.id:
            log.info("vault.root_key_changed", root=found.primary.id, before=self.root.id)
        self._roots = found

    def _may_look_again(self) -> bool:
        """Not for every row that names a strange key."""
        now = time.monotonic()
        with self._lock:
            if self._asked is not None and now - self._asked < LOOK_AGAIN_S:
                return False
            self._asked = now
            return True

    def new_key(self, wrapper: SealingKey, place: Place) -> bytes:
        """A fresh random key, sealed for `place`; open it with `opened`."""
        material = Key(bytearray(os.urandom(KEY_BYTES)))
        return wrapper.seal(place, material.reveal())

    def opened(self, wrapper: SealingKey, place: Place, key_id: str, blob: bytes) -> SealingKey:
        """The key that `blob` holds, as `key_id`. Raises VaultFault."""
        known = (place, key_id, blob)
        with self._lock:
            found = self._opened.get(known)
            if found is not None:
                self._opened.move_to_end(known)
                return found
        opened = SealingKey(key_id, Key(wrapper.open(place, blob)))
        with self._lock:
            self._opened[known] = opened
            # forgotten, not wiped: another thread may be sealing with it; the last reference zeroes it
            if len(self._opened) > MAX_OPENED_KEYS:
                self._opened.popitem(last=False)
        return opened


def key_id_of(blob: bytes) -> str:
    """The id of the one key that opens `blob`. Raises VaultFault for what is no blob."""
    size = int.from_bytes(blob[2:4], "big")
    if blob[:2] != _HEAD or not 0 < size <= _MAX_ID or len(blob) < _FIXED_BYTES + size:
        raise VaultFault("not a sealed value of this vault")
    try:
        return blob[4 : 4 + size].decode()
    except UnicodeDecodeError as error:
        raise VaultFault("not a sealed value of this vault") from error


def head_naming(key_id: str) -> bytes:
    """The first bytes of every blob that this key seals."""
    name = key_id.encode()
    return _HEAD + len(name).to_bytes(2, "big") + name
