"""XAES-256-GCM is C2SP's, and a key leaves no more of itself behind than it must (I-50, I-36)."""

from __future__ import annotations

import copy
import gc
import hashlib
import json
import os
import pickle
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.xaes import Key, Xaes
from broker.core.errors import VaultFault

VECTORS: dict[str, str] = json.loads((Path(__file__).parents[2] / "vectors" / "vault.json").read_text())
NONCE = bytes.fromhex(VECTORS["xaes.nonce"])


@pytest.mark.parametrize("name", ["msb0", "msb1"])
def test_the_published_vectors(name: str) -> None:
    """Both single vectors of C2SP, one for each value of the bit that CMAC's doubling looks at."""
    cipher = Xaes(Key(bytearray.fromhex(VECTORS[f"xaes.{name}.key"])))
    aad = bytes.fromhex(VECTORS[f"xaes.{name}.aad"])
    sealed = cipher.seal(NONCE, bytes.fromhex(VECTORS["xaes.plaintext"]), aad)
    assert sealed.hex() == VECTORS[f"xaes.{name}.sealed"]
    assert cipher.open(NONCE, sealed, aad).hex() == VECTORS["xaes.plaintext"]


def test_the_accumulated_vector() -> None:
    """C2SP's 10 000 random keys, nonces, texts and AADs, hashed into one."""
    stream, at = hashlib.shake_128().digest(4_000_000), 0
    ciphertexts = hashlib.shake_128()

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        return stream[at - size : at]

    for _ in range(10_000):
        key, nonce = bytearray(take(32)), take(24)
        plaintext = take(take(1)[0])
        aad = take(take(1)[0])
        ciphertexts.update(Xaes(Key(key)).seal(nonce, plaintext, aad))
    assert ciphertexts.hexdigest(32) == VECTORS["xaes.accumulated_10000"]


@given(key=st.binary(min_size=32, max_size=32), nonce=st.binary(min_size=24, max_size=24), text=st.binary(max_size=99))
def test_what_was_sealed_opens(key: bytes, nonce: bytes, text: bytes) -> None:
    """Round trip; and it is plain AES-256-GCM under a key of its own, with the nonce's second half."""
    cipher = Xaes(Key(bytearray(key)))
    sealed = cipher.seal(nonce, text, b"aad")
    assert cipher.open(nonce, sealed, b"aad") == text
    assert sealed != AESGCM(key).encrypt(nonce[12:], text, b"aad")


def test_every_flipped_bit_is_refused() -> None:
    """Ciphertext, tag, nonce and AAD are all bound."""
    cipher = Xaes(Key(bytearray(os.urandom(32))))
    sealed = cipher.seal(NONCE, b"value", b"aad")
    for part, rebuild in (
        (sealed, lambda changed: (NONCE, changed, b"aad")),
        (NONCE, lambda changed: (changed, sealed, b"aad")),
        (b"aad", lambda changed: (NONCE, sealed, changed)),
    ):
        for bit in range(len(part) * 8):
            changed = bytearray(part)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(VaultFault):
                cipher.open(*rebuild(bytes(changed)))
    for size in range(len(sealed)):
        with pytest.raises(VaultFault):
            cipher.open(NONCE, sealed[:size], b"aad")


@pytest.mark.parametrize("size", [0, 12, 23, 25])
def test_other_nonces_are_refused(size: int) -> None:
    """A nonce has 24 bytes, also where somebody has 12 at hand."""
    cipher = Xaes(Key(bytearray(os.urandom(32))))
    with pytest.raises(VaultFault):
        cipher.seal(bytes(size), b"", b"")
    with pytest.raises(VaultFault):
        cipher.open(bytes(size), bytes(16), b"")


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_other_keys_are_refused(size: int) -> None:
    """AES-128 by accident does not exist."""
    with pytest.raises(VaultFault):
        Key(bytearray(size))


def test_a_key_shows_nothing() -> None:
    """repr, comparison, pickle and copy give nothing away (I-36)."""
    material = bytearray(os.urandom(32))
    key = Key(material)
    assert material.hex() not in repr(key)
    assert repr(bytes(material)) not in f"{key}{key!r}"
    for leak in (pickle.dumps, copy.copy, copy.deepcopy, hash, lambda k: k == key):
        with pytest.raises(TypeError):
            leak(key)


def test_a_wiped_key_never_seals_with_zeros() -> None:
    """After wipe() the buffer is zero, and every use raises instead of working."""
    material = bytearray(os.urandom(32))
    key = Key(material)
    cipher = Xaes(key)
    sealed = cipher.seal(NONCE, b"value", b"")
    key.wipe()
    assert not any(material)
    for use in (lambda: cipher.seal(NONCE, b"", b""), lambda: cipher.open(NONCE, sealed, b""), key.reveal):
        with pytest.raises(VaultFault):
            use()


def test_a_forgotten_key_is_zeroed() -> None:
    """When the last holder of a key lets go, its buffer is zeroed."""
    material = bytearray(os.urandom(32))
    cipher = Xaes(Key(material))
    cipher.seal(NONCE, b"", b"")
    del cipher
    gc.collect()
    assert not any(material)


def test_threads_may_share_a_cipher() -> None:
    """Readers and the writer seal and open at once under one key."""
    cipher = Xaes(Key(bytearray(os.urandom(32))))
    wrong: list[int] = []

    def work(number: int) -> None:
        for n in range(300):
            nonce = bytes([number]) * 20 + n.to_bytes(4, "big")
            if cipher.open(nonce, cipher.seal(nonce, nonce, b""), b"") != nonce:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
