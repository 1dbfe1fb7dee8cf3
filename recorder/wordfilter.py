"""Which words may stand in a recording: a Bloom filter under a key, sealed, so that a search skips what cannot match.

    file := magic | salt[24] | ciphertext | tag[16]            plaintext := bits

12 bits a word and 8 probes: about 1 recording in 300 is looked into for nothing. A probe is HMAC-SHA-256 under the
tenant's search key, so equal words of two tenants share nothing. Sealed with AES-256-GCM under a key that only the
recording's data key gives (HKDF-Expand with a fresh salt, hence one message a key): deleting the data key shreds the
filter too. Its size tells how many words there are, and nothing else is clear.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable
from itertools import islice
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from recorder.errors import RecordingInvalid

MAGIC: Final = b"\x89GRWF1\r\n"
SALT_BYTES: Final = 24
MAX_WORDS: Final = 1_000_000
"""A recording with more has a filter that lets everything through."""
_AT_ONCE: Final = 10_000
_BITS_A_WORD: Final = 12
_PROBES: Final = 8
_MAX_BYTES: Final = MAX_WORDS * _BITS_A_WORD // 8 + 1
_WORDS: Final = struct.Struct(f">{_PROBES}I")
_LABEL: Final = b"grantd/rec/words/v1\0"
_NONCE: Final = bytes(12)  # each key seals one message


class WordFilter:
    """The filter of one recording, opened."""

    __slots__ = ("bits",)

    def __init__(self, bits: bytes) -> None:
        self.bits = bits

    @classmethod
    def of(cls, words: Iterable[str], search_key: bytes) -> WordFilter:
        """Holds these words."""
        known, coming = set[str](), iter(words)
        while some := set(islice(coming, _AT_ONCE)):
            known |= some
            if len(known) > MAX_WORDS:
                return cls(b"\xff")
        bits = bytearray(max(1, len(known) * _BITS_A_WORD // 8 + 1))
        for word in known:
            for place in _places(word, search_key, len(bits) * 8):
                bits[place >> 3] |= 1 << (place & 7)
        return cls(bytes(bits))

    def may_hold(self, words: Iterable[str], search_key: bytes) -> bool:
        """False: one of these words is not in the recording. True proves nothing."""
        size = len(self.bits) * 8
        return all(
            self.bits[place >> 3] >> (place & 7) & 1 for word in words for place in _places(word, search_key, size)
        )

    def seal(self, *, dek: bytes | bytearray, bound_to: bytes, salt: bytes) -> bytes:
        """The file. `bound_to` names the recording, `salt` is fresh."""
        head = MAGIC + salt
        return head + _cipher(dek, salt, bound_to).encrypt(_NONCE, self.bits, head + bound_to)

    @classmethod
    def open(cls, file: bytes, *, dek: bytes | bytearray, bound_to: bytes) -> WordFilter:
        """What `seal` made. Raises RecordingInvalid for anything else."""
        size = len(MAGIC) + SALT_BYTES
        head, sealed = file[:size], file[size:]
        if not head.startswith(MAGIC) or len(head) != size or len(sealed) > _MAX_BYTES + 16:
            raise RecordingInvalid("not a filter of words")
        try:
            return cls(_cipher(dek, head[len(MAGIC) :], bound_to).decrypt(_NONCE, sealed, head + bound_to))
        except InvalidTag as error:
            raise RecordingInvalid("a filter of words that is not this recording's") from error


def _places(word: str, search_key: bytes, size: int) -> list[int]:
    digest = hmac.digest(search_key, word.encode(), "sha256")
    return [place % size for place in _WORDS.unpack(digest)]


def _cipher(dek: bytes | bytearray, salt: bytes, bound_to: bytes) -> AESGCM:
    info = _LABEL + salt + hashlib.sha256(bound_to).digest()
    return AESGCM(HKDFExpand(algorithm=SHA512(), length=32, info=info).derive(bytes(dek)))
