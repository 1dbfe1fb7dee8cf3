"""AES-GCM for packets (RFC 5647): one cipher object a key, one counter a direction.

Stands in for asyncssh's own object, which must not be used any more once this was made of it: two users of one key
would use a nonce twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from asyncssh.encryption import Encryption, GCMEncryption
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TAG: Final = 16
LENGTH: Final = 4
"""Bytes of a packet's length field, which is authenticated and not encrypted."""
_FIXED: Final = 4
_COUNTER: Final = 8
_WRAP: Final = (1 << (8 * _COUNTER)) - 1


class Gcm(Encryption):
    """One direction of one connection, between two key exchanges."""

    __slots__ = ("_aes", "_counter", "_fixed", "opened")

    def __init__(self, key: bytes, iv: bytes) -> None:
        self._aes = AESGCM(key)
        self._fixed, self._counter = iv[:_FIXED], int.from_bytes(iv[_FIXED:], "big")
        self.opened: bytes | None = None
        """The next packet, if it was opened already: asyncssh's own code is about to ask for it."""

    def _nonce(self) -> bytes:
        nonce = self._fixed + self._counter.to_bytes(_COUNTER, "big")
        self._counter = (self._counter + 1) & _WRAP
        return nonce

    def seal(self, packets: Sequence[bytes]) -> bytes:
        """The packets as they go over the wire, one behind the other: length, ciphertext, tag."""
        wire = bytearray(sum(map(len, packets)) + (LENGTH + TAG) * len(packets))
        view, at = memoryview(wire), 0
        for packet in packets:
            length, start = len(packet).to_bytes(LENGTH, "big"), at + LENGTH
            at = start + len(packet) + TAG
            wire[start - LENGTH : start] = length
            self._aes.encrypt_into(self._nonce(), packet, length, view[start:at])
        return cast("bytes", wire)  # as good as bytes to every transport, and not copied to become them

    def open(self, length: bytes, sealed: bytes | memoryview) -> bytes | None:
        """The packet; None where the tag is not that of these bytes."""
        try:
            return self._aes.decrypt(self._nonce(), sealed, length)
        except InvalidTag:
            return None

    # ---- as asyncssh's own code asks ---------------------------------------------------------------------------------
    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:
        """See Encryption."""
        sealed = self._aes.encrypt(self._nonce(), packet, header)
        return header + sealed[:-TAG], sealed[-TAG:]

    def decrypt_header(self, seq: int, first_block: bytes, header_len: int) -> tuple[bytes, bytes]:
        """See Encryption."""
        return first_block, first_block[:header_len]

    def decrypt_packet(self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes) -> bytes | None:
        """See Encryption."""
        opened, self.opened = self.opened, None
        return self.open(first[:header_len], first[header_len:] + rest + mac) if opened is None else opened


def gcm_of(encryption: Encryption | None) -> Encryption | None:
    """The same key and counter for the quicker way; whatever is not AES-GCM stays as it is."""
    if type(encryption) is not GCMEncryption:
        return encryption
    cipher = encryption._cipher  # noqa: SLF001
    return Gcm(cipher._key, cipher._iv)  # noqa: SLF001
