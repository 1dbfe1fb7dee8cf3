"""From `grantctl revoke` to the target's own sshd, which refuses a stolen certificate by the list that it keeps.

A real broker, signer and sshd with a login of its own for the list (I-02, ADR 0037). What is stolen is signed here with
the egress CA's own key, as whoever took it out of a broker's memory would hold it: good for a minute.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncssh
import pytest

from broker.core.cert import egress_spec, principal_of
from broker.core.ids import GrantId, TargetId, TenantId
from broker.core.revoking import FILE
from broker.signer.keys import load_ed25519
from broker.signer.sign import sign_ssh
from grantd import asking
from grantd.v1 import admin_pb2, options_pb2
from tests import peers
from tests.e2e.programs import finish, wait_until
from tests.e2e.stage import TEAM, House
from tests.peers_sshd import Sshd, may_unshare

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.sshd,
    pytest.mark.xdist_group("e2e-revocation-lists"),
    pytest.mark.skipif(not may_unshare(), reason="a login of its own takes a mount namespace"),
]
KEPT, KEEPER, UID = "kept1", "grantd-krl", 4343
WITHIN = 20.0
"""Seconds that a list may take on a machine with other things to do; the certificate lives for sixty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A target whose sshd obeys its list."""

    house: House
    sshd: Sshd
    tenant: TenantId
    target_id: TargetId
    file: Path
    folder: Path

    def steal(self, grant: str) -> list[str]:
        """The words that log in with a certificate of this grant, as somebody else would."""
        place = self.folder / secrets.token_hex(4)
        place.mkdir(mode=0o700)
        now = datetime.now(UTC)
        spec = egress_spec(
            grant=GrantId(grant), serial=secrets.randbits(63) | 2,
            principal=principal_of(self.tenant, self.target_id, self.sshd.login),
            source_address="127.0.0.1", force_command="", permit_pty=False, now=now,
            not_after=now + timedelta(seconds=60),
        )  # fmt: skip
        key = asyncssh.generate_private_key("ssh-ed25519")
        ca = load_ed25519(self.house.data / "signer" / "egress.key", os.geteuid())
        certificate = base64.b64encode(sign_ssh(spec, key.public_data, ca)).decode()
        key.write_private_key(place / "key")
        (place / "key").chmod(0o600)
        (place / "key-cert.pub").write_text(f"ssh-ed25519-cert-v01@openssh.com {certificate}\n")
        (place / "known").write_text(f"[{self.sshd.host}]:{self.sshd.port} {self.sshd.host_key}\n")
        return ["ssh", "-F", "none", "-i", str(place / "key"), "-o", f"CertificateFile={place}/key-cert.pub", "-o",
                f"UserKnownHostsFile={place}/known", "-o", "BatchMode=yes", "-p", str(self.sshd.port),
                f"{self.sshd.login}@{self.sshd.host}", "echo in"]  # fmt: skip

    def lets_in(self, words: list[str]) -> bool:
        """Whether sshd lets it in; whatever else went wrong fails the test."""
        told = finish(words)
        assert told.out == "in\n" or "Permission denied" in told.err, told.err
        return told.out == "in\n"

    def doctor(self) -> str:
        return self.house.ctl("owner", "target", "doctor", KEPT).out


@pytest.fixture(scope="module")
def kept() -> Iterator[Kept]:
    """The way of docs/revocation-lists.md: a login, the target, a look, and only then RevokedKeys."""
    for program in ("sshd", "ssh"):
        peers.require(program)
    folder = Path(tempfile.mkdtemp(prefix="grantd-lists-"))
    folder.chmod(0o755)
    home = folder / "home"
    home.mkdir(mode=0o755)
    os.chown(home, UID, UID)
    house = House.build(folder / "house")
    sshd = Sshd.start(
        folder / "kept", user_cas=(), principals={}, more_users=(f"{KEEPER}:x:{UID}:{UID}::{home}:/bin/sh",)
    )  # fmt: skip
    try:
        made = Kept(
            house=house, sshd=sshd, tenant=TenantId(house.client("owner").whoami().tenant),
            target_id=TargetId(_add(house, sshd)), file=home / FILE, folder=folder,
        )  # fmt: skip
        wait_until(made.file.exists, 45)
        assert "it keeps a fresh revocation list that its sshd does not read" in made.doctor()
        config = sshd.files.config
        config.write_text(f"{config.read_text()}Match User {sshd.login}\n    RevokedKeys {made.file}\n")
        sshd.restart()
        assert "it keeps a fresh revocation list, and its sshd obeys it" in made.doctor()
        yield made
    finally:
        house.close()
        sshd.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _add(house: House, sshd: Sshd) -> str:
    message = admin_pb2.PutTargetRequest(
        idempotency_key=asking.new_key(),
        target=admin_pb2.Target(
            name=KEPT, host=sshd.host, port=sshd.port, host_key=sshd.host_key, teams=[TEAM],
            tier=options_pb2.AUTONOMY_TIER_TRUSTED, logins=[admin_pb2.TargetLogin(name=sshd.login)],
            ssh=admin_pb2.SshTarget(krl_login=KEEPER),
        ),
    )  # fmt: skip
    house.signed(message)
    owner = house.client("owner")
    told = owner.call(owner.admin.PutTarget, message)
    lines = told.sshd_lines.splitlines()
    assert not any("RevokedKeys" in line and not line.startswith("#") for line in lines)
    sshd.trust({line for line in lines if line.startswith("ssh-ed25519 ")})
    for login in (sshd.login, KEEPER):
        sshd.allow(login, {line for line in lines if line.startswith("grantd:") and line.endswith(f":{login}")})
    return str(message.target.id or told.target.id)


def test_a_stolen_certificate_of_a_revoked_grant_is_refused_by_the_target(kept: Kept) -> None:
    """Still valid, from the gateway's own address: sshd refuses it by its list; another grant's is let in."""
    bad, good = kept.house.grant(KEPT), kept.house.grant(KEPT)
    stolen, other = kept.steal(bad), kept.steal(good)
    assert kept.lets_in(stolen), kept.sshd.log()[-1500:]
    assert kept.house.ctl("owner", "grants", "revoke", bad, "--reason", "stolen").status == 0
    done = time.monotonic()
    there = wait_until(lambda: bad.encode() in kept.file.read_bytes(), WITHIN)
    sys.stdout.write(f"on the list {there - done:.2f} s after grantctl said that it is revoked\n")
    assert not kept.lets_in(stolen)
    assert "revoked by file" in kept.sshd.log()
    assert kept.lets_in(other)
    assert kept.house.run(good, "echo through").finished().id, "and the gateway's own way in is open"


def test_revoking_a_whole_target_too(kept: Kept) -> None:
    """All its grants at once; a new grant afterwards is let in."""
    grants = [kept.house.grant(KEPT) for _ in range(3)]
    stolen = [kept.steal(grant) for grant in grants]
    told = kept.house.ctl("owner", "revoke", "--target", KEPT, "--reason", "all of it")
    assert told.status == 0, told.err
    wait_until(lambda: all(grant.encode() in kept.file.read_bytes() for grant in grants), WITHIN)
    assert [kept.lets_in(each) for each in stolen] == [False] * 3
    assert kept.lets_in(kept.steal(kept.house.grant(KEPT)))


def test_a_broker_that_died_before_the_push_pushes_at_its_start(kept: Kept) -> None:
    """Revoked and killed: what is in the store is on the list after the next start, and a list that is gone is back."""
    grant = kept.house.grant(KEPT)
    stolen = kept.steal(grant)
    assert kept.house.ctl("owner", "grants", "revoke", grant, "--reason", "and then the light went out").status == 0
    kept.house.kill()
    kept.file.unlink()
    assert not kept.lets_in(kept.steal(grant)), "without its list sshd refuses everybody"
    kept.house.serve()
    wait_until(lambda: kept.file.exists() and grant.encode() in kept.file.read_bytes(), WITHIN)
    assert not kept.lets_in(stolen)
    assert kept.lets_in(kept.steal(kept.house.grant(KEPT)))
