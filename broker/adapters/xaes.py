"""XAES-256-GCM as C2SP specifies it, and the memory that keys live in. Never draws a nonce.

Source: https://c2sp.org/XAES-256-GCM. A 192-bit nonce picks a fresh AES-256-GCM key, so random nonces are safe for
2^80 messages.
"""

from __future__ import annotations

import contextlib
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.core.errors import VaultFault
from broker.core.keymaterial import KEY_BYTES

NONCE_BYTES: Final = 24
TAG_BYTES: Final = 16
_BLOCK = 16
_HALF = 12


class Key:
    """32 bytes in a buffer that is zeroed when nobody holds the key any more. Never prints, compares or pickles.

    Zeroing reduces exposure; it is no promise that no copy was ever made (formats.md 3.3).
    """

    __slots__ = ("_bytes",)

    def __init__(self, material: bytearray) -> None:
        """Takes the buffer over: the caller keeps no other reference to it."""
        self._bytes = material
        if len(material) != KEY_BYTES:
            raise VaultFault("a key must have exactly 32 bytes")

    def reveal(self) -> bytearray:
        """The buffer itself, not a copy. Every call site is a place to review. Raises VaultFault after wipe()."""
        if not self._bytes:
            raise VaultFault("this key was wiped")
        return self._bytes

    def wipe(self) -> None:
        """Zeroes and empties the buffer; any later use raises instead of working with zeros."""
        zero(self._bytes)
        # still exported to a cipher: then it is zero already, and emptied with its last owner
        with contextlib.suppress(BufferError):
            self._bytes.clear()

    def __del__(self) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return "Key(***)"

    def __eq__(self, other: object) -> bool:
        raise TypeError("a Key does not compare")

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Key cannot be pickled or copied")


class Xaes:
    """The cipher of one key, with what depends on the key alone computed once. Safe for threads."""

    __slots__ = ("_ecb", "_key", "_subkey")

    def __init__(self, key: Key) -> None:
        self._key = key
        self._ecb = Cipher(algorithms.AES(key.reveal()), modes.ECB())  # noqa: S305  a block cipher call of CMAC, no mode
        self._subkey = _cmac_subkey(self._ecb.encryptor().update(bytes(_BLOCK)))

    def seal(self, nonce: bytes, plaintext: bytes | bytearray, aad: bytes) -> bytes:
        """Ciphertext and tag. `nonce` is 24 random bytes, never used before under this key."""
        with self._derived(nonce) as key:
            return AESGCM(key).encrypt(nonce[_HALF:], plaintext, aad)

    def open(self, nonce: bytes, sealed: bytes, aad: bytes) -> bytearray:
        """The plaintext, in a buffer that the caller can zero.

        Raises:
            VaultFault: not what was sealed under this key, nonce and aad.
        """
        opened = bytearray(max(0, len(sealed) - TAG_BYTES))
        try:
            with self._derived(nonce) as key:
                AESGCM(key).decrypt_into(nonce[_HALF:], sealed, aad, opened)
        except (InvalidTag, ValueError) as error:
            raise VaultFault("a sealed value is not what was sealed here") from error
        return opened

    def _derived(self, nonce: bytes) -> _Scratch:
        if len(nonce) != NONCE_BYTES:
            raise VaultFault("a nonce must have exactly 24 bytes")
        self._key.reveal()  # raises after wipe()
        half = nonce[:_HALF]
        blocks = _xor(b"\x00\x01X\x00" + half, self._subkey) + _xor(b"\x00\x02X\x00" + half, self._subkey)
        derived = bytearray(KEY_BYTES + _BLOCK - 1)  # update_into asks for a block's room more than it fills
        self._ecb.encryptor().update_into(blocks, derived)
        return _Scratch(derived)


class _Scratch:
    """A derived key for the time of one call."""

    __slots__ = ("_bytes",)

    def __init__(self, material: bytearray) -> None:
        self._bytes = material

    def __enter__(self) -> memoryview:
        return memoryview(self._bytes)[:KEY_BYTES]

    def __exit__(self, *_: object) -> None:
        zero(self._bytes)


def zero(buffer: bytearray) -> None:
    """Overwrites every byte in place."""
    buffer[:] = bytes(len(buffer))


def _cmac_subkey(block: bytes) -> bytes:
    """K1 of CMAC. Source: NIST SP 800-38B section 6.1."""
    doubled = int.from_bytes(block, "big") << 1
    if doubled >> 128:
        doubled ^= (1 << 128) | 0x87
    return doubled.to_bytes(_BLOCK, "big")


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(_BLOCK, "big")
