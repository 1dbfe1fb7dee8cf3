"""What the target itself refuses, and what the broker refuses of a target that is not the one it was pinned to."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncssh
import pytest

from broker.core.cert import Ca, egress_spec, principal_of
from broker.core.ids import GrantId, TargetId, TenantId
from broker.core.wrapper import force_command
from broker.signer.keys import load_keys
from broker.signer.sign import sign_ssh
from grantd.v1.action_pb2 import ActionState
from grantd.v1.admin_pb2 import ListTargetsRequest
from grantd.v1.options_pb2 import AUTONOMY_TIER_TRUSTED
from tests.e2e.programs import Spoken, finish
from tests.e2e.stage import FREE, House
from tests.peers_sshd import Sshd

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-target")]

PINNED_TO = "the target shows another host key than the one it is pinned to; nothing was run"


@pytest.fixture(scope="module")
def replaced(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sshd, str]]:
    """A host that came back with another key, and a grant whose pooled connection was open when it went."""
    host = Sshd.start(tmp_path_factory.mktemp("replaced"), user_cas=(), principals={})
    try:
        house.add_target("old1", AUTONOMY_TIER_TRUSTED, host)
        pooled = house.grant("old1")
        assert house.run(pooled, "uname -a").finished().exit_status == 0
        host.restart_with_new_host_key()
        yield host, pooled
    finally:
        host.stop()


@pytest.mark.parametrize("how", ["fresh read", "pooled read that reconnects", "sealed write"])
def test_a_host_with_another_key_is_refused(house: House, replaced: tuple[Sshd, str], tmp_path: Path, how: str) -> None:
    """No login is tried on it, whatever the connection; the caller and the log are told (I-07)."""
    host, pooled = replaced
    grant = pooled if how.startswith("pooled") else house.grant("old1")
    mark = tmp_path / "made"
    logins = host.log().count("Accepted publickey")

    ran = house.ctl("builder", "run", grant, "--", f"touch {mark}" if how == "sealed write" else "uname -a")

    assert (ran.status, ran.out) == (1, "")
    assert PINNED_TO in ran.err
    assert not mark.exists()
    assert host.log().count("Accepted publickey") == logins
    told = house.audited("target.key_mismatched", lambda entry: entry["grant"] == grant)
    assert told["code"] == "PO2004E"


def test_the_gateway_says_so_too(house: House, replaced: tuple[Sshd, str]) -> None:
    """A stock ssh sees the same refusal (I-18)."""
    files = house.ssh_files(house.grant("old1"))
    ran = house.ssh(files, "uname -a")
    assert (ran.status, ran.out) == (126, "")
    assert "host_key_changed" in ran.err


def test_what_an_agent_holds_is_useless_at_the_target(house: House, tmp_path: Path) -> None:
    """The agent's certificate is of a CA that no target trusts: its own sshd says no (I-06)."""
    grant = house.grant()
    files = house.ssh_files(grant)
    assert house.ssh(files, "uname -s").out == "Linux\n", "it works at the gateway"
    tried = _directly(house, files.key, "true")
    assert tried.status == 255
    assert "Permission denied" in tried.err


def test_under_a_forced_command_the_target_runs_nothing_else(house: House, tmp_path: Path) -> None:
    """A thief with an egress certificate gets the approved bytes and nothing else (I-07)."""
    approved, other = tmp_path / "approved", tmp_path / "other"
    key = _egress_key(house, tmp_path, force_command(f"touch {approved}".encode(), cwd="", env={}, seconds=30))

    for words in ([f"touch {other}"], ["-s", "sftp"]):
        _directly(house, key, *words)
        assert approved.exists(), "what was approved ran instead"
        approved.unlink()
    _directly(house, key)
    assert approved.exists(), "for a shell too"
    assert not other.exists()
    forwarded = _directly(house, key, before=("-W", f"{house.sshd.host}:{house.sshd.port}"))
    assert forwarded.status != 0
    assert "SSH-2.0" not in forwarded.out


def test_an_egress_certificate_is_for_one_target_and_one_minute(house: House, tmp_path: Path) -> None:
    """Another target's principal, another address, or a minute later: refused by sshd itself (I-07)."""
    elsewhere = _egress_key(house, tmp_path, "true", target="tg_aaaaaaaaaaaaaaaaaaaaaaaaaa")
    assert "Permission denied" in _directly(house, elsewhere, "true").err
    from_afar = _egress_key(house, tmp_path, "true", source="192.0.2.7")
    assert "Permission denied" in _directly(house, from_afar, "true").err
    early = datetime.now(UTC) - timedelta(minutes=5)
    late = _egress_key(house, tmp_path, "true", now=early)
    assert "Permission denied" in _directly(house, late, "true").err
    good = _egress_key(house, tmp_path, "true")
    assert _directly(house, good, "true").status == 0, "the others were refused for what differs"


def test_a_target_that_is_not_there_is_said_plainly(house: House, tmp_path: Path) -> None:
    """Nobody listens: a sentence, an exit status, a finished action, and the broker goes on."""
    host = Sshd.start(tmp_path / "host", user_cas=(), principals={})
    house.add_target("gone1", AUTONOMY_TIER_TRUSTED, host)
    host.stop()
    grant = house.grant("gone1")
    ran = house.ctl("builder", "run", grant, "--", "uname -a")
    assert (ran.status, ran.out) == (1, "")
    assert "the target cannot be reached" in ran.err
    running = house.run(grant, "uname -a")
    assert (running.finished().state, running.action().note) == (ActionState.ACTION_STATE_FAILED, "unreachable")
    assert house.run(house.grant(), "uname -s").finished().exit_status == 0


def test_a_target_that_does_not_trust_us_is_said_plainly(house: House, tmp_path: Path) -> None:
    """sshd's own lines are missing: the caller is told, and `target check` says what to do."""
    host = Sshd.start(tmp_path / "host", user_cas=(), principals={})
    try:
        house.add_target("bare1", AUTONOMY_TIER_TRUSTED, host)
        host.trust(())
        ran = house.ctl("builder", "run", house.grant("bare1"), "--", "uname -a")
        assert (ran.status, ran.out) == (1, "")
        assert "the target refused the login" in ran.err
        checked = house.ctl("owner", "target", "check", "bare1")
        assert checked.status == 1
        assert "BAD" in checked.out
    finally:
        host.stop()


def _directly(house: House, key: Path, *words: str, before: tuple[str, ...] = ()) -> Spoken:
    """A stock ssh to the target itself, past the broker."""
    options = ["-F", "none", "-i", str(key), "-o", f"CertificateFile={key}-cert.pub", "-o", "IdentitiesOnly=yes"]
    options += ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    split = len(words) - 1 if words and words[0].startswith("-") else 0
    to = f"{house.sshd.login}@{house.sshd.host}"
    return finish(["ssh", *options, "-p", str(house.sshd.port), *before, *words[:split], to, *words[split:]])


def _egress_key(
    house: House, folder: Path, forced: str, *, target: str = "", source: str = "127.0.0.1", now: datetime | None = None
) -> Path:
    """A key with a certificate as the broker makes them, signed here with the CA key of the house's signer."""
    owner = house.client("owner")
    targets = owner.call(owner.admin.ListTargets, ListTargetsRequest()).targets
    named = target or next(each.id for each in targets if each.name == FREE)
    at = now or datetime.now(UTC)
    spec = egress_spec(
        grant=GrantId(house.grant()),
        serial=7,
        principal=principal_of(TenantId("main"), TargetId(named), house.sshd.login),
        source_address=source,
        force_command=forced,
        permit_pty=False,
        now=at,
        not_after=at + timedelta(minutes=1),
    )
    key = asyncssh.generate_private_key("ssh-ed25519")
    path = folder / os.urandom(4).hex()
    key.write_private_key(str(path))
    path.chmod(0o600)
    keys = load_keys(house.data / "signer", owner=os.geteuid())
    blob = sign_ssh(spec, key.public_data, keys.ssh[Ca.EGRESS])
    path.with_name(f"{path.name}-cert.pub").write_bytes(b"ssh-ed25519-cert-v01@openssh.com " + base64.b64encode(blob))
    return path
