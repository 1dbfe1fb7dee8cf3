"""No sample, constant or short key is ever used (I-54)."""

from __future__ import annotations

import hashlib
import os

import pytest

from broker.core.keymaterial import WeakKey, must_be_strong

RANDOM = hashlib.sha512(b"as good as random").digest()  # fixed: a test's name must be the same in every worker


@pytest.mark.parametrize(
    "key",
    [
        b"",
        bytes(32),
        b"\xff" * 32,
        b"changeme" * 4,
        bytes(range(32)),
        bytes(range(64, 96)),
        bytes(range(31, -1, -1)),
        bytes(n * 7 % 256 for n in range(32)),
        bytes(range(15)) * 2 + bytes(2),
        RANDOM[:31],
        RANDOM[:33],
        RANDOM[:8] * 4,
        RANDOM[:16] * 2,
        b"correct horse battery staple! 42",
        b"0123456789abcdef0123456789abcdef",
        bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"),
    ],
)
def test_weak_keys_are_refused(key: bytes) -> None:
    """Short, long, constant, repeated, counted and published keys; the message never shows one."""
    with pytest.raises(WeakKey) as refused:
        must_be_strong(key)
    assert len(key) < 8 or (key.hex() not in str(refused.value) and repr(key) not in str(refused.value))


def test_random_keys_pass() -> None:
    """A key from the operating system is never refused."""
    for _ in range(2_000):
        must_be_strong(bytearray(os.urandom(32)))
