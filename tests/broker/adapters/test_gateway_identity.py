"""The gateway's SSH identity, as stock OpenSSH reads it."""

from __future__ import annotations

import base64
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from broker.adapters.gateway_identity import LIFE, GatewayIdentity, gateway_identity
from broker.adapters.system import SystemEntropy
from broker.core.cert import CertSpec
from broker.core.errors import SignerFault
from broker.core.sshwire import fingerprint_of
from broker.service.ports import Proof
from tests import peers
from tests.broker.adapters.store.fixtures import NOW
from tests.broker.service.world import House

NAME = "gate.example"


async def identity(house: House) -> GatewayIdentity:
    """A fresh one, by the clock of the house."""
    return await gateway_identity(signer=house.signer, entropy=SystemEntropy(), name=NAME, now=house.clock.now())


@pytest.mark.sshd
async def test_ssh_keygen_reads_what_it_is(house: House, tmp_path: Path) -> None:
    """A host certificate for one name, by the host CA, with nothing that a user's would have (I-06, I-07)."""
    made = await identity(house)
    file = tmp_path / "host-cert.pub"
    file.write_text(f"ssh-ed25519-cert-v01@openssh.com {base64.b64encode(made.host_certificate).decode()}\n")
    shown = _keygen("-L", "-f", str(file))
    lines = [line.strip() for line in shown.splitlines()]
    ca = fingerprint_of(await house.signer.ssh_ca("host"))
    assert "Type: ssh-ed25519-cert-v01@openssh.com host certificate" in lines
    assert any(line.startswith("Signing CA: ED25519") and ca in line for line in lines)
    assert f'Key ID: "{NAME}"' in lines
    assert lines[lines.index("Principals:") + 1] == NAME
    assert lines[lines.index("Principals:") + 2] == "Critical Options: (none)"
    assert "Extensions: (none)" in lines


@pytest.mark.sshd
async def test_the_key_belongs_to_the_certificate(house: House, tmp_path: Path) -> None:
    """What the door proves to have is what the CA has certified."""
    made = await identity(house)
    key, cert = tmp_path / "key", tmp_path / "cert.pub"
    key.write_bytes(made.host_key.reveal())
    key.chmod(0o600)
    cert.write_text(f"ssh-ed25519-cert-v01@openssh.com {base64.b64encode(made.host_certificate).decode()}\n")
    fingerprint = _keygen("-l", "-f", str(key)).split()[1]
    assert fingerprint in _keygen("-L", "-f", str(cert))
    assert fingerprint not in (fingerprint_of(made.ingress_cas[0]), fingerprint_of(await house.signer.ssh_ca("host")))


async def test_each_start_has_a_key_of_its_own(house: House) -> None:
    """Nothing on disk to steal; clients pin the CA."""
    one, two = await identity(house), await identity(house)
    assert one.host_key.reveal() != two.host_key.reveal()
    assert one.host_certificate != two.host_certificate
    assert one.not_after == house.clock.now() + LIFE
    assert timedelta(days=7) <= LIFE <= timedelta(days=30)
    assert "PRIVATE" not in repr(one)


async def test_the_door_believes_the_ingress_ca_alone(house: House) -> None:
    """I-06: neither the egress CA nor the host CA logs anybody in here."""
    made = await identity(house)
    assert made.ingress_cas == (await house.signer.ssh_ca("ingress"),)
    assert made.ingress_cas[0] not in (await house.signer.ssh_ca("egress"), await house.signer.ssh_ca("host"))


async def test_without_a_signer_there_is_no_door() -> None:
    """The fault goes through: nothing is served under a key that nobody certified."""

    class Dead:
        async def sign_ssh(self, spec: CertSpec, public_key: bytes, proof: Proof) -> bytes:
            raise SignerFault("the signer cannot be reached")

    with pytest.raises(SignerFault):
        await gateway_identity(signer=Dead(), entropy=SystemEntropy(), name=NAME, now=NOW)  # type: ignore[arg-type]


def _keygen(*words: str) -> str:
    program = peers.find("ssh-keygen")
    assert program is not None
    done = subprocess.run([str(program), *words], capture_output=True, text=True, check=True, timeout=20)
    return done.stdout
