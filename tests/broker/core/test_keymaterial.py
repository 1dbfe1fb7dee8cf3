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
        b"secret-secret-secret-secret-42\r\n",
        b"a passphrase of 31 characters.\0\0",
        b"".join(n.to_bytes(2, "big") for n in range(0x1000, 0x1010)),
        b"".join(n.to_bytes(4, "little") for n in range(0x10203040, 0x10203040 + 8 * 0x01010101, 0x01010101)),
        b"".join(
            n.to_bytes(8, "big") for n in range(0x0102030405060708, 0x0102030405060708 + 4 * 7_777_777, 7_777_777)
        ),
        RANDOM[:16] + RANDOM[15::-1],
        hashlib.sha256(b"changeme").digest(),
        hashlib.sha256(b"password\n").digest(),
        hashlib.sha3_256(b"grantd").digest(),
        hashlib.blake2b(b"secret", digest_size=32).digest(),
        bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"),
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
