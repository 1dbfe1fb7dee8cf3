"""Checks an X.509 certificate against what was asked for, extension by extension. Never trusts the names in a CSR."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from broker.core.cert import CertMismatch, X509Spec, is_address, whole_seconds

MAX_CSR_BYTES = 4_096
# what cryptography raises over bytes that are not what they should be
_UNREADABLE = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    Warning,  # where warnings are errors: bytes that cryptography reads but calls deprecated
)


def key_of_csr(csr_der: bytes) -> ec.EllipticCurvePublicKey:
    """The P-256 key that signed the CSR; nothing else of it is used. Raises CertMismatch."""
    try:
        csr = x509.load_der_x509_csr(csr_der if len(csr_der) <= MAX_CSR_BYTES else b"")
        key, signed = csr.public_key(), csr.is_signature_valid
    except _UNREADABLE as error:
        raise CertMismatch("certificate refused: not a signing request") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertMismatch("certificate refused: only P-256 keys")
    if not signed:
        raise CertMismatch("certificate refused: the request is not signed by its own key")
    return key


def names_of(spec: X509Spec) -> x509.SubjectAlternativeName:
    """The only names of the certificate: the identity, or the server's hosts."""
    if not spec.server:
        return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spec.uri)])
    return x509.SubjectAlternativeName(
        [x509.IPAddress(ipaddress.ip_address(h)) if is_address(h) else x509.DNSName(h) for h in spec.hosts]
    )


def extensions_of(
    spec: X509Spec, key: ec.EllipticCurvePublicKey, ca: x509.Certificate
) -> list[tuple[x509.ExtensionType, bool]]:
    """Every extension of the certificate, with its criticality.

    The names are critical because the subject is empty. Source: RFC 5280 section 4.2.1.6.
    """
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if spec.server else ExtendedKeyUsageOID.CLIENT_AUTH
    issuer = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_signing_only(), True),
        (x509.ExtendedKeyUsage([purpose]), False),
        (names_of(spec), True),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), False),
    ]


def at_second(moment: datetime) -> datetime:
    """`moment` rounded down to a whole second, UTC: X.509 has no finer time."""
    return datetime.fromtimestamp(whole_seconds(moment), tz=UTC)


def must_match_x509(spec: X509Spec, certificate_der: bytes, *, csr_der: bytes, ca_der: bytes) -> None:
    """Raises CertMismatch unless the certificate is what `spec` says, for the CSR's key, issued by the CA."""
    key = key_of_csr(csr_der)
    try:
        ca = x509.load_der_x509_certificate(ca_der)
        made = x509.load_der_x509_certificate(certificate_der)
        # (1) the CA made it
        made.verify_directly_issued_by(ca)
        # (2) every extension, its order and criticality; nothing besides
        found = [(extension.value, extension.critical) for extension in made.extensions]
    except _UNREADABLE as error:
        raise CertMismatch("certificate differs: not issued by the CA") from error
    # (3) for this key, with this serial and these times, no name but the extension's
    if found != extensions_of(spec, key, ca) or _body(made) != _asked(spec, key):
        raise CertMismatch("certificate differs from its specification")


def _body(made: x509.Certificate) -> tuple[object, ...]:
    algorithm = made.signature_hash_algorithm
    return (
        made.version,
        made.serial_number,
        made.subject,
        made.not_valid_before_utc,
        made.not_valid_after_utc,
        _spki(made.public_key()),
        algorithm.name if algorithm else "",
    )


def _asked(spec: X509Spec, key: ec.EllipticCurvePublicKey) -> tuple[object, ...]:
    return (
        x509.Version.v3,
        spec.serial,
        x509.Name([]),
        at_second(spec.not_before),
        at_second(spec.not_after),
        _spki(key),
        hashes.SHA256.name,
    )


def _spki(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return b""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _signing_only() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
