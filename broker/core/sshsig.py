"""Verifies SSHSIG, what `ssh-keygen -Y sign` makes (OpenSSH PROTOCOL.sshsig). Never signs, never guesses a namespace.

Stricter than OpenSSH where a signature has more than one spelling: reserved empty, numbers minimal, nothing left over.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from broker.core.errors import Blame, Refusal
from broker.core.sshwire import KeyKind, PublicKey, Reader, WireError, parse_blob, string

MAGIC = b"SSHSIG"
VERSION = 1
HASHES = {b"sha512": hashlib.sha512, b"sha256": hashlib.sha256}
MAX_SIGNATURE_BYTES = 4_096
"""Of a binary signature; the largest accepted kind needs about 400."""
_ARMOUR_HEAD = "-----BEGIN SSH SIGNATURE-----"
_ARMOUR_TAIL = "-----END SSH SIGNATURE-----"
_ARMOUR_LINE = 76
_ED25519_SIGNATURE_BYTES = 64
_USER_PRESENT = 0x01
_USER_VERIFIED = 0x04


class BadSignature(Refusal):
    """The signature does not count; the same sentence whatever is wrong with it."""

    def __init__(self) -> None:
        super().__init__(
            "bad_signature",
            "the signature is not one that counts here",
            blame=Blame.FORBIDDEN,
            way_out="sign with an approval key that is registered for you",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """An SSHSIG taken apart, nothing verified."""

    key: PublicKey
    namespace: bytes
    hash_name: bytes
    made: bytes
    """The inner signature blob: kind, then what the kind says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """What a verified signature says of the moment it was made. The key line vouches that it is a security key."""

    security_key: bool
    """Made by a FIDO2 key whose holder was present."""
    user_verified: bool
    """The key asked for a PIN or a fingerprint."""


def presence(signature: bytes) -> Presence:
    """How the holder took part; of a signature that `verify` let through. Raises BadSignature for no signature."""
    parts = parse(signature)
    if parts.key.kind is not KeyKind.SK_ED25519:
        return Presence(security_key=False, user_verified=False)
    try:
        reader = Reader(parts.made)
        reader.string()
        reader.string()
        flags = reader.u8()
    except WireError as error:
        raise BadSignature from error
    return Presence(security_key=bool(flags & _USER_PRESENT), user_verified=bool(flags & _USER_VERIFIED))


def from_armour(text: str) -> bytes:
    """The binary signature between the armour lines. Raises BadSignature."""
    lines = text.removesuffix("\n").split("\n")
    if lines[:1] != [_ARMOUR_HEAD] or lines[-1:] != [_ARMOUR_TAIL] or len(text) > 2 * MAX_SIGNATURE_BYTES:
        raise BadSignature
    body = lines[1:-1]
    if any(len(line) > _ARMOUR_LINE for line in body):
        raise BadSignature
    try:
        return base64.b64decode("".join(body), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadSignature from error


def parse(signature: bytes) -> Signature:
    """The parts of a binary signature. Raises BadSignature."""
    try:
        return _parse(signature)
    except WireError as error:
        raise BadSignature from error


def verify(signature: bytes, message: bytes, namespace: str, allowed: Iterable[str]) -> str:
    """The fingerprint (`SHA256:...`) of the one of `allowed` (OpenSSH public key lines) that signed `message`.

    Raises:
        BadSignature: damaged, for another namespace or message, by another key, or by a token nobody touched.
    """
    # (1) its parts, in their only spelling
    parts = parse(signature)
    # (2) made for this purpose
    if not namespace or parts.namespace != namespace.encode():
        raise BadSignature
    # (3) by a key that counts here
    if parts.key.line() not in {_without_comment(line) for line in allowed}:
        raise BadSignature
    # (4) over this message
    try:
        _verify(parts, _signed(parts, message))
    except (WireError, InvalidSignature) as error:
        raise BadSignature from error
    return parts.key.fingerprint()


def _parse(signature: bytes) -> Signature:
    if len(signature) > MAX_SIGNATURE_BYTES:
        raise WireError("longer than any signature grantd knows")
    reader = Reader(signature)
    if reader.take(len(MAGIC)) != MAGIC or reader.u32() != VERSION:
        raise WireError("not an SSHSIG of version 1")
    key, namespace, reserved, hash_name, made = (
        parse_blob(reader.string()),
        reader.string(),
        reader.string(),
        reader.string(),
        reader.string(),
    )
    reader.end()
    if reserved or hash_name not in HASHES:
        raise WireError("reserved field in use, or a hash that grantd does not accept")
    return Signature(key=key, namespace=namespace, hash_name=hash_name, made=made)


def _without_comment(line: str) -> str:
    return " ".join(line.split(" ", 2)[:2])


def _signed(parts: Signature, message: bytes) -> bytes:
    digest = HASHES[parts.hash_name](message).digest()
    return MAGIC + string(parts.namespace) + string(b"") + string(parts.hash_name) + string(digest)


def _verify(parts: Signature, signed: bytes) -> None:
    reader = Reader(parts.made)
    if reader.string() != parts.key.kind.encode():
        raise WireError("signature and key are of different kinds")
    match parts.key.kind:
        case KeyKind.ED25519:
            raw = reader.string()
            reader.end()
            _verify_ed25519(parts.key, raw, signed)
        case KeyKind.ECDSA_P256:
            raw = reader.string()
            reader.end()
            _verify_p256(parts.key, raw, signed)
        case KeyKind.SK_ED25519:
            _verify_sk(parts.key, reader, signed)


def _verify_ed25519(key: PublicKey, raw: bytes, signed: bytes) -> None:
    if len(raw) != _ED25519_SIGNATURE_BYTES:
        raise WireError("not an Ed25519 signature")
    Ed25519PublicKey.from_public_bytes(key.point).verify(raw, signed)


def _verify_p256(key: PublicKey, raw: bytes, signed: bytes) -> None:
    reader = Reader(raw)
    r, s = _mpint(reader.string()), _mpint(reader.string())
    reader.end()
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.point)
    public.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))


def _mpint(data: bytes) -> int:
    """RFC 4251 section 5, positive and in its shortest form only."""
    value = int.from_bytes(data, "big")
    if value == 0 or data != value.to_bytes(value.bit_length() // 8 + 1, "big"):
        raise WireError("not a positive number in shortest form")
    return value


def _verify_sk(key: PublicKey, reader: Reader, signed: bytes) -> None:
    """Source: PROTOCOL.u2f of OpenSSH, `sk-ssh-ed25519@openssh.com` signatures."""
    raw, flags, counter = reader.string(), reader.u8(), reader.take(4)
    reader.end()
    # without this bit nobody touched the token: malware beside it could have signed
    if not flags & _USER_PRESENT or flags & ~(_USER_PRESENT | _USER_VERIFIED):
        raise WireError("the authenticator does not say that its user was present")
    application = hashlib.sha256(key.application).digest()
    message = application + bytes([flags]) + counter + hashlib.sha256(signed).digest()
    _verify_ed25519(key, raw, message)
