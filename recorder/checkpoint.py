"""Signed heads of a log: C2SP signed-note and tlog-checkpoint. Holds no key, reads no clock, fetches nothing.

A note is text, a blank line, and signature lines. A checkpoint's text is origin, size, root and, here, at most one
extension line `time <seconds since 1970>`. Any other extension is refused: what we cannot read we do not trust.
Sources: https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint, https://c2sp.org/tlog-cosignature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from recorder.errors import NoteError
from recorder.merkle import HASH_SIZE

Signer: TypeAlias = Callable[[bytes], bytes]
"""Bytes -> their Ed25519 signature, 64 bytes. `Ed25519PrivateKey.sign` is one."""

MAX_NOTE = 16 * 1024  # bytes
MAX_SIGNATURES = 16  # signature lines read; C2SP asks for at least this many
_KEY_SIZE = 32
_ID_SIZE = 4
_SIGNATURE_SIZE = 64
_TIME_SIZE = 8
_MAX_SIZE = 2**63
_NAME = re.compile(r"[^\s+\x00-\x20\x7f]{1,255}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_SIGNATURE_LINE = re.compile("\u2014 ([^ ]+) ([^ ]+)")


class KeyType(IntEnum):
    """The signature types we verify; the first byte of an encoded key."""

    ED25519 = 1  # the log's own signature over the note text
    COSIGNATURE = 4  # a witness: Ed25519 over time and text


@dataclass(frozen=True, slots=True, kw_only=True)
class Vkey:
    """A verifier key: name, type and the 32 bytes of an Ed25519 public key."""

    name: str
    type: KeyType
    public_key: bytes

    @property
    def id(self) -> bytes:
        """First 4 bytes of sha256(name || newline || type || key). A hint for lookup, never proof of anything."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.type]) + self.public_key).digest()[:_ID_SIZE]

    def __str__(self) -> str:
        """The one-line text form, `name+id+key`."""
        return f"{self.name}+{self.id.hex()}+{_b64(bytes([self.type]) + self.public_key)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The head of a log: `size` leaves under `root`, as of `time_s` (whole seconds since 1970, None: not stated)."""

    origin: str
    size: int
    root: bytes
    time_s: int | None = None

    def text(self) -> bytes:
        """The signed text, ending in a newline.

        Raises:
            NoteError: a value that would not read back as itself.
        """
        _require(_NAME.fullmatch(self.origin) is not None, "origin is not a plain name")
        _require(0 <= self.size < _MAX_SIZE and len(self.root) == HASH_SIZE, "size or root out of range")
        lines = [self.origin, str(self.size), _b64(self.root)]
        if self.time_s is not None:
            _require(0 <= self.time_s < _MAX_SIZE, "time out of range")
            lines.append(f"time {self.time_s}")
        return "".join(line + "\n" for line in lines).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature that was checked: by whom, and for a witness at what second."""

    key: Vkey
    time_s: int | None


def vkey(name: str, public_key: bytes, key_type: KeyType = KeyType.ED25519) -> str:
    """The text form of a verifier key, `name+id+key`."""
    return str(parse_vkey(str(Vkey(name=name, type=key_type, public_key=public_key))))


def parse_vkey(text: str) -> Vkey:
    """Read `name+id+key`; NoteError when the id does not belong to the key or the type is unknown."""
    parts = text.split("+", 2)
    _require(len(parts) == 3 and _NAME.fullmatch(parts[0]) is not None, "not a verifier key")  # noqa: PLR2004
    name, key_id, encoded = parts
    raw = _unb64(encoded)
    _require(len(raw) == 1 + _KEY_SIZE and raw[0] in set(KeyType), "verifier key of an unknown type")
    key = Vkey(name=name, type=KeyType(raw[0]), public_key=raw[1:])
    _require(key.id.hex() == key_id, "the verifier key's id does not belong to it")
    return key


def sign(checkpoint: Checkpoint, *, public_key: bytes, signer: Signer) -> bytes:
    """The checkpoint as a note signed by its log; the key's name is the origin.

    The signature is checked before it is returned: a signer that holds another key fails here and not at an auditor.
    """
    key = Vkey(name=checkpoint.origin, type=KeyType.ED25519, public_key=public_key)
    text = checkpoint.text()
    signature = signer(text)
    _verify_one(key, text, signature)
    return text + b"\n" + _line(key, signature)


def cosign(note: bytes, *, name: str, public_key: bytes, signer: Signer, time_s: int) -> bytes:
    """A witness's signature line for this note (cosignature/v1). Whether to sign is the witness's own decision."""
    key = Vkey(name=name, type=KeyType.COSIGNATURE, public_key=public_key)
    text, _ = _split(note)
    signature = time_s.to_bytes(_TIME_SIZE, "big") + signer(_timed(text, time_s))
    _verify_one(key, text, signature)
    return _line(key, signature)


def parse_and_verify(note: bytes, vkeys: Iterable[str]) -> Checkpoint:
    """The checkpoint in a note signed by its own log: a key among `vkeys` whose name is the checkpoint's origin.

    Hand in only keys that you trust for the log you ask about; the origin returned is the name of one of them.

    Raises:
        NoteError: malformed, not signed by that key, or a bad signature by any known key.
    """
    signatures = open_note(note, vkeys)
    checkpoint = parse_checkpoint(note)
    for signature in signatures:
        if signature.key.type is KeyType.ED25519 and signature.key.name == checkpoint.origin:
            return checkpoint
    raise NoteError(f"not signed by the log {checkpoint.origin} with a known key")


def open_note(note: bytes, vkeys: Iterable[str]) -> list[Signature]:
    """All signatures by known keys, checked. Unknown keys are skipped; a bad signature by a known key refuses all."""
    known = {(key.name, key.id): key for key in map(parse_vkey, vkeys)}
    text, lines = _split(note)
    found: list[Signature] = []
    for line in lines:
        name, raw = _parse_line(line)
        key = known.get((name, raw[:_ID_SIZE]))
        if key is not None:
            time_s = _verify_one(key, text, raw[_ID_SIZE:])
            found.append(Signature(key=key, time_s=time_s))
    return found


def parse_checkpoint(note: bytes) -> Checkpoint:
    """The checkpoint inside a note, UNVERIFIED: for naming which key is needed. Trust `parse_and_verify` only."""
    text, _ = _split(note)
    lines = text.decode().split("\n")[:-1]
    _require(len(lines) in {3, 4}, "a checkpoint has three lines and at most a time")
    origin, size, root = lines[:3]
    _require(_NUMBER.fullmatch(size) is not None, "size is not a plain number")
    time_s = _parse_time(lines[3]) if len(lines) > 3 else None  # noqa: PLR2004
    checkpoint = Checkpoint(origin=origin, size=int(size), root=_unb64(root), time_s=time_s)
    _require(checkpoint.text() == text, "not in the one form of a checkpoint")
    return checkpoint


def _parse_time(line: str) -> int:
    word, _, number = line.partition(" ")
    _require(word == "time" and _NUMBER.fullmatch(number) is not None, "unknown extension line")
    return int(number)


def _split(note: bytes) -> tuple[bytes, list[str]]:
    _require(len(note) <= MAX_NOTE, "note too long")
    head, separator, tail = note.rpartition(b"\n\n")
    try:
        head.decode()
        signatures = tail.decode()
    except UnicodeDecodeError as error:
        raise NoteError("note is not UTF-8") from error
    _require(bool(separator and head) and signatures.endswith("\n"), "not a signed note")
    _require(all(byte >= ord(" ") or byte == ord("\n") for byte in note), "control character in note")
    lines = signatures[:-1].split("\n")
    _require(len(lines) <= MAX_SIGNATURES, "too many signatures")
    return head + b"\n", lines


def _parse_line(line: str) -> tuple[str, bytes]:
    match = _SIGNATURE_LINE.fullmatch(line)
    if match is None or not _NAME.fullmatch(match[1]):
        raise NoteError("malformed signature line")
    raw = _unb64(match[2])
    _require(len(raw) > _ID_SIZE, "malformed signature line")
    return match[1], raw


def _verify_one(key: Vkey, text: bytes, signature: bytes) -> int | None:
    time_s: int | None = None
    if key.type is KeyType.COSIGNATURE:
        time_s = int.from_bytes(signature[:_TIME_SIZE], "big")
        text, signature = _timed(text, time_s), signature[_TIME_SIZE:]
    try:
        if len(signature) != _SIGNATURE_SIZE:
            raise NoteError(f"bad signature by {key.name}")
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature, text)
    except InvalidSignature as error:
        raise NoteError(f"bad signature by {key.name}") from error
    return time_s


def _timed(text: bytes, time_s: int) -> bytes:
    return b"cosignature/v1\ntime %d\n" % time_s + text


def _line(key: Vkey, signature: bytes) -> bytes:
    return f"\u2014 {key.name} {_b64(key.id + signature)}\n".encode()


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unb64(text: str) -> bytes:
    """Strict: padding required, no other spelling of the same bytes."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError("not base64") from error
    _require(_b64(data) == text, "not the one base64 spelling")
    return data


def _require(condition: bool, message: str) -> None:  # noqa: FBT001 - a guard, always called with its message
    if not condition:
        raise NoteError(message)
