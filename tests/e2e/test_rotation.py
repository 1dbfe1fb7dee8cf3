"""All four CAs change their keys while work goes on: nothing fails meanwhile, and the old keys are good for nothing.

Real broker, real signer, stock sshd and ssh (I-06, I-54).
"""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from broker.core.cert import Ca, X509Spec, client_uri, egress_spec
from broker.core.ids import GrantId, TenantId
from broker.core.sshcert import parse
from broker.core.x509_match import key_of_csr
from broker.signer.keys import CaKeys, load_keys
from broker.signer.sign import sign_ssh, sign_x509
from grantd import Client, GrantdError, keys
from grantd.profile import Profile
from tests.broker.proxy.forge import Forged, packed
from tests.e2e.programs import finish
from tests.e2e.rotating import Load
from tests.e2e.stage import FREE, House

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-rotation")]
CAS = ("ingress", "egress", "host", "x509")


def step(house: House, name: str) -> None:
    """One step of all four, as an Owner takes it."""
    for ca in CAS:
        said = house.ctl("owner", "ca", "rotate", ca, f"--{name}", "--force")
        assert said.status == 0, (ca, name, said.err)


@pytest.fixture
def old(house: House, tmp_path: Path) -> CaKeys:
    """The keys as they are before: a thief's copy."""
    shutil.copytree(house.data / "signer", tmp_path / "stolen")
    return load_keys(tmp_path / "stolen", owner=os.geteuid())


@pytest.fixture
def load(house: House) -> Iterator[Load]:
    """Work under way."""
    made = Load(house=house)
    made.start()
    yield made
    made.stop()


def test_nothing_fails_while_all_keys_change_and_the_old_ones_are_useless_then(
    house: House, old: CaKeys, load: Load, tmp_path: Path
) -> None:
    """Start, switch, finish under load: 0 failed. Then what the old keys sign is refused by door, target and TLS."""
    with Client(house.profile("other")) as stale:
        assert stale.whoami().name == "other"
        for name in ("start", "switch", "finish"):
            step(house, name)
            trust(house)
            load.another_turn()
        load.stop()
        print(f"\nturns while all four keys changed: {dict(load.turns)}; failed: {len(load.failed)}")  # noqa: T201  what -s shows
        assert load.failed == []
        # its connection was made before, and what it showed there is of the old key
        with pytest.raises(GrantdError) as refused:
            stale.whoami()
        assert refused.value.code == "certificate_expired"
    assert not [ca for ca in CAS if (house.data / "signer" / f"{ca}.key").exists()]
    house.forget()
    the_door_refuses(house, old, tmp_path)
    the_target_refuses(house, old, tmp_path)
    tls_refuses(house, old)
    assert house.stop() == 0
    house.serve()
    assert house.run(house.grant(), "uname").finished().exit_status == 0


def trust(house: House) -> None:
    """What an administrator does: pastes what `target add` prints into the host's file."""
    said = house.ctl("owner", "ca", "list", "-o", "json").json()[0]
    (egress,) = [ca for ca in said["cas"] if ca["name"] == "egress"]
    house.sshd.trust({each["public_key"] for each in egress["generations"] if each["stage"] != "old"})


def the_door_refuses(house: House, old: CaKeys, folder: Path) -> None:
    """A certificate with every field of a good one, signed by the old ingress key; the good one is let in."""
    grant = house.grant(FREE)
    files = house.ssh_files(grant)
    assert house.ssh(files, "uname").status == 0
    good = parse(base64.b64decode(files.certificate.read_text().split()[1]))
    forged = Forged(
        point=good.public_key[-32:], serial=good.serial, key_id=good.key_id.encode(),
        principals=packed(*(name.encode() for name in good.principals)), after=good.valid_after,
        before=good.valid_before,
    )  # fmt: skip
    line = base64.b64encode(forged.signed(old.ssh[Ca.INGRESS])).decode()
    certificate = folder / "old-cert.pub"
    certificate.write_text(f"ssh-ed25519-cert-v01@openssh.com {line}\n")
    said = house.ssh(replace(files, certificate=certificate), "uname")
    assert said.status == 255
    assert "Permission denied" in said.err
    assert old.public(Ca.HOST) not in [
        base64.b64decode(known.split()[3]) for known in files.known_hosts.read_text().splitlines()
    ]
    assert house.ssh(files, "uname").status == 0


def the_target_refuses(house: House, old: CaKeys, folder: Path) -> None:
    """The host no longer lists the old egress key: a certificate of it, right in every other way, opens nothing."""
    lines = (house.sshd.files.principals / house.sshd.login).read_text().split()
    key = folder / "made"
    assert finish(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]).status == 0
    now = datetime.now(UTC)
    spec = egress_spec(
        grant=GrantId(house.grant()), serial=7, principal=lines[0], source_address="127.0.0.1", force_command="id",
        permit_pty=False, now=now, not_after=now + timedelta(hours=1),
    )  # fmt: skip
    public = base64.b64decode(key.with_suffix(".pub").read_text().split()[1])
    for ca, status in ((old, 255), (load_keys(house.data / "signer", owner=os.geteuid()), 0)):
        blob = base64.b64encode(sign_ssh(spec, public, ca.ssh[Ca.EGRESS])).decode()
        (folder / "made-cert.pub").write_text(f"ssh-ed25519-cert-v01@openssh.com {blob}\n")
        host, quiet = house.sshd, ("-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o")
        where = ("StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-p", str(host.port))
        said = finish(["ssh", *quiet, *where, "-i", str(key), f"{host.login}@{host.host}"])
        assert said.status == status, said.err


def tls_refuses(house: House, old: CaKeys) -> None:
    """A client certificate for an Owner's own key, signed by the old X.509 key: no handshake."""
    profile = Profile.load(house.profile("owner"))
    with Client(profile.directory) as client:
        me = client.whoami()
    now = datetime.now(UTC)
    spec = X509Spec(
        uri=client_uri(TenantId(me.tenant), me.identity_id), hosts=(), not_before=now - timedelta(seconds=30),
        not_after=now + timedelta(hours=1), server=False, serial=7,
    )  # fmt: skip
    good, key = profile.certificate, key_of_csr(keys.csr_of(profile.key))
    for ca, works in ((old, False), (load_keys(house.data / "signer", owner=os.geteuid()), True)):
        made = x509.load_der_x509_certificate(sign_x509(spec, key, ca.x509_key, ca.x509_certificate))
        profile.put_certificate(made.public_bytes(Encoding.PEM), profile.ca)
        with Client(profile.directory) as client:
            if works:
                assert client.whoami().tenant == me.tenant
            else:
                with pytest.raises(GrantdError) as refused:
                    client.whoami()
                assert refused.value.code == "unreachable"
    profile.put_certificate(good, profile.ca)
