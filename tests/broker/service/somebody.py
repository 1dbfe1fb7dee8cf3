"""Whoever calls in a test, with the keys of theirs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.core.identity import Caller, Identity
from broker.core.ids import IdentityId
from broker.core.sshsig import MAGIC
from broker.core.sshwire import ed25519_blob, string
from broker.service.identify import caller_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Somebody:
    """One who calls, with the keys of theirs."""

    row: Identity
    approval: Ed25519PrivateKey
    tls: ec.EllipticCurvePrivateKey

    @property
    def caller(self) -> Caller:
        return caller_of(self.row)

    @property
    def id(self) -> IdentityId:
        return self.row.id

    def sign(self, namespace: str, message: bytes) -> bytes:
        """An SSHSIG by the approval key. Source: OpenSSH's PROTOCOL.sshsig."""
        envelope = string(namespace.encode()) + string(b"") + string(b"sha512")
        raw = self.approval.sign(MAGIC + envelope + string(hashlib.sha512(message).digest()))
        blob = ed25519_blob(self.approval.public_key().public_bytes_raw())
        signature = string(string(b"ssh-ed25519") + string(raw))
        return MAGIC + (1).to_bytes(4, "big") + string(blob) + envelope + signature

    def csr(self) -> bytes:
        """A CSR of the TLS key, DER."""
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        return builder.sign(self.tls, hashes.SHA256()).public_bytes(Encoding.DER)


def spki_sha256(key: ec.EllipticCurvePrivateKey) -> bytes:
    """As identities' rows keep their client keys."""
    return hashlib.sha256(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
