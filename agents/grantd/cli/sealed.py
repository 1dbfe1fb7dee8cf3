"""A sealed credential: the file it lies in, what opens it, what its key signs (`grantd/break-glass/v1`).

The private half is made here and never sent. The file holds it under a passphrase of 125 random bits (scrypt,
ChaCha20-Poly1305); what else the file says is bound to it and cannot be changed.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

import asyncssh
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from grantd.enrolment import micros
from grantd.errors import Invalid
from grantd.records import pae

GLASS_NAMESPACE: Final = "grantd-break-glass@v1"
"""SSHSIG namespace of everything that a sealed key signs."""
_HEAD: Final = b"grantd/break-glass/v1"
_TEXTS: Final = ("tenant", "id", "person", "target", "login", "ceiling", "public_key")
_WORDS, _WORD_LETTERS, _RANDOM_BYTES = 5, 5, 16
_SALT_BYTES: Final = 16
_NONCE: Final = bytes(12)
"""The key is made of a salt of its own: it seals one file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What the file says of the credential, and the sealed key. All ids; the times in microseconds."""

    tenant: str
    id: str
    person: str
    target: str
    login: str
    ceiling: str
    public_key: str
    until_us: int
    salt: bytes
    box: bytes

    def render(self) -> bytes:
        """The file's bytes."""
        table: dict[str, object] = {"grantd_break_glass": 1, **{name: getattr(self, name) for name in _TEXTS}}
        table |= {"until_us": self.until_us, "salt": _text(self.salt), "sealed": _text(self.box)}
        return json.dumps(table, indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read a file. Raises Invalid."""
        try:
            table = json.loads(raw)
            if not isinstance(table, dict) or table.get("grantd_break_glass") != 1:
                raise Invalid("bad_break_glass", "this is not a sealed credential")
            texts = {name: str(table[name]) for name in _TEXTS}
            salt, box = (base64.b64decode(str(table[name]), validate=True) for name in ("salt", "sealed"))
            return cls(**texts, until_us=int(table["until_us"]), salt=salt, box=box)
        except (ValueError, KeyError, TypeError, binascii.Error) as broken:
            raise Invalid("bad_break_glass", "the sealed credential is damaged") from broken

    def open(self, passphrase: str) -> SealedKey:
        """The key. Raises Invalid for another passphrase, or a file that was changed."""
        try:
            raw = ChaCha20Poly1305(_derived(passphrase, self.salt)).decrypt(_NONCE, self.box, self._bound())
        except InvalidTag as wrong:
            message = "another passphrase, or the file was changed"
            raise Invalid("wrong_passphrase", message, "type it as it was printed") from wrong
        return SealedKey(Ed25519PrivateKey.from_private_bytes(raw))

    def _bound(self) -> bytes:
        return pae(_HEAD, *(str(getattr(self, name)).encode() for name in _TEXTS), b"%d" % self.until_us)


@dataclass(frozen=True, slots=True)
class SealedKey:
    """The private half, in memory."""

    key: Ed25519PrivateKey

    def sign(self, message: bytes) -> bytes:
        """An SSHSIG blob over it, in the one namespace that this key is for."""
        pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        made = asyncssh.import_private_key(pem)
        return asyncssh.create_sshsig(made, message, hash_name="sha512", namespace=GLASS_NAMESPACE, raw=True)


def seal(
    *, tenant: str, glass_id: str, person: str, target: str, login: str, ceiling: str, until: datetime
) -> tuple[Sealed, str]:  # fmt: skip
    """A fresh credential and the passphrase that opens it, which is nowhere else."""
    key, passphrase, salt = Ed25519PrivateKey.generate(), new_passphrase(), os.urandom(_SALT_BYTES)
    bare = Sealed(
        tenant=tenant, id=glass_id, person=person, target=target, login=login, ceiling=ceiling, public_key=_line(key),
        until_us=micros(until), salt=salt, box=b"",
    )  # fmt: skip
    box = ChaCha20Poly1305(_derived(passphrase, salt)).encrypt(_NONCE, key.private_bytes_raw(), bare._bound())  # noqa: SLF001  its own maker
    fields = {name: getattr(bare, name) for name in _TEXTS}
    return Sealed(**fields, until_us=bare.until_us, salt=salt, box=box), passphrase


def new_passphrase() -> str:
    """Five groups of five base32 letters: 125 bits."""
    letters = base64.b32encode(os.urandom(_RANDOM_BYTES)).decode().lower()
    return "-".join(letters[n * _WORD_LETTERS : (n + 1) * _WORD_LETTERS] for n in range(_WORDS))


def use_record(*, sealed: Sealed, request_id: str, now: datetime, chance: bytes) -> bytes:
    """What opens the credential, under an access request whose id the caller drew. `chance`: 12 random bytes."""
    nonce = (micros(now) // 1_000_000).to_bytes(4, "big") + chance
    texts = (sealed.tenant, sealed.id, sealed.person, request_id)
    return pae(_HEAD, *(text.encode() for text in texts), nonce)


def _line(key: Ed25519PrivateKey) -> str:
    kind, point = b"ssh-ed25519", key.public_key().public_bytes_raw()
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in (kind, point))
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


def _derived(passphrase: str, salt: bytes) -> bytes:
    plain = "".join(passphrase.split()).lower()
    return Scrypt(salt=salt, length=32, n=1 << 15, r=8, p=1).derive(plain.encode())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
