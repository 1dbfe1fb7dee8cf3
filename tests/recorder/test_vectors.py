"""The published vectors of our own formats: what any other implementation must reproduce byte for byte."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from recorder import checkpoint, entry, grec, merkle, sealing

VECTORS: dict[str, str] = json.loads((Path(__file__).parent.parent / "vectors" / "recorder.json").read_text())
DEK = bytes(range(32))


def recording() -> bytes:
    """The two-frame recording of the vectors."""
    header = VECTORS["rec.header_json"].encode()
    start = grec.preamble(header, bytes.fromhex(VECTORS["rec.commit"]))
    return start + bytes.fromhex(VECTORS["rec.frame0"]) + bytes.fromhex(VECTORS["rec.frame1"])


def test_key_schedule() -> None:
    """Key, base nonce, commitment and nonces come out as published."""
    header_json = VECTORS["rec.header_json"].encode()
    header = grec.decode_header(header_json)
    keys = sealing.derive_keys(DEK, header_json, header.salt)
    assert header.encode() == header_json
    assert keys.key.hex() == VECTORS["rec.key"]
    assert keys.base_nonce.hex() == VECTORS["rec.base_nonce"]
    assert keys.commit.hex() == VECTORS["rec.commit"]
    assert keys.nonce(0, final=False).hex() == VECTORS["rec.nonce(seq=0)"]
    assert keys.nonce(1, final=True).hex() == VECTORS["rec.nonce(seq=1,final)"]


def test_frames_are_sealed_as_published() -> None:
    """Sealing the published events gives the published frames."""
    sealer = sealing.Sealer(grec.decode_header(VECTORS["rec.header_json"].encode()), DEK)
    events = [
        grec.Event(0, grec.Kind.RESIZE, 0, bytes.fromhex("00500018")),
        grec.Event(1000, grec.Kind.OUT, 0, b"hi\r\n"),
    ]
    plain = grec.encode_events(events)
    assert plain.hex() == VECTORS["rec.events_pt"]
    assert grec.decode_events(plain, 0, seq=0) == events
    data = sealer.seal(grec.FrameType.DATA, grec.Flag(0), 0, plaintext=plain, plen=len(plain))
    assert data.hex() == VECTORS["rec.frame0"]
    assert sealer.end(b'{"dur":1000,"events":2}', 1000).hex() == VECTORS["rec.frame1"]


def test_frames_open_as_published() -> None:
    """Reading the published recording gives the published events and the published root, keyless."""
    source = io.BytesIO(recording())
    header, start, _ = grec.read_preamble(source)
    frames = list(grec.read_frames(source))
    opener = sealing.Opener(header, start, DEK)
    assert [opener.open(frame) for frame in frames] == [
        bytes.fromhex(VECTORS["rec.events_pt"]),
        b'{"dur":1000,"events":2}',
    ]
    leaves = [merkle.leaf_hash(start), *(frame.leaf() for frame in frames)]
    assert len(leaves) == int(VECTORS["rec.leaves"])
    assert merkle.root_of(leaves).hex() == VECTORS["rec.root"]


def test_log() -> None:
    """Verifier key, entry, leaf and the log's signature come out as published."""
    private = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    public = private.public_key().public_bytes_raw()
    origin = "grantd.example/c1/audit/t1"
    assert checkpoint.vkey(origin, public) == VECTORS["log.vkey"]
    encoded = entry.encode_entry({"code": "GR2001I", "id": "00000000000070008000000000000001", "t": 1}, (), bytes(16))
    assert encoded.decode() == VECTORS["log.entry"]
    leaf = merkle.leaf_hash(encoded)
    assert leaf.hex() == VECTORS["log.leaf"]
    head = checkpoint.Checkpoint(origin=origin, size=1, root=merkle.root_of([leaf]))
    note = checkpoint.sign(head, public_key=public, signer=private.sign)
    assert note.decode().strip("\n") == VECTORS["log.checkpoint"].strip("\n")
    assert checkpoint.parse_and_verify(note, [VECTORS["log.vkey"]]) == head


def test_cosignature() -> None:
    """A witness's line over the published checkpoint verifies and states its time."""
    note = VECTORS["log.checkpoint"].strip("\n") + "\n" + VECTORS["log.cosig(ts=1700000000)"]
    signatures = checkpoint.open_note(note.encode(), [VECTORS["log.vkey"], VECTORS["log.witness_vkey"]])
    assert [signature.time_s for signature in signatures] == [None, 1_700_000_000]


def test_disclosure() -> None:
    """A disclosure and its digest come out as published."""
    made = entry.disclose(bytes(16), "user.email", "a@example.com")
    assert base64.urlsafe_b64encode(made.text).rstrip(b"=").decode() == VECTORS["sd.disclosure"]
    assert made.digest == VECTORS["sd.digest"]
    assert entry.read_disclosure(made.text) == ("user.email", "a@example.com")


CT_ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
CT_LEAVES = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")


@pytest.mark.parametrize("size", range(1, 9))
def test_certificate_transparency_roots(size: int) -> None:
    """The eight trees that Certificate Transparency's own tests publish."""
    leaves = [merkle.leaf_hash(bytes.fromhex(text)) for text in CT_LEAVES[:size]]
    assert merkle.root_of(leaves).hex() == CT_ROOTS[size - 1]
