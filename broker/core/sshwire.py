"""SSH's wire form, the little of it that grantd reads by itself: strings, numbers and three kinds of public keys.

One parser for every key that enters (threats.md F01). Never accepts RSA, DSA, other curves, certificates or options.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import ec

from broker.core.errors import Refusal, invalid

MAX_KEY_BYTES = 1_024
"""Of a public key blob; the largest accepted kind needs about 330."""
MAX_LINE = 4_096
"""Characters of an OpenSSH public key line, its comment included."""
ED25519_BYTES = 32
_KEPT = 1_024
"""Public keys that need not be read again."""
_P25519 = 2**255 - 19
# y coordinates of the points of order 1, 2, 4 and 8: under such a key anybody can sign. Source: RFC 8032 section 5.1.
_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER = frozenset({0, 1, _P25519 - 1, _ORDER_8, _P25519 - _ORDER_8})


class WireError(Exception):
    """Not the bytes it says it is. Whoever parses for a caller turns this into a Refusal or a Fault."""


class KeyKind(StrEnum):
    """The public keys that grantd knows, by their SSH names."""

    ED25519 = "ssh-ed25519"
    ECDSA_P256 = "ecdsa-sha2-nistp256"
    SK_ED25519 = "sk-ssh-ed25519@openssh.com"
    """An Ed25519 key inside a FIDO2 authenticator."""


class Reader:
    """Takes values off the front of `data`; anything short or left over raises WireError."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def at(self) -> int:
        """Bytes taken so far."""
        return self._at

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        if size > len(self._data) - self._at:
            raise WireError("ends too early")
        start, self._at = self._at, self._at + size
        return self._data[start : self._at]

    def u8(self) -> int:
        return self.take(1)[0]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def string(self) -> bytes:
        """RFC 4251 section 5: u32 length, then that many bytes."""
        # what u32 and take do, at once: certificates and questions to the signer are made of little else
        start = self._at + 4
        end = start + int.from_bytes(self._data[self._at : start], "big")
        if end > len(self._data):
            raise WireError("ends too early")
        self._at = end
        return self._data[start:end]

    def more(self) -> bool:
        return self._at < len(self._data)

    def end(self) -> None:
        """Raises if anything is left."""
        if self.more():
            raise WireError("bytes left over")


def string(value: bytes) -> bytes:
    """RFC 4251 section 5: u32 length, then the bytes."""
    return len(value).to_bytes(4, "big") + value


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A public key whose numbers were checked. `point` is 32 bytes (Ed25519) or 65 bytes (P-256, uncompressed)."""

    kind: KeyKind
    blob: bytes
    """SSH wire form, as it stands in certificates, signatures and key lines."""
    point: bytes
    application: bytes
    """FIDO2 application of an SK key; empty otherwise."""

    def sha256(self) -> bytes:
        """SHA-256 of the blob, 32 bytes: how rows and records name the key."""
        return hashlib.sha256(self.blob).digest()

    def fingerprint(self) -> str:
        """`SHA256:...`, as ssh-keygen -l prints it."""
        return fingerprint_of(self.blob)

    def line(self) -> str:
        """OpenSSH public key line without comment."""
        return f"{self.kind} {base64.b64encode(self.blob).decode()}"


def fingerprint_of(blob: bytes) -> str:
    """`SHA256:` and 43 base64 characters over any public key blob; checks nothing."""
    return f"SHA256:{base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip('=')}"


def ed25519_blob(point: bytes) -> bytes:
    """The blob of a raw Ed25519 public key of 32 bytes."""
    return string(KeyKind.ED25519.encode()) + string(point)


def parse_line(line: str) -> PublicKey:
    """The key of one OpenSSH public key line (`kind base64 [comment]`). Never with options in front.

    Raises:
        Refusal: `bad_public_key`.
    """
    try:
        return parse_blob(_blob_of(line))
    except WireError as error:
        raise _bad_key() from error


def parse_blob(blob: bytes) -> PublicKey:
    """The key of one public key blob. Raises WireError."""
    if len(blob) > MAX_KEY_BYTES:
        raise WireError("longer than any key grantd knows")
    return _read_blob(blob)


@lru_cache(maxsize=_KEPT)
def _read_blob(blob: bytes) -> PublicKey:
    """What a blob says is in its bytes alone, and the same few keys come with every certificate."""
    reader = Reader(blob)
    kind = _kind(reader.string())
    if kind is KeyKind.ECDSA_P256:
        point, application = _p256_point(reader), b""
    else:
        point = _ed25519_point(reader.string())
        application = _application(reader.string()) if kind is KeyKind.SK_ED25519 else b""
    reader.end()
    return PublicKey(kind=kind, blob=blob, point=point, application=application)


def _bad_key() -> Refusal:
    return invalid(
        "bad_public_key",
        "not an OpenSSH public key that grantd knows",
        "send the .pub file of an ssh-ed25519, ecdsa-sha2-nistp256 or sk-ssh-ed25519@openssh.com key",
    )


def _blob_of(line: str) -> bytes:
    if len(line) > MAX_LINE or not line.isprintable():
        raise WireError("not one plain line")
    name, _, rest = line.partition(" ")
    encoded = rest.partition(" ")[0]
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise WireError("not base64") from error
    # one spelling for one key: unused bits and the name in front must agree with the bytes
    if base64.b64encode(blob).decode() != encoded or not blob.startswith(string(name.encode())):
        raise WireError("not the one spelling of this key")
    return blob


def _kind(name: bytes) -> KeyKind:
    for kind in KeyKind:
        if kind.encode() == name:
            return kind
    raise WireError("a kind of key that grantd does not accept")


def _ed25519_point(point: bytes) -> bytes:
    y = int.from_bytes(point, "little") & (2**255 - 1)
    if len(point) != ED25519_BYTES or y >= _P25519 or y in _SMALL_ORDER:
        raise WireError("not an Ed25519 point to trust")
    return point


def _p256_point(reader: Reader) -> bytes:
    if reader.string() != b"nistp256":
        raise WireError("not the curve of its kind")
    point = reader.string()
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError as error:
        raise WireError("not a point of the curve") from error
    if point[:1] != b"\x04":
        raise WireError("not in uncompressed form")
    return point


def _application(name: bytes) -> bytes:
    if not name.startswith(b"ssh:"):
        raise WireError("not an authenticator key made for SSH")
    return name
