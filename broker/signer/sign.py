"""Makes certificates from specifications that were already checked. Adds nothing that the specification does not say.

Uses cryptography's builders, which have no dangerous defaults: principals, validity and type are demanded, and no
extension is granted unasked (asyncssh grants five).
"""

from __future__ import annotations

import base64

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    SSHCertificateBuilder,
    SSHCertificateType,
)

from broker.core.cert import Ca, CertMismatch, CertSpec, X509Spec, critical_options, whole_seconds
from broker.core.sshcert import PERMIT_PTY
from broker.core.sshwire import KeyKind, WireError, parse_blob
from broker.core.x509_match import at_second, extensions_of


def sign_ssh(spec: CertSpec, public_key: bytes, ca_key: Ed25519PrivateKey) -> bytes:
    """The certificate blob of `spec` for the Ed25519 key of the blob `public_key`."""
    builder = (
        SSHCertificateBuilder()
        .public_key(_ed25519(public_key))
        .serial(spec.serial)
        .type(SSHCertificateType.HOST if spec.ca is Ca.HOST else SSHCertificateType.USER)
        .key_id(spec.key_id.encode())
        .valid_principals([name.encode() for name in spec.principals])
        .valid_after(whole_seconds(spec.valid_after))
        .valid_before(whole_seconds(spec.valid_before))
    )
    for name, value in critical_options(spec).items():
        builder = builder.add_critical_option(name.encode(), value.encode())
    if spec.permit_pty:
        builder = builder.add_extension(PERMIT_PTY.encode(), b"")
    return base64.b64decode(builder.sign(ca_key).public_bytes().split(b" ")[1])


def sign_x509(
    spec: X509Spec, key: ec.EllipticCurvePublicKey, ca_key: ec.EllipticCurvePrivateKey, ca: x509.Certificate
) -> bytes:
    """The DER certificate of `spec` for `key`, with an empty subject: names are in the extension alone."""
    builder = x509.CertificateBuilder(
        issuer_name=ca.subject,
        subject_name=x509.Name([]),
        public_key=key,
        serial_number=spec.serial,
        not_valid_before=at_second(spec.not_before),
        not_valid_after=at_second(spec.not_after),
    )
    for extension, critical in extensions_of(spec, key, ca):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.DER)


def _ed25519(blob: bytes) -> Ed25519PublicKey:
    try:
        key = parse_blob(blob)
    except WireError as error:
        raise CertMismatch("certificate refused: not a public key") from error
    if key.kind is not KeyKind.ED25519:
        raise CertMismatch("certificate refused: only Ed25519 keys")
    return Ed25519PublicKey.from_public_bytes(key.point)
