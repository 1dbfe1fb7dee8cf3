"""The client's own key: made here, kept in the profile, never sent. Makes CSRs; reads a certificate's dates.

The only part of the SDK that needs `cryptography` (docs/adr/0016).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from grantd.errors import ProfileProblem


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """When a certificate starts and ends; aware, UTC."""

    not_before: datetime
    not_after: datetime


def new_key() -> bytes:
    """A fresh P-256 private key, PKCS#8 PEM, unencrypted: the file's mode protects it."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def csr_of(key_pem: bytes) -> bytes:
    """A PKCS#10 request, DER, without names: the broker chooses them. Proves possession of the key."""
    key = _private(key_pem)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def spki_sha256(key_pem: bytes) -> bytes:
    """SHA-256 of the public key's SubjectPublicKeyInfo: how records name a client key. 32 bytes."""
    spki = _private(key_pem).public_key()
    encoded = spki.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).digest()


def validity_of(certificate_pem: bytes) -> Validity:
    """The certificate's own dates. Raises ProfileProblem where it does not parse."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
    except ValueError as broken:
        raise ProfileProblem("bad_certificate", "the client certificate of the profile cannot be read") from broken
    return Validity(not_before=certificate.not_valid_before_utc, not_after=certificate.not_valid_after_utc)


def _private(key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError) as broken:
        raise ProfileProblem("bad_key", "the client key of the profile cannot be read") from broken
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ProfileProblem("bad_key", "the client key of the profile is not an elliptic curve key")
    return key
