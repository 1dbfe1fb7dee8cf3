"""A sealed value opens in its own row alone (I-50)."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.adapters import vault as module
from broker.adapters.vault import Place, SealingKey, Vault, key_id_of
from broker.adapters.xaes import Key
from broker.core.errors import VaultFault

VECTORS: dict[str, str] = json.loads((Path(__file__).parents[2] / "vectors" / "vault.json").read_text())
PLACE = Place(tenant="t1", kind="secret", id="sec_01", field="value", version=3)


def fresh(key_id: str = "tk_t1_vault_1") -> SealingKey:
    """A random key."""
    return SealingKey(key_id, Key(bytearray(os.urandom(32))))


def test_the_published_blob() -> None:
    """AAD and blob come out byte for byte as formats.md 5 publishes them, and open."""
    key = SealingKey("tk_01", Key(bytearray.fromhex(VECTORS["vault.key"])))
    blob = key.seal_with(PLACE, VECTORS["vault.plaintext"].encode(), nonce=bytes.fromhex(VECTORS["vault.nonce"]))
    assert PLACE.aad("tk_01").hex() == VECTORS["vault.aad"]
    assert blob.hex() == VECTORS["vault.blob"]
    assert key.open(PLACE, blob) == VECTORS["vault.plaintext"].encode()


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(PLACE, tenant="t2"),
        replace(PLACE, tenant=""),
        replace(PLACE, kind="recording_key"),
        replace(PLACE, id="sec_02"),
        replace(PLACE, field="other"),
        replace(PLACE, version=2),
        replace(PLACE, version=4),
        replace(PLACE, id="sec_01value", field=""),
        replace(PLACE, tenant="t1secret", kind=""),
    ],
)
def test_a_moved_blob_does_not_open(elsewhere: Place) -> None:
    """Another tenant, kind, object, field or version, also where the texts join to the same (I-50)."""
    key = fresh()
    blob = key.seal(PLACE, b"value")
    assert key.open(PLACE, blob) == b"value"
    with pytest.raises(VaultFault):
        key.open(elsewhere, blob)


def test_the_key_named_is_the_key_used() -> None:
    """Another key under the same id, or this one under another id, opens nothing: keys are never tried."""
    material = os.urandom(32)
    key = SealingKey("tk_1", Key(bytearray(material)))
    blob = key.seal(PLACE, b"value")
    with pytest.raises(VaultFault):
        fresh("tk_1").open(PLACE, blob)
    same_key_other_name = SealingKey("tk_2", Key(bytearray(material)))
    for renamed in (blob, blob.replace(b"tk_1", b"tk_2")):
        with pytest.raises(VaultFault):
            same_key_other_name.open(PLACE, renamed)


def test_every_flipped_bit_and_truncation_is_refused() -> None:
    """No byte of a blob is free: version, algorithm, id, nonce, ciphertext and tag."""
    key = fresh()
    blob = key.seal(PLACE, b"value")
    for bit in range(len(blob) * 8):
        changed = bytearray(blob)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(VaultFault):
            key.open(PLACE, bytes(changed))
    for size in range(len(blob)):
        with pytest.raises(VaultFault):
            key.open(PLACE, blob[:size])


def test_each_seal_has_its_own_nonce() -> None:
    """The same value twice is two unlike blobs, and neither holds the value."""
    key = fresh()
    blobs = {key.seal(PLACE, b"canary-77aa") for _ in range(500)}
    assert len(blobs) == 500
    assert not any(b"canary" in blob for blob in blobs)
    assert len({blob[4 + len(key.id) :][:24] for blob in blobs}) == 500


@given(st.binary(max_size=120))
def test_any_bytes_are_a_blob_or_refused(data: bytes) -> None:
    """No matter what bytes a row holds, the answer is VaultFault, never another error."""
    key = SealingKey("k", Key(bytearray(range(32))))
    for blob in (data, b"\x01\x01" + data, b"\x01\x01\x00\x01k" + data):
        with pytest.raises(VaultFault):
            key.open(PLACE, blob)


@given(st.text(min_size=1, max_size=40), st.binary(max_size=60))
def test_the_id_is_read_from_the_blob(key_id: str, value: bytes) -> None:
    """Whoever looks for the key reads its id first."""
    key = SealingKey(key_id, Key(bytearray(range(32))))
    assert key_id_of(key.seal(PLACE, value)) == key_id


@pytest.mark.parametrize("key_id", ["", "k" * 256])
def test_ids_have_their_bounds(key_id: str) -> None:
    """An id fits into the blob's head and the lookups."""
    with pytest.raises(VaultFault):
        fresh(key_id)


# ---- the vault
def test_a_wrapped_key_opens_once_and_is_remembered() -> None:
    """Opening the same row again gives the same opened key; another blob or place is another matter."""
    vault = Vault(fresh("rk_1"))
    blob = vault.new_key(vault.root, PLACE)
    first = vault.opened(vault.root, PLACE, "tk_1", blob)
    assert vault.opened(vault.root, PLACE, "tk_1", blob) is first
    assert vault.opened(vault.root, PLACE, "tk_2", blob) is not first
    with pytest.raises(VaultFault):
        vault.opened(vault.root, replace(PLACE, tenant="t2"), "tk_1", blob)
    with pytest.raises(VaultFault):
        Vault(fresh("rk_1")).opened(fresh("rk_1"), PLACE, "tk_1", blob)


def test_memory_is_bounded_and_forgetting_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least used key is forgotten first; whoever still holds it can go on, later readers open it anew."""
    monkeypatch.setattr(module, "MAX_OPENED_KEYS", 2)
    vault = Vault(fresh("rk_1"))
    places = [replace(PLACE, id=str(n)) for n in range(3)]
    blobs = [vault.new_key(vault.root, place) for place in places]
    held = vault.opened(vault.root, places[0], "k", blobs[0])
    sealed = held.seal(PLACE, b"value")
    kept = vault.opened(vault.root, places[1], "k", blobs[1])
    vault.opened(vault.root, places[1], "k", blobs[1])
    vault.opened(vault.root, places[2], "k", blobs[2])
    assert vault.opened(vault.root, places[1], "k", blobs[1]) is kept
    again = vault.opened(vault.root, places[0], "k", blobs[0])
    assert again is not held
    assert again.open(PLACE, sealed) == held.open(PLACE, sealed) == b"value"


def test_keys_do_not_print() -> None:
    """A sealing key shows its id alone (I-36)."""
    assert repr(fresh("tk_1")) == "SealingKey(tk_1)"
