"""HPKE (RFC 9180), base mode, for values that never become immutable objects: sealed from a buffer, opened into one.

DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM; single shot, empty AAD: what a value is bound to is its info.
`cryptography` has HPKE too and is what seals; its decrypt returns bytes, which nobody can zero, so opening is here.
"""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
"""Of an X25519 key, and of the encapsulated one in front of a ciphertext."""
TAG_BYTES: Final = 16
_SUITE: Final = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
_KEM_ID: Final = b"KEM" + (0x20).to_bytes(2, "big")
_SUITE_ID: Final = b"HPKE" + b"".join(number.to_bytes(2, "big") for number in (0x20, 0x01, 0x02))
_BASE: Final = b"\x00"


class HpkeError(Exception):
    """Not what was sealed to this key for this purpose."""


def seal(public_key: bytes, value: bytearray, info: bytes) -> bytes:
    """Encapsulated key, then ciphertext and tag. Raises HpkeError for a key that is none."""
    try:
        return _SUITE.encrypt(value, X25519PublicKey.from_public_bytes(public_key), info=info)
    except ValueError as error:  # also: a point whose shared secret is zero
        raise HpkeError from error


def open_into(private_key: X25519PrivateKey, sealed: bytes, info: bytes) -> bytearray:
    """The value, in a buffer to zero after use. Source: RFC 9180 sections 4.1, 5.1 and 5.2. Raises HpkeError."""
    enc, ciphertext = sealed[:KEY_BYTES], sealed[KEY_BYTES:]
    if len(ciphertext) < TAG_BYTES:
        raise HpkeError
    opened = bytearray(len(ciphertext) - TAG_BYTES)
    try:
        shared = private_key.exchange(X25519PublicKey.from_public_bytes(enc))
        key, nonce = _schedule(_shared_secret(shared, enc, private_key.public_key().public_bytes_raw()), info)
        AESGCM(key).decrypt_into(nonce, ciphertext, None, opened)
    except (InvalidTag, ValueError) as error:
        raise HpkeError from error
    return opened


def _shared_secret(shared: bytes, enc: bytes, own: bytes) -> bytes:
    """ExtractAndExpand of DHKEM."""
    prk = _extract(_KEM_ID, b"", b"eae_prk", shared)
    return _expand(_KEM_ID, prk, b"shared_secret", enc + own, KEY_BYTES)


def _schedule(shared_secret: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Key and first nonce of the base mode."""
    context = _BASE + _extract(_SUITE_ID, b"", b"psk_id_hash", b"") + _extract(_SUITE_ID, b"", b"info_hash", info)
    secret = _extract(_SUITE_ID, shared_secret, b"secret", b"")
    return _expand(_SUITE_ID, secret, b"key", context, 32), _expand(_SUITE_ID, secret, b"base_nonce", context, 12)


def _extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    """LabeledExtract; an empty salt is as many zeros as HMAC pads with anyway."""
    return hmac.digest(salt, b"HPKE-v1" + suite + label + material, "sha256")


def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
    """LabeledExpand, for at most one block."""
    text = size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, text + b"\x01", "sha256")[:size]
