"""The only holder of CA keys, as services see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from broker.core.cert import Ca, CertSpec, X509Spec
from broker.core.generation import Generation

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Why a certificate may be signed: the record that people signed and their signatures.

    Empty where policy let it run unattended.
    """

    record: bytes
    signatures: tuple[bytes, ...]
    access: bytes = b""
    """The record of the access that people granted, where the action rests on what it says; less proves less."""
    access_signatures: tuple[bytes, ...] = ()


class Signer(Protocol):
    """The only holder of CA keys, another process. Raises SignerFault, and SignerRefused where it would not.

    Checks what it signed before returning it.
    """

    async def sign_ssh(self, spec: CertSpec, public_key: bytes, proof: Proof) -> bytes:
        """An OpenSSH certificate blob for the Ed25519 `public_key` blob (SSH wire form)."""
        ...

    async def sign_x509(self, spec: X509Spec, csr_der: bytes) -> bytes:
        """A DER certificate for the key of the CSR; names come from the spec alone."""
        ...

    async def sign_probe(self, spec: CertSpec, public_key: bytes, generation: int) -> bytes:
        """As sign_ssh, for the check of a target: one of the commands of core.looks, by that egress generation."""
        ...

    async def generations(self, ca: Ca) -> tuple[Generation, ...]:
        """The keys of a CA that are believed now, ascending; exactly one of them signs."""
        ...

    async def rotate(self, ca: Ca, statement: bytes, signatures: tuple[bytes, ...]) -> tuple[Generation, ...]:
        """Takes the step of a CA's rotation that an owner's statement says, for good when this returns.

        Returns:
            The generations after it.
        """
        ...

    async def learn(self, statement: bytes, signatures: tuple[bytes, ...]) -> None:
        """Has the signer believe a statement (core/statement.py). Raises SignerRefused naming the rule."""
        ...

    async def open_glass(self, use: bytes, signature: bytes) -> None:
        """Spends a sealed credential on this word (core/glass.py), for good when this returns; again for the same word.

        Raises SignerRefused naming the rule.
        """
        ...

    async def believed(self, tenant: str, subject: str) -> bytes:
        """The newest statement about a person, a target or the tenant's programs; empty where there is none."""
        ...

    async def ssh_ca(self, name: str) -> bytes:
        """Public key blob (SSH wire form) of what signs now for the `ingress`, `egress` or `host` CA."""
        ...

    async def x509_ca(self) -> bytes:
        """The X.509 CA certificate that signs now, DER."""
        ...
