"""Makes certificates from specifications that were already checked. Adds nothing that the specification does not say.

OpenSSH certificates are put together here, field by field, and read back by a parser that shares no code with this;
cryptography's builder, which also adds nothing, takes twice as long as fields and signature together (ADR 0039).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from broker.core.cert import Ca, CertMismatch, CertSpec, X509Spec, critical_options, whole_seconds
from broker.core.sshcert import CERT_KIND, HOST, PERMIT_PTY, USER
from broker.core.sshwire import KeyKind, WireError, ed25519_blob, parse_blob, string
from broker.core.x509_match import at_second, extensions_of

_NONCE_BYTES: Final = 32


def sign_ssh(spec: CertSpec, public_key: bytes, ca_key: Ed25519PrivateKey) -> bytes:
    """The certificate blob of `spec` for the Ed25519 key of the blob `public_key`. Source: PROTOCOL.certkeys."""
    ca_blob = ed25519_blob(ca_key.public_key().public_bytes_raw())
    signed = b"".join(
        (
            string(CERT_KIND),
            string(os.urandom(_NONCE_BYTES)),
            string(_ed25519_point(public_key)),
            spec.serial.to_bytes(8, "big"),
            (HOST if spec.ca is Ca.HOST else USER).to_bytes(4, "big"),
            string(spec.key_id.encode()),
            string(b"".join(string(name.encode()) for name in spec.principals)),
            whole_seconds(spec.valid_after).to_bytes(8, "big"),
            whole_seconds(spec.valid_before).to_bytes(8, "big"),
            string(_options({name: string(value.encode()) for name, value in critical_options(spec).items()})),
            string(_options({PERMIT_PTY: b""} if spec.permit_pty else {})),
            string(b""),  # reserved
            string(ca_blob),
        )
    )
    return signed + string(string(KeyKind.ED25519.encode()) + string(ca_key.sign(signed)))


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


def _options(values: Mapping[str, bytes]) -> bytes:
    """Names and values, by name: sshd wants them sorted, and each once."""
    return b"".join(string(name.encode()) + string(values[name]) for name in sorted(values))


def _ed25519_point(blob: bytes) -> bytes:
    try:
        key = parse_blob(blob)
    except WireError as error:
        raise CertMismatch("certificate refused: not a public key") from error
    if key.kind is not KeyKind.ED25519:
        raise CertMismatch("certificate refused: only Ed25519 keys")
    return key.point
