"""The check of a target from outside finds what is wrong, and says what to do."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from broker.core.cert import Ca, gateway_user, principal_of
from broker.service.ports import Finding
from tests.broker.adapters.target_ssh.world import TENANT, World, world
from tests.peers_sshd import StartSshd

pytestmark = pytest.mark.sshd


async def probe(real: World) -> list[Finding]:
    """All findings; whatever is not fine has advice, what is fine may have a note."""
    found = await real.targets.probe(real.target, real.login, real.announce, 77)
    assert all(finding.ok or finding.advice for finding in found)
    return list(found)


def failed(found: list[Finding]) -> list[str]:
    """What is not fine."""
    return [finding.what for finding in found if not finding.ok]


async def test_a_target_as_it_should_be(real: World) -> None:
    """Twenty findings, all fine, and notes; each certificate announced, none the same."""
    found = await probe(real)
    assert (len([finding for finding in found if not finding.advice]), failed(found)) == (20, [])
    assert real.announced[0] == 77
    assert len(set(real.announced)) == len(real.announced) == len(real.signer.asked)


async def test_a_target_that_is_not_there(real: World) -> None:
    """Nothing more is tried."""
    real.sshd.stop()
    assert failed(await probe(real)) == ["the target cannot be reached"]
    assert real.announced == []


async def test_a_changed_host_key(real: World) -> None:
    """I-25: found, and the advice is to look, not to accept."""
    real.sshd.restart_with_new_host_key()
    assert failed(await probe(real)) == ["it shows another host key than the pinned one"]


async def test_a_ca_that_is_not_trusted(real: World) -> None:
    """The login does not work: the administrator hears where to look."""
    real.sshd.trust([real.signer.line(Ca.INGRESS)])
    assert failed(await probe(real)) == ["it refuses the certificate for this login"]


async def test_a_target_that_trusts_what_agents_hold(real: World) -> None:
    """I-06: the ingress CA among the trusted ones, and the agent's principal listed."""
    real.sshd.trust([real.signer.line(Ca.INGRESS), real.signer.line(Ca.EGRESS)])
    own = principal_of(TENANT, real.target.id, real.login)
    real.sshd.allow(real.login, [own, gateway_user(real.login, real.target.name)])
    assert failed(await probe(real)) == ["the kind of certificate that an agent holds is accepted"]


async def test_a_target_that_lists_another_logins_principal(real: World) -> None:
    """I-04: one principal a login; another one listed is found."""
    own = principal_of(TENANT, real.target.id, real.login)
    real.sshd.allow(real.login, [own, principal_of(TENANT, real.target.id, "grantd-nobody")])
    assert failed(await probe(real)) == ["a certificate for another login is accepted"]


async def test_a_target_whose_bash_reads_a_startup_file(sshd_factory: StartSshd) -> None:
    """An approved write to ~/.bashrc would run inside every later read."""
    async with world(sshd_factory, config="SetEnv SHLVL=0") as made:
        assert failed(await probe(made)) == ["its login shell reads a start-up file before each command"]


async def test_a_target_with_bash_env_set(sshd_factory: StartSshd, tmp_path: Path) -> None:
    """BASH_ENV is a start-up file as well."""
    script = tmp_path / "env"
    script.write_text("true\n")
    async with world(sshd_factory, config=f"SetEnv BASH_ENV={script} SHLVL=3") as made:
        assert failed(await probe(made)) == ["its login shell reads a start-up file before each command"]


async def test_a_target_that_runs_something_else(sshd_factory: StartSshd) -> None:
    """A ForceCommand of its own beats the certificate's: the approved bytes would never run."""
    async with world(sshd_factory, config="ForceCommand echo grantd level=9") as made:
        assert failed(await probe(made)) == ["it does not run the certificate's command byte for byte"]


async def test_a_login_that_may_not_come_from_here(real: World) -> None:
    """A wrong source address shows as a refused login."""
    real.target = dataclasses.replace(real.target, source_address="192.0.2.0/24")
    assert failed(await probe(real)) == ["it refuses the certificate for this login"]


@pytest.mark.skipif(os.geteuid() != 0, reason="another login takes root")
async def test_a_target_with_one_principals_file_for_all(sshd_factory: StartSshd) -> None:
    """I-04: without %u in AuthorizedPrincipalsFile, what opens one login opens all."""
    with TemporaryDirectory() as name:
        shared = Path(name) / "shared"  # read as the login that is asked for
        shared.parent.chmod(0o755)
        await _found_shared(sshd_factory, shared)


async def _found_shared(sshd_factory: StartSshd, shared: Path) -> None:
    async with world(sshd_factory, config=f"AuthorizedPrincipalsFile {shared}") as made:
        shared.write_text(principal_of(TENANT, made.target.id, made.login) + "\n")
        shared.chmod(0o644)
        assert failed(await probe(made)) == ["this login's certificate opens another login"]


async def test_a_target_with_one_session_a_connection(sshd_factory: StartSshd) -> None:
    """What ends a read needs a session beside it; with few there is a note."""
    async with world(sshd_factory, config="MaxSessions 1") as made:
        assert failed(await probe(made)) == ["it takes fewer than two sessions on a connection"]
    async with world(sshd_factory, config="MaxSessions 4") as made:
        notes = [f.what for f in await probe(made) if f.ok and f.advice]
        assert "it takes 4 sessions on a connection" in notes


async def test_a_target_that_takes_passwords(sshd_factory: StartSshd) -> None:
    """A note: grantd does not need them, and does not see who uses them."""
    async with world(sshd_factory, config="PasswordAuthentication yes") as made:
        notes = [f.what for f in await probe(made) if f.ok and f.advice]
        assert "it takes more than keys for this login" in notes


async def test_a_target_that_does_not_know_the_next_key(real: World) -> None:
    """While the egress CA's key changes it is found, and gone once both keys are in the file."""
    key = real.signer.start_rotation()
    assert failed(await probe(real)) == ["it does not let in the egress CA's next key"]
    real.sshd.trust([real.signer.line(Ca.EGRESS), key])
    found = await probe(real)
    assert failed(found) == []
    assert "it lets in the egress CA's next key" in [f.what for f in found]
