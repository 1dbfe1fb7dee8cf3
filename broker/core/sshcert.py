"""OpenSSH certificates over Ed25519, parsed strictly (PROTOCOL.certkeys). Never decides: rows and specs do (I-08).

Refuses what others let pass: duplicate or unsorted options, a certificate as CA key, bytes left over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from broker.core.errors import Blame, Refusal
from broker.core.sshwire import KeyKind, Reader, WireError, ed25519_blob, parse_blob

CERT_KIND = b"ssh-ed25519-cert-v01@openssh.com"
USER, HOST = 1, 2
FORCE_COMMAND = "force-command"
SOURCE_ADDRESS = "source-address"
PERMIT_PTY = "permit-pty"
MAX_CERT_BYTES = 128 * 1024
_ED25519_SIGNATURE_BYTES = 64
_KEPT = 64
"""CA keys that need not be made ready to verify again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SshCertificate:
    """What a certificate says; its signature by `ca_key` was checked, whether that CA counts was not."""

    public_key: bytes
    """Blob of the plain Ed25519 key it certifies."""
    serial: int
    kind: int
    """USER or HOST."""
    key_id: str
    principals: tuple[str, ...]
    valid_after: int
    """Seconds since the epoch, inclusive."""
    valid_before: int
    """Seconds since the epoch, exclusive."""
    critical: Mapping[str, str]
    extensions: Mapping[str, str]
    ca_key: bytes
    """Blob of the plain Ed25519 key that signed it."""


def parse(blob: bytes) -> SshCertificate:
    """The certificate of one blob, its signature verified.

    Raises:
        Refusal: `bad_certificate`, whatever is wrong with it.
    """
    try:
        return _parse(blob)
    except WireError as error:
        raise _bad_certificate(str(error)) from error
    except UnicodeDecodeError as error:
        raise _bad_certificate("not text where text belongs") from error
    except InvalidSignature as error:
        raise _bad_certificate("not signed by the key that it names as its CA") from error


def _bad_certificate(rule: str) -> Refusal:
    return Refusal(
        "bad_certificate", "not an OpenSSH certificate that grantd made", blame=Blame.INVALID,
        way_out="ask for a new certificate", rule=rule,
    )  # fmt: skip


def _parse(blob: bytes) -> SshCertificate:
    if len(blob) > MAX_CERT_BYTES:
        raise WireError("longer than any certificate of grantd")
    reader = Reader(blob)
    if reader.string() != CERT_KIND:
        raise WireError("not an Ed25519 certificate")
    reader.string()  # the nonce: any bytes
    # keywords are evaluated in the order in which the fields stand
    certificate = SshCertificate(
        public_key=_plain_key(ed25519_blob(reader.string())),
        serial=reader.u64(),
        kind=_user_or_host(reader.u32()),
        key_id=reader.string().decode(),
        principals=_names(reader.string()),
        valid_after=reader.u64(),
        valid_before=reader.u64(),
        critical=_options(reader.string()),
        extensions=_options(reader.string()),
        ca_key=_reserved_then_ca(reader),
    )
    signed = blob[: reader.at]
    _must_be_signed(signed, reader.string(), certificate.ca_key)
    reader.end()
    return certificate


def _reserved_then_ca(reader: Reader) -> bytes:
    if reader.string():
        raise WireError("reserved field in use")
    return _plain_key(reader.string())


def _plain_key(blob: bytes) -> bytes:
    # a certificate in the place of a key was a remote bypass elsewhere (threats.md F01)
    if parse_blob(blob).kind is not KeyKind.ED25519:
        raise WireError("not a plain Ed25519 key")
    return blob


def _user_or_host(kind: int) -> int:
    if kind not in (USER, HOST):
        raise WireError("neither user nor host")
    return kind


def _names(packed: bytes) -> tuple[str, ...]:
    reader, names = Reader(packed), []
    while reader.more():
        names.append(reader.string().decode())
    return tuple(names)


def _options(packed: bytes) -> Mapping[str, str]:
    """Name -> value; empty for a flag. Names strictly ascending, so a second one of a name cannot hide."""
    reader, options, last = Reader(packed), {}, ""
    while reader.more():
        name, value = reader.string().decode(), reader.string()
        if name <= last:
            raise WireError("options out of order, twice or without a name")
        options[name], last = _option_value(value), name
    return MappingProxyType(options)


def _option_value(packed: bytes) -> str:
    if not packed:
        return ""
    reader = Reader(packed)
    value = reader.string()
    reader.end()
    return value.decode()


def _must_be_signed(signed: bytes, signature: bytes, ca_key: bytes) -> None:
    reader = Reader(signature)
    kind, raw = reader.string(), reader.string()
    reader.end()
    if kind != KeyKind.ED25519.encode() or len(raw) != _ED25519_SIGNATURE_BYTES:
        raise WireError("not an Ed25519 signature")
    _verifier(parse_blob(ca_key).point).verify(raw, signed)


@lru_cache(maxsize=_KEPT)
def _verifier(point: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(point)
