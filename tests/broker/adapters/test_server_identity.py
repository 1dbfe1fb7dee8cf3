"""The broker's TLS identity: what stock tools accept, renewed before its end, and unharmed by a renewal that fails."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from broker.adapters.server_identity import LIFE, RENEW_BEFORE, ServerCertificate, hosts_of, is_loopback
from broker.adapters.system import SystemEntropy
from broker.core.cert import Ca, X509Spec
from broker.core.errors import SignerFault
from broker.core.generation import Generation
from tests.broker.service.world import House

HOSTS = ("broker.example", "127.0.0.1", "::1")


class DyingSigner:
    """It cannot be reached any more after so many answers."""

    def __init__(self, house: House, answers: int) -> None:
        self._inner, self._answers = house.signer, answers

    async def sign_x509(self, spec: X509Spec, csr_der: bytes) -> bytes:
        self._answer()
        return await self._inner.sign_x509(spec, csr_der)

    async def generations(self, ca: Ca) -> tuple[Generation, ...]:
        self._answer()
        return await self._inner.generations(ca)

    def _answer(self) -> None:
        self._answers -= 1
        if self._answers < 0:
            raise SignerFault("the signer cannot be reached")


@pytest.fixture
async def certificate(house: House) -> ServerCertificate:
    """Made now, by the clock of the house."""
    made = ServerCertificate(signer=house.signer, entropy=SystemEntropy(), hosts=HOSTS)
    assert await made.is_due(house.clock.now())
    await made.renew(house.clock.now())
    return made


def openssl(*words: str) -> subprocess.CompletedProcess[str]:
    """The stock tool."""
    return subprocess.run(["openssl", *words], capture_output=True, text=True, check=False, timeout=20)


async def test_openssl_verifies_it_for_its_names(house: House, certificate: ServerCertificate, tmp_path: Path) -> None:
    """Chain, purpose, every name and address that clients use; and no other name."""
    chain, ca = tmp_path / "chain.pem", tmp_path / "ca.pem"
    chain.write_bytes(certificate.chain)
    ca.write_bytes(certificate.ca)
    at = str(int(house.clock.now().timestamp()))
    words = ("verify", "-x509_strict", "-purpose", "sslserver", "-attime", at, "-CAfile", str(ca))
    for kind, name in (("-verify_hostname", HOSTS[0]), ("-verify_ip", HOSTS[1]), ("-verify_ip", HOSTS[2])):
        assert openssl(*words, kind, name, str(chain)).returncode == 0
    assert openssl(*words, "-verify_hostname", "other.example", str(chain)).returncode != 0
    as_client = [word.replace("sslserver", "sslclient") for word in words]
    assert openssl(*as_client, str(chain)).returncode != 0


async def test_it_says_what_it_is(house: House, certificate: ServerCertificate) -> None:
    """A server of seven days, with its own key, and no authority of its own."""
    read = x509.load_pem_x509_certificate(certificate.chain)
    key = load_pem_private_key(certificate.key.reveal(), password=None)
    assert read.public_key() == key.public_key()
    usage = read.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not read.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert read.not_valid_before_utc < house.clock.now()
    assert certificate.not_after is not None
    assert timedelta(0) <= certificate.not_after - read.not_valid_after_utc < timedelta(seconds=1)
    assert b"PRIVATE" not in repr(certificate.key).encode()


async def test_it_is_due_two_days_before_its_end(house: House, certificate: ServerCertificate) -> None:
    """And each renewal brings a new key and a new serial."""
    clock, old = house.clock, (certificate.key.reveal(), certificate.chain)
    clock.forward((LIFE - RENEW_BEFORE).total_seconds() - 1)
    assert not await certificate.is_due(clock.now())
    clock.forward(1)
    assert await certificate.is_due(clock.now())
    await certificate.renew(clock.now())
    assert not await certificate.is_due(clock.now())
    assert certificate.key.reveal() != old[0]
    assert x509.load_pem_x509_certificate(certificate.chain).serial_number != (
        x509.load_pem_x509_certificate(old[1]).serial_number
    )


@pytest.mark.parametrize("answers", [0, 1])
async def test_a_renewal_that_fails_leaves_the_old_one(
    house: House, certificate: ServerCertificate, answers: int
) -> None:
    """Key and chain never come from two different renewals."""
    before = (certificate.key, certificate.chain, certificate.ca, certificate.not_after)
    certificate._signer = DyingSigner(house, answers)  # type: ignore[assignment]  # noqa: SLF001
    house.clock.forward(timedelta(days=6).total_seconds())
    with pytest.raises(SignerFault):
        await certificate.renew(house.clock.now())
    assert (certificate.key, certificate.chain, certificate.ca, certificate.not_after)[1:] == before[1:]
    assert certificate.key is before[0]
    certificate._signer = house.signer  # noqa: SLF001
    assert await certificate.is_due(house.clock.now())


@pytest.mark.parametrize(
    ("names", "hosts"),
    [
        (("broker.example", "broker.example", ""), ("broker.example",)),
        (("Broker.EXAMPLE",), ("broker.example",)),
        (("0.0.0.0",), ("127.0.0.1", "::1", "localhost")),  # noqa: S104
        (("::", "gate.example"), ("gate.example", "127.0.0.1", "::1", "localhost")),
        (("0.0.0.0", "::", "127.0.0.1"), ("127.0.0.1", "::1", "localhost")),  # noqa: S104
    ],
)
def test_the_names_of_a_certificate(names: tuple[str, ...], hosts: tuple[str, ...]) -> None:
    """Each once, in lower case; nobody connects to a wildcard address."""
    assert hosts_of(*names) == hosts


def test_what_only_this_machine_reaches() -> None:
    """Addresses and the one name."""
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.0.2.1", "broker.example", "localhost.example", "")))  # noqa: S104
