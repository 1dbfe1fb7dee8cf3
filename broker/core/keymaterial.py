"""Which 32 bytes may be a key: refuses short, constant, repeated, counted, typed, sample and published ones (I-54).

Never makes one. Each rule falls on a random key less than once in 10^13 draws.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from typing import Final

from broker.core.errors import Fault

KEY_BYTES = 32
_FEWEST_DISTINCT = 16  # 32 random bytes have fewer distinct values once in 3 * 10^16 draws
_WIDTHS: Final = (1, 2, 4, 8)
"""Bytes of a number, in a key that counts."""
_BLANKS: Final = frozenset(b"\t\n\r\0")
"""What stands around or behind a text that is not long enough."""
_SAMPLES: Final = (
    "", "0", "1", "admin", "changeit", "changeme", "default", "demo", "dev", "development", "example", "foo", "foobar",
    "grantd", "grantd-root", "hunter2", "insecure", "key", "letmein", "master", "passphrase", "password", "pass",
    "qwerty", "root", "root-key", "root.key", "rootkey", "sample", "secret", "test", "test-key", "testkey", "token",
    "vault", "123456", "12345678", "correct horse battery staple", "hello world", "hello",
)  # fmt: skip
"""Words that examples make a key of, by a hash."""
# keys that stand in documents: RFC 8032 section 7.1 (tests 1, 2, 3 and SHA(abc)), RFC 7748 section 6.1 (Bob's),
# RFC 9180 A.1, NIST SP 800-38A's AES-256 key; C2SP's XAES vectors are constant or counted and fall to the rules below
_PUBLISHED: Final = (
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
    "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
    "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
    "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
    "52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736",
    "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
    "4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8",
)


def _hashes(words: Iterable[str]) -> Iterable[bytes]:
    for word in words:
        for text in (word.encode(), word.encode() + b"\n"):
            yield from (hashlib.sha256(text).digest(), hashlib.sha3_256(text).digest())
            yield hashlib.blake2b(text, digest_size=KEY_BYTES).digest()


# kept as digests, so that this file holds no key that anybody could take for one
_REFUSED: Final = frozenset(
    hashlib.sha256(sample).digest() for sample in (*map(bytes.fromhex, _PUBLISHED), *_hashes(_SAMPLES))
)


class WeakKey(Fault):
    """A key that must not be used. The message never holds the key."""


def must_be_strong(key: bytes | bytearray) -> None:
    """Raises WeakKey unless `key` is 32 bytes that could have come from a random source."""
    if len(key) != KEY_BYTES:
        raise WeakKey(f"a key must have exactly {KEY_BYTES} bytes")
    if len(set(key)) < _FEWEST_DISTINCT or key[:16] == key[16:] or key[:16] == key[:15:-1]:
        raise WeakKey("a key must be random, this one repeats itself")
    if all(0x20 <= byte < 0x7F or byte in _BLANKS for byte in key):  # noqa: PLR2004  printable ASCII
        raise WeakKey("a key must be random, this one is text")
    if any(_counts(key, width) for width in _WIDTHS):
        raise WeakKey("a key must be random, this one counts")
    if hashlib.sha256(key).digest() in _REFUSED:
        raise WeakKey("this key is published as a sample")


def _counts(key: bytes | bytearray, width: int) -> bool:
    """Whether every number of `width` bytes is as far from the one before as all the others are."""
    for order in ("big", "little"):
        numbers = [int.from_bytes(key[at : at + width], order) for at in range(0, KEY_BYTES, width)]
        if len({(b - a) % (1 << 8 * width) for a, b in itertools.pairwise(numbers)}) == 1:
            return True
    return False
