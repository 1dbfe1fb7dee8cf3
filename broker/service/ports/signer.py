"""The only holder of CA keys, as services see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from broker.core.cert import CertSpec, X509Spec

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Why a certificate may be signed: the record that people signed and their signatures.

    Empty where policy let it run unattended.
    """

    record: bytes
    signatures: tuple[bytes, ...]


class Signer(Protocol):
    """The only holder of CA keys, another process. Raises SignerFault; checks what it signed before returning it."""

    async def sign_ssh(self, spec: CertSpec, public_key: bytes, proof: Proof) -> bytes:
        """An OpenSSH certificate blob for the Ed25519 `public_key` blob (SSH wire form)."""
        ...

    async def sign_x509(self, spec: X509Spec, csr_der: bytes) -> bytes:
        """A DER certificate for the key of the CSR; names come from the spec alone."""
        ...

    async def ssh_ca(self, name: str) -> bytes:
        """Public key blob (SSH wire form) of the `ingress`, `egress` or `host` CA."""
        ...

    async def x509_ca(self) -> bytes:
        """The X.509 CA certificate, DER."""
        ...
