"""The signer in this process: its own checks and code, over keys that stay where its process would keep them."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import ec

from broker.adapters.store.store import SqlStore
from broker.core.cert import Ca, CertSpec, X509Spec, check, check_x509
from broker.core.generation import Generation
from broker.core.ids import IdentityId, TargetId, TenantId
from broker.core.x509_match import key_of_csr
from broker.service.ports import Proof, Tx
from broker.signer.keys import CaKeys
from broker.signer.sign import sign_ssh, sign_x509
from tests.broker.signer.world import believing, stepped


class CodeSigner:
    """ports.Signer with the signer's own code and keys, in this process."""

    def __init__(self, keys: CaKeys, store: SqlStore) -> None:
        self.keys, self._store = keys, store

    async def sign_ssh(self, spec: CertSpec, public_key: bytes, proof: Proof) -> bytes:
        check(spec, datetime.now(UTC))
        return sign_ssh(spec, public_key, self.keys.ssh[spec.ca])

    async def sign_x509(self, spec: X509Spec, csr_der: bytes) -> bytes:
        check_x509(spec, datetime.now(UTC))
        return self.signed(spec, key_of_csr(csr_der))

    async def sign_probe(self, spec: CertSpec, public_key: bytes, generation: int) -> bytes:
        check(spec, datetime.now(UTC))
        return sign_ssh(spec, public_key, self.keys.egress_of(generation))

    async def generations(self, ca: Ca) -> tuple[Generation, ...]:
        return self.keys.generations[ca]

    async def rotate(self, ca: Ca, statement: bytes, signatures: tuple[bytes, ...]) -> tuple[Generation, ...]:
        self.keys = stepped(self.keys, statement, datetime.now(UTC))
        return self.keys.generations[ca]

    async def learn(self, statement: bytes, signatures: tuple[bytes, ...]) -> None:
        raise NotImplementedError

    async def open_glass(self, use: bytes, signature: bytes) -> None:
        raise NotImplementedError

    async def believed(self, tenant: str, subject: str) -> bytes:
        def unit(tx: Tx) -> bytes:
            return believing(tx.identities.get(IdentityId(subject)) or tx.targets.get(TargetId(subject)))

        return await self._store.read(TenantId(tenant), unit)

    async def ssh_ca(self, name: str) -> bytes:
        return self.keys.public(Ca(name))

    async def x509_ca(self) -> bytes:
        return self.keys.public(Ca.X509)

    def signed(self, spec: X509Spec, key: ec.EllipticCurvePublicKey) -> bytes:
        """Any certificate at all, such as one that has expired."""
        return sign_x509(spec, key, self.keys.x509_key, self.keys.x509_certificate)
