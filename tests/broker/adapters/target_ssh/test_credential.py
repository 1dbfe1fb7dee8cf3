"""What the gateway shows to a target, and what the target then allows."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
from datetime import timedelta
from pathlib import Path

import asyncssh
import pytest

from broker.adapters.target_ssh import sshd_lines
from broker.adapters.target_ssh.connection import dial, log_in
from broker.adapters.target_ssh.credential import _keypair
from broker.core.cert import EGRESS_LIFE, SKEW, Ca, ingress_spec, principal_of
from broker.core.errors import TargetFault
from broker.core.identity import Login
from broker.core.wrapper import read_force_command
from broker.service.ports import Proof
from tests import peers
from tests.broker.adapters.target_ssh.world import TENANT, MachineClock, World, drained, target_for, world
from tests.peers_sshd import _PRIVATE_RUN, StartSshd

pytestmark = pytest.mark.sshd


async def test_a_sealed_command_gets_its_own_short_certificate(real: World) -> None:
    """I-06: one principal, at most 60 s, our address only, force-command = the approved bytes; announced first."""
    plans = [real.plan(f"echo {n}", sealed=True) for n in range(2)]
    for plan in plans:
        await drained(await real.targets.start(plan))
    assert real.announced == [plan.serial for plan in plans]
    for plan, spec in zip(plans, real.signer.asked, strict=True):
        assert (spec.ca, spec.serial, spec.key_id) == (Ca.EGRESS, plan.serial, plan.grant_id)
        assert spec.principals == (principal_of(TENANT, real.target.id, plan.login),)
        assert spec.valid_before - spec.valid_after <= EGRESS_LIFE + SKEW
        assert spec.source_address == "127.0.0.1"
        assert not spec.permit_pty
        assert read_force_command(spec.force_command).command == plan.command


async def test_the_certificate_ends_with_the_grant(real: World) -> None:
    """I-01: a grant with five seconds left gets five seconds of certificate."""
    end = MachineClock().now() + timedelta(seconds=5)
    await real.run("true", sealed=True, not_after=end)
    assert real.signer.asked[0].valid_before == end


async def test_the_targets_sshd_refuses_any_other_command(real: World) -> None:
    """I-10, I-18: a broker that asks for something else than was signed gets what was signed."""
    process = await real.targets.start(real.plan("echo approved; cat >/dev/null", sealed=True, wants_stdin=True))
    connection = process._connection  # type: ignore[attr-defined]  # noqa: SLF001  the attack uses our own connection
    other = await connection.run("echo something else", check=False, stdin=asyncssh.DEVNULL)
    assert other.stdout == "approved\n"
    with pytest.raises(asyncssh.Error):
        await connection.start_sftp_client()
    with pytest.raises(asyncssh.ChannelOpenError):
        await connection.open_connection("127.0.0.1", real.sshd.port)
    await process.write_eof()
    assert (await drained(process)).out == b"approved\n"


async def test_what_an_agent_holds_is_useless_at_the_target(real: World) -> None:
    """I-06: a certificate of the ingress CA is refused by the target itself, even with the right principal in it."""
    now = MachineClock().now()
    key = asyncssh.generate_private_key("ssh-ed25519")
    agents = ingress_spec(
        grant=real.grant,
        serial=7,
        login=real.sshd.login,
        target_name="web1",
        now=now,
        not_after=now + timedelta(minutes=1),
    )
    real.sshd.allow(real.sshd.login, [agents.principals[0], principal_of(TENANT, real.target.id, real.sshd.login)])
    blob = await real.signer.sign_ssh(agents, key.public_data, Proof(record=b"", signatures=()))
    with pytest.raises(TargetFault) as refused:
        await _with_certificate(real, key, blob)
    assert refused.value.code == "login_refused"


async def test_a_certificate_for_another_login_is_refused(real: World) -> None:
    """I-04: the principal names the login; a target that lists it for one login lets nobody be another."""
    real.sshd.allow(real.sshd.login, [principal_of(TENANT, real.target.id, "somebody")])
    with pytest.raises(TargetFault) as refused:
        await real.run("true", sealed=False)
    assert refused.value.code == "login_refused"
    assert real.sshd.login not in str(refused.value)


async def test_a_certificate_from_another_address_is_refused(real: World) -> None:
    """I-06: stolen from the broker's memory, a certificate works from the gateway's address alone."""
    real.target = dataclasses.replace(real.target, source_address="192.0.2.7")
    with pytest.raises(TargetFault) as refused:
        await real.run("true", sealed=True)
    assert refused.value.code == "login_refused"


@pytest.mark.parametrize("sealed", [True, False])
async def test_a_changed_host_key_is_refused(real: World, *, sealed: bool) -> None:
    """I-25: an impersonated host sees no certificate, no command, no bytes."""
    real.sshd.restart_with_new_host_key()
    with pytest.raises(TargetFault) as refused:
        await real.run("true", sealed=sealed)
    assert refused.value.code == "host_key_changed"
    assert "Accepted" not in real.sshd.log().rpartition("Server listening")[2]
    assert await real.targets.fetch_host_key(real.sshd.host, real.sshd.port) == real.sshd.host_key


async def test_nothing_of_this_machines_own_ssh_is_used(
    real: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-24, I-25: no config file, known_hosts, default key or agent plays a part."""
    ssh = tmp_path / ".ssh"
    ssh.mkdir()
    (ssh / "config").write_text("Host *\n  User nobody\n  ProxyCommand false\n  Port 1\n")
    (ssh / "known_hosts").write_text(
        "* ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    assert (await real.run("echo ok", sealed=True)).out == b"ok\n"
    real.sshd.restart_with_new_host_key()
    with pytest.raises(TargetFault):
        await real.run("echo ok", sealed=True)


async def test_an_announcement_that_fails_signs_nothing(real: World) -> None:
    """I-31: the intent is durable before the secret is signed."""

    async def cannot(_serial: int) -> None:
        raise OSError(28, "no space left")

    with pytest.raises(TargetFault):
        await real.targets.start(real.plan("true", sealed=True, announce=cannot))
    assert real.signer.asked == []


@pytest.mark.parametrize(("host", "code"), [("127.0.0.1", "unreachable"), ("no-such-host.invalid", "unreachable")])
async def test_a_target_that_is_not_there(real: World, host: str, code: str) -> None:
    """A fixed phrase, not the system's."""
    real.target = dataclasses.replace(real.target, host=host, port=1)
    with pytest.raises(TargetFault) as fault:
        await real.run("true", sealed=True)
    assert fault.value.code == code


async def test_a_pinned_key_of_another_kind_is_told_apart(sshd_factory: StartSshd) -> None:
    """I-25: a host that shows a key of another kind is a changed host, not a broken one."""
    async with world(sshd_factory) as made:
        other = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode()
        made.target = dataclasses.replace(made.target, host_key=" ".join(other.split()[:2]))
        with pytest.raises(TargetFault) as fault:
            await made.run("true", sealed=True)
        assert fault.value.code == "host_key_changed"


def test_the_lines_for_sshd_are_good_for_sshd(tmp_path: Path) -> None:
    """What `grantctl target add` prints is a configuration that sshd takes, touching nobody but the logins."""
    made = target_for(logins=(Login(name="deploy", read_login="observer"), Login(name="admin", read_login="")))
    text = sshd_lines(made, ["ssh-ed25519 AAAA egress\n", "ssh-ed25519 AAAB next\n"])
    files = {block.partition("\n")[0]: block.partition("\n")[2] for block in text.split("# --- ")[1:]}
    assert "RevokedKeys" not in text
    assert files["/etc/ssh/grantd_egress_ca.pub"].split("\n")[:2] == [
        "ssh-ed25519 AAAA egress",
        "ssh-ed25519 AAAB next",
    ]
    assert files["/etc/ssh/grantd_principals/deploy"].strip() == principal_of(TENANT, made.id, "deploy")
    assert files["/etc/ssh/grantd_principals/observer"].strip() == principal_of(TENANT, made.id, "observer")
    config = tmp_path / "sshd_config"
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    config.write_text(f"HostKey {key}\n" + files["/etc/ssh/sshd_config.d/grantd.conf"].partition("\n# then")[0])
    sshd = peers.require("sshd")

    def settings_of(user: str) -> str:
        command = [str(sshd), "-T", "-f", str(config), "-C", f"user={user},host=h,addr=127.0.0.1"]
        if os.geteuid() == 0:  # as root sshd wants /run/sshd
            command = ["unshare", "--mount", "sh", "-c", f"{_PRIVATE_RUN}{shlex.join(command)}"]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=peers.environment(sshd)).stdout

    assert "trustedusercakeys /etc/ssh/grantd_egress_ca.pub" in settings_of("deploy")
    assert "setenv SHLVL=3" in settings_of("observer")
    assert "trustedusercakeys none" in settings_of("somebody")


async def _with_certificate(real: World, key: asyncssh.SSHKey, blob: bytes) -> None:
    sock = await dial(real.sshd.host, real.sshd.port)
    connection = await log_in(
        sock,
        host=real.sshd.host,
        port=real.sshd.port,
        login=real.sshd.login,
        host_key=real.sshd.host_key,
        keypair=_keypair(key, blob),
    )
    connection.abort()
