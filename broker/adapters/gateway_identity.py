"""The gateway's SSH host key.

Made at each start, certified by the host CA, so that clients pin the CA and no key on disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.core.cert import SKEW, Ca, CertSpec
from broker.core.secret import Secret
from broker.core.sshwire import ed25519_blob
from broker.service.ports import Entropy, Proof, Signer

LIFE = timedelta(days=30)
RENEW_BEFORE = timedelta(days=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayIdentity:
    """What the SSH door shows, and whose certificates it believes."""

    host_key: Secret[bytes]
    """Ed25519 private key, OpenSSH PEM."""
    host_certificate: bytes
    """Certificate blob, SSH wire form."""
    host_ca: bytes
    """Public key blob that signed it."""
    ingress_cas: tuple[bytes, ...]
    """Public key blobs of the one CA whose user certificates are accepted: two while a key follows another."""
    not_after: datetime


async def gateway_identity(*, signer: Signer, entropy: Entropy, name: str, now: datetime) -> GatewayIdentity:
    """A fresh host key and its certificate for `name`, the host that clients connect to.

    Raises:
        SignerFault: the signer would not.
    """
    key = Ed25519PrivateKey.generate()
    spec = CertSpec(
        ca=Ca.HOST,
        key_id=name,
        serial=int.from_bytes(entropy.token(8), "big") or 1,
        principals=(name,),
        valid_after=now - SKEW,
        valid_before=now + LIFE,
        source_address="",
        force_command="",
        permit_pty=False,
    )
    blob = ed25519_blob(key.public_key().public_bytes_raw())
    return GatewayIdentity(
        host_key=Secret(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())),
        host_certificate=await signer.sign_ssh(spec, blob, Proof(record=b"", signatures=())),
        host_ca=await signer.ssh_ca("host"),
        ingress_cas=await believed(signer, Ca.INGRESS),
        not_after=spec.valid_before,
    )


async def believed(signer: Signer, ca: Ca) -> tuple[bytes, ...]:
    """The public halves that count now. Raises SignerFault."""
    return tuple(each.public for each in await signer.generations(ca))
