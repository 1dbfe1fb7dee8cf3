"""What a client shows to be let in: one certificate of the ingress CA, and a signature of this very connection (F28).

Checks bytes alone; whether the grant behind a certificate holds is its row's to say (I-08). Raises WireError,
InvalidSignature or Refusal, and whoever asks answers all of them alike.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from broker.core.sshcert import CERT_KIND, USER, SshCertificate
from broker.core.sshcert import parse as parse_certificate
from broker.core.sshwire import KeyKind, Reader, WireError, parse_blob, string
from broker.service.gateway import Shown

_SIGNATURE_BYTES: Final = 64
_USERAUTH_REQUEST: Final = 50
_LATEST: Final = 253_402_300_799
"""9999-12-31T23:59:59Z: certificates count to 2^64, and whatever is beyond our calendar is as good as never."""


def is_ours(key: bytes) -> bool:
    """Whether an offered key is of the one kind that is looked at. All others are refused unread."""
    return key.startswith(string(CERT_KIND))


def certificate_of(key: bytes, *, ingress_cas: Collection[bytes]) -> SshCertificate:
    """The user certificate in an offered key, signed by exactly this CA: by one of its keys that count."""
    certificate = parse_certificate(key)
    if certificate.ca_key not in ingress_cas:
        raise WireError("not of the ingress CA")
    if certificate.kind != USER:
        raise WireError("not a user certificate")
    return certificate


def must_be_signed(
    certificate: SshCertificate, *, session: bytes, user: str, key: bytes, message: bytes, signature: bytes
) -> None:
    """Raises unless the certified key signed, for this session, a request to log in as `user` with this certificate.

    `session` is the id of the first key exchange, `key` the certificate blob as it was offered, `message` the
    authentication request as it came, up to the signature (RFC 4252 section 7).
    """
    wanted = (
        bytes([_USERAUTH_REQUEST])
        + string(user.encode())
        + string(b"ssh-connection")
        + string(b"publickey")
        + b"\x01"
        + string(CERT_KIND)
        + string(key)
    )
    if message != wanted:
        raise WireError("not the one spelling of this request")
    reader = Reader(signature)
    kind, raw = reader.string(), reader.string()
    reader.end()
    if kind != KeyKind.ED25519.encode() or len(raw) != _SIGNATURE_BYTES:
        raise WireError("not an Ed25519 signature")
    Ed25519PublicKey.from_public_bytes(parse_blob(certificate.public_key).point).verify(raw, string(session) + message)


def shown(certificate: SshCertificate, user: str) -> Shown:
    """What the service decides on."""
    return Shown(
        user=user,
        key_id=certificate.key_id,
        serial=certificate.serial,
        key_sha256=parse_blob(certificate.public_key).sha256(),
        principals=certificate.principals,
        valid_after=_moment(certificate.valid_after),
        valid_before=_moment(certificate.valid_before),
        options=frozenset(certificate.critical),
        # a flag that carries something is no flag of ours
        extensions=frozenset(f"{name}{value}" for name, value in certificate.extensions.items()),
    )


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(min(seconds, _LATEST), UTC)
