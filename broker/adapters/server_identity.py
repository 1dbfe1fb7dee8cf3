"""The broker's own TLS identity: a key that never leaves the process, signed by the signer, renewed before its end."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from broker.core.cert import SKEW, Ca, X509Spec
from broker.core.generation import Generation
from broker.core.secret import Secret
from broker.service.ports import Entropy, Signer

LIFE = timedelta(days=7)
RENEW_BEFORE = timedelta(days=2)


class ServerCertificate:
    """The present key and chain; `renew` makes the next one."""

    def __init__(self, *, signer: Signer, entropy: Entropy, hosts: tuple[str, ...]) -> None:
        self._signer, self._entropy, self._hosts = signer, entropy, hosts
        self.key: Secret[bytes] = Secret(b"")
        """PEM."""
        self.chain = b""
        """PEM."""
        self.ca = b""
        """PEM: whom client certificates must come from."""
        self.authorities: tuple[Generation, ...] = ()
        """The same, as the signer told them."""
        self.not_after: datetime | None = None

    async def is_due(self, now: datetime) -> bool:
        """Whether it should be renewed: its end is near, or other keys are believed. Raises SignerFault."""
        if self.not_after is None or now >= self.not_after - RENEW_BEFORE:
            return True
        return self.authorities != await self._signer.generations(Ca.X509)

    async def renew(self, now: datetime) -> None:
        """A new key and certificate. Raises SignerFault; the old one goes on."""
        key = ec.generate_private_key(ec.SECP256R1())
        request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "grantd")]))
            .sign(key, hashes.SHA256())
        )
        spec = X509Spec(
            uri="",
            hosts=self._hosts,
            not_before=now - SKEW,
            not_after=now + LIFE,
            server=True,
            serial=int.from_bytes(self._entropy.token(16), "big") >> 1 or 1,
        )
        signed = await self._signer.sign_x509(spec, request.public_bytes(Encoding.DER))
        authorities = await self._signer.generations(Ca.X509)
        # all at once, after the last question: a key never stands beside another renewal's chain
        self.chain = x509.load_der_x509_certificate(signed).public_bytes(Encoding.PEM)
        self.ca = b"".join(_pem(each.public) for each in authorities)
        self.authorities = authorities
        self.key = Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.not_after = spec.not_after


def hosts_of(*names: str) -> tuple[str, ...]:
    """Names and addresses for a certificate, each once; a wildcard address stands for this machine's loopback."""
    found = dict.fromkeys(name.lower() for name in names if name)
    for wildcard in ("0.0.0.0", "::"):  # noqa: S104  compared, not bound
        if found.pop(wildcard, False) is None:
            found |= dict.fromkeys(("127.0.0.1", "::1", "localhost"))
    return tuple(found)


def is_loopback(host: str) -> bool:
    """Whether an address only this machine reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
