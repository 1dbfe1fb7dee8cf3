"""The signer in this process: its own checks and code over keys of a test, and no socket."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from broker.adapters.store.store import SqlStore
from broker.core.cert import Ca, CertSpec, X509Spec, check, check_x509
from broker.core.errors import SignerFault, SignerRefused
from broker.core.generation import Generation
from broker.core.glass import UNUSED, read_use
from broker.core.identity import Identity, Target
from broker.core.ids import IdentityId, TargetId, TenantId
from broker.core.x509_match import key_of_csr
from broker.service.ports import Proof, Tx
from broker.signer.keys import CaKeys, load_keys, make_keys
from broker.signer.sign import sign_ssh, sign_x509
from tests.broker.service.by_hand import HandClock
from tests.broker.signer.world import believing, stepped


def stands(tx: Tx, subject: str) -> Identity | Target | None:
    """The row of a person or a target."""
    return tx.identities.get(IdentityId(subject)) or tx.targets.get(TargetId(subject))


class KeySigner:
    """ports.Signer: the signer's own checks and code, in this process. `asked` is what was signed, in order."""

    def __init__(self, keys: CaKeys, clock: HandClock) -> None:
        self._keys, self._clock = keys, clock
        self.asked: list[CertSpec | X509Spec] = []
        self.opened: dict[str, bytes] = {}
        """Sealed credentials, and the word that each was spent on."""
        self.fails = False
        self.store: SqlStore | None = None
        """What it believes is what stands there, but for what `held` says."""
        self.held: dict[str, bytes] = {}

    async def sign_ssh(self, spec: CertSpec, public_key: bytes, proof: Proof) -> bytes:
        if self.fails:
            raise SignerFault("the signer does not answer")
        check(spec, self._clock.now())
        self.asked.append(spec)
        return sign_ssh(spec, public_key, self._keys.ssh[spec.ca])

    async def sign_x509(self, spec: X509Spec, csr_der: bytes) -> bytes:
        check_x509(spec, self._clock.now())
        self.asked.append(spec)
        return sign_x509(spec, key_of_csr(csr_der), self._keys.x509_key, self._keys.x509_certificate)

    async def sign_probe(self, spec: CertSpec, public_key: bytes, generation: int) -> bytes:
        check(spec, self._clock.now())
        self.asked.append(spec)
        return sign_ssh(spec, public_key, self._keys.egress_of(generation))

    async def generations(self, ca: Ca) -> tuple[Generation, ...]:
        return self._keys.generations[ca]

    async def rotate(self, ca: Ca, statement: bytes, signatures: tuple[bytes, ...]) -> tuple[Generation, ...]:
        if self.fails:
            raise SignerFault("the signer does not answer")
        self._keys = stepped(self._keys, statement, self._clock.now())
        return self._keys.generations[ca]

    async def learn(self, statement: bytes, signatures: tuple[bytes, ...]) -> None:
        raise NotImplementedError

    async def open_glass(self, use: bytes, signature: bytes) -> None:
        if self.fails:
            raise SignerFault("the signer does not answer")
        glass = read_use(use).glass
        if self.opened.setdefault(glass, use) != use:
            raise SignerRefused(f"certificate refused: {UNUSED}")

    async def believed(self, tenant: str, subject: str) -> bytes:
        if self.fails:
            raise SignerFault("the signer does not answer")
        if subject in self.held or self.store is None:
            return self.held.get(subject, b"")
        return await self.store.read(TenantId(tenant), lambda tx: believing(stands(tx, subject)))

    async def ssh_ca(self, name: str) -> bytes:
        return self._keys.public(Ca(name))

    async def x509_ca(self) -> bytes:
        return self._keys.public(Ca.X509)


@cache
def ca_keys() -> CaKeys:
    """Keys of every CA: made once for all tests of a process."""
    with TemporaryDirectory(prefix="grantd-signer-") as name:
        folder = Path(name) / "keys"
        make_keys(folder, datetime(2026, 1, 1, tzinfo=UTC))
        return load_keys(folder, owner=os.geteuid())
