"""A second implementation agrees: written from the specification, sharing no code with the product.

One in Python, here, for everything the writer makes; one in JavaScript (independent.mjs, built-in crypto only) for the
published vectors, where node is installed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from backports.zstd import ZstdDecompressor
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from recorder.grec import Kind
from tests.recorder.recordings import DEK, DONE, START, meta, store

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


def expand(key: bytes, info: bytes, size: int) -> bytes:
    """HKDF-Expand of RFC 5869 with SHA-512."""
    out = block = b""
    for count in range(1, 3):
        block = hmac.digest(key, block + info + bytes([count]), "sha512")
        out += block
    return out[:size]


def tree_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1."""
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + tree_root(leaves[:half]) + tree_root(leaves[half:])).digest()


def numbers(data: bytes, at: int) -> tuple[int, int]:
    """One LEB128 number."""
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1


def split(data: bytes, t_us: int) -> Iterator[tuple[int, int, int, bytes]]:
    """(time, kind, channel, payload) of each event in a frame."""
    at = 0
    while at < len(data):
        delta, at = numbers(data, at)
        kind, at = data[at], at + 1
        chan, at = numbers(data, at)
        size, at = numbers(data, at)
        t_us += delta
        yield t_us, kind, chan, data[at : at + size]
        at += size


def read(data: bytes, dek: bytes) -> tuple[list[tuple[int, int, int, bytes]], dict[str, Any], int, str]:
    """(events, end frame, leaves, root) of a whole recording."""
    size = struct.unpack(">I", data[8:12])[0]
    header, commit = data[12 : 12 + size - 32], data[12 + size - 32 : 12 + size]
    salt = bytes.fromhex(json.loads(header)["salt"])
    info = b"grantd/rec/v1/AEAD_AES_256_GCM\0" + salt + hashlib.sha256(header).digest()
    keys = expand(dek, info, 76)
    assert data[:8] == b"\x89GREC1\r\n"
    assert keys[44:] == commit
    bound, at = hashlib.sha256(data[: 12 + size]).digest(), 12 + size
    leaves = [hashlib.sha256(b"\0" + data[:at]).digest()]
    events: list[tuple[int, int, int, bytes]] = []
    end: dict[str, Any] = {}
    inflate = ZstdDecompressor()
    while at < len(data):
        assert not end
        magic, kind, flags, _, seq, t_us, plen, clen = struct.unpack(">4sBBHQQII", data[at : at + 32])
        assert (magic, seq) == (b"GRF1", len(leaves) - 1)
        counter = b"\0\0\0" + struct.pack(">QB", seq, flags >> 7)
        nonce = bytes(a ^ b for a, b in zip(keys[32:44], counter, strict=True))
        plain = AESGCM(keys[:32]).decrypt(nonce, data[at + 32 : at + 32 + clen], bound + data[at : at + 32])
        if flags & 2:
            inflate = ZstdDecompressor()
        plain = inflate.decompress(plain) if flags & 1 else plain
        assert len(plain) == plen
        if kind == 4:
            end = json.loads(plain)
        else:
            events += split(plain, t_us)
        leaves.append(hashlib.sha256(b"\0" + data[at : at + 32 + clen]).digest())
        at += 32 + clen
    return events, end, len(leaves), tree_root(leaves).hex()


async def test_the_second_implementation_reads_what_ours_wrote(tmp_path: Path) -> None:
    """Same events, same end, same leaves and root."""
    made: list[tuple[int, int, int, bytes]] = []
    with store(tmp_path) as files:
        sink = await files.create(meta())
        for number in range(400):
            kind = (Kind.OUT, Kind.ERR, Kind.IN)[number % 3]
            payload = b"%d %s\n" % (number, b"x" * (number * 37 % 9000))
            made.append((number * 500_000, kind, number % 2, payload))
            await sink.event(kind, number % 2, payload, t_us=number * 500_000)
            if number % 50 == 0:
                await sink.sync()
        commitment = await sink.close(DONE)
        path = files.directory("t1", "rec_1", START) / "p0000.grec"
    events, end, leaves, root = read(path.read_bytes(), DEK)
    assert events == made
    assert end["events"] == len(made)
    assert (leaves, root) == (commitment.leaves, commitment.root.hex())
    assert (end["leaves"], end["lost"]) == (leaves - 1, 0)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_javascript_agrees_on_the_vectors() -> None:
    """The JavaScript reader reproduces keys, frames, root, leaf and checkpoint signature."""
    vectors = HERE.parent / "vectors" / "recorder.json"
    done = subprocess.run(["node", HERE / "independent.mjs", vectors], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == "agreed on 13 values\n"
    assert done.returncode == 0
