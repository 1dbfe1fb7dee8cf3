"""Which 32 bytes may be a key: refuses short, constant, counted, typed and published ones (I-54). Never makes one."""

from __future__ import annotations

import hashlib
import itertools

from broker.core.errors import Fault

KEY_BYTES = 32
_FEWEST_DISTINCT = 16  # 32 random bytes have fewer distinct values once in 3 * 10^16 draws
# SHA-256 of keys that stand in documents: RFC 8032 section 7.1 (tests 1, 2, 3 and SHA(abc)), C2SP's XAES vectors are
# constant or counted and fall to the rules above.
_PUBLISHED = frozenset(
    hashlib.sha256(bytes.fromhex(sample)).digest()
    for sample in (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
    )
)


class WeakKey(Fault):
    """A key that must not be used. The message never holds the key."""


def must_be_strong(key: bytes | bytearray) -> None:
    """Raises WeakKey unless `key` is 32 bytes that could have come from a random source."""
    if len(key) != KEY_BYTES:
        raise WeakKey(f"a key must have exactly {KEY_BYTES} bytes")
    if len(set(key)) < _FEWEST_DISTINCT:
        raise WeakKey("a key must be random, this one repeats itself")
    if key[:16] == key[16:]:
        raise WeakKey("a key must be random, this one repeats itself")
    if all(0x20 <= byte < 0x7F for byte in key):  # noqa: PLR2004  printable ASCII: once in 7 * 10^13 draws
        raise WeakKey("a key must be random, this one is text")
    if len({(b - a) % 256 for a, b in itertools.pairwise(key)}) == 1:
        raise WeakKey("a key must be random, this one counts")
    if hashlib.sha256(key).digest() in _PUBLISHED:
        raise WeakKey("this key is published as a sample")
