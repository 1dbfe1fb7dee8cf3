"""A small X.509 authority for the wire's fake: CA, server certificate, client certificates from CSRs."""

from __future__ import annotations

import hashlib
import ipaddress
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from grantd import keys


class Authority:
    """One CA."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test broker CA")])
        start = datetime.now(UTC) - timedelta(minutes=1)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def server(self) -> tuple[bytes, bytes]:
        """Key and certificate (PEM) for 127.0.0.1, localhost and grantd.internal."""
        key = keys.new_key()
        names = [
            x509.DNSName("grantd.internal"),
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
        # as the broker's own: valid from before now, for a clock that is set back a little meanwhile
        age = timedelta(minutes=1)
        return key, self._issue(_public(key), names, ExtendedKeyUsageOID.SERVER_AUTH, timedelta(hours=24), age)

    def client(self, csr_der: bytes, identity: str, *, life: timedelta, age: timedelta = timedelta(0)) -> bytes:
        """A client certificate (PEM) for a CSR whose own signature holds; `age`: how long ago its life began."""
        csr = x509.load_der_x509_csr(csr_der)
        assert csr.is_signature_valid
        key = csr.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        uri: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"grantd://t1/{identity}")]
        return self._issue(key, uri, ExtendedKeyUsageOID.CLIENT_AUTH, life, age)

    def _issue(
        self,
        public: ec.EllipticCurvePublicKey,
        names: list[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        life: timedelta,
        age: timedelta = timedelta(0),
    ) -> bytes:
        start = datetime.now(UTC) - age
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + life)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)


def spki_sha256(csr_der: bytes) -> bytes:
    """SHA-256 of a CSR's public key, computed from the CSR alone."""
    spki = x509.load_der_x509_csr(csr_der).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(spki.public_bytes(serialization.Encoding.DER, form)).digest()


def _public(key_pem: bytes) -> ec.EllipticCurvePublicKey:
    key = serialization.load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.public_key()
