"""HPKE into and out of buffers: the library's own, both ways, and the same text in the broker and in the SDK."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

import grantd.hpke
from broker.core import hpke as ours
from broker.core.hpke import HpkeError, open_into, seal

SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
KEY = X25519PrivateKey.from_private_bytes(bytes(range(32)))


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_the_library_and_we_open_each_other(value: bytes, info: bytes) -> None:
    """RFC 9180 as `cryptography` has it: whoever has any HPKE library can check a secret out."""
    public = KEY.public_key()
    assert open_into(KEY, SUITE.encrypt(value, public, info=info), info) == value
    assert SUITE.decrypt(seal(public.public_bytes_raw(), bytearray(value), info), KEY, info=info) == value


def test_another_purpose_key_or_byte_does_not_open() -> None:
    """What it is bound to counts as much as the key."""
    sealed = seal(KEY.public_key().public_bytes_raw(), bytearray(b"value"), b"info")
    other = X25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
    for key, blob, info in (
        (KEY, sealed, b"inf0"),
        (other, sealed, b"info"),
        *((KEY, sealed[:n] + bytes([sealed[n] ^ 1]) + sealed[n + 1 :], b"info") for n in range(len(sealed))),
        *((KEY, sealed[:n], b"info") for n in range(len(sealed))),
    ):
        if blob[:31] == sealed[:31] and blob[31:32] != sealed[31:32] and blob[32:] == sealed[32:]:
            continue  # X25519 ignores the top bit alone; any other bit of that byte is in the loop above
        with pytest.raises(HpkeError):
            open_into(key, blob, info)


@pytest.mark.parametrize("point", [bytes(32), (1).to_bytes(32, "little"), b"", bytes(31), bytes(33)])
def test_a_key_that_is_none_is_refused(point: bytes) -> None:
    """A point of small order would make a secret that everybody knows."""
    with pytest.raises(HpkeError):
        seal(point, bytearray(b"value"), b"")


def test_both_copies_are_one_text() -> None:
    """The SDK may not import the broker, nor the broker's core the SDK; a change of one is a change of both."""
    assert Path(str(ours.__file__)).read_bytes() == Path(str(grantd.hpke.__file__)).read_bytes()
