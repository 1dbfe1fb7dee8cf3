"""The check of a target sees what its sshd lets a certificate do, and what it offers before anybody logs in."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.adapters.target_ssh.greeting import NoGreeting, greeted
from broker.adapters.target_ssh.openings import UNSEEN
from broker.core.cert import Ca
from broker.core.sshwire import parse_line
from broker.service.ports import Finding
from tests import peers
from tests.broker.adapters.target_ssh.world import World, world
from tests.peers_sshd import StartSshd

pytestmark = pytest.mark.sshd
GOOD = "AllowAgentForwarding no\nX11Forwarding no\nPermitTunnel no\nAcceptEnv LANG LC_*\nDisableForwarding yes"
BAD = "AllowAgentForwarding yes\nX11Forwarding yes\nPermitTunnel no\nPermitUserRC yes\nAllowTcpForwarding yes"


async def told(real: World) -> dict[str, Finding]:
    """All findings, by what they say."""
    found = await real.targets.probe(real.target, real.login, real.announce, 77)
    assert all(finding.ok or finding.advice for finding in found)
    return {finding.what: finding for finding in found}


def failed(found: dict[str, Finding]) -> list[str]:
    """What is not fine."""
    return [what for what, finding in found.items() if not finding.ok]


@pytest.mark.parametrize("config", [GOOD, BAD], ids=["everything off", "everything on"])
async def test_a_certificate_permits_nothing_whatever_the_settings_say(sshd_factory: StartSshd, config: str) -> None:
    """I-04: asked for an agent, X11, a tunnel and variables, sshd refuses each; what cannot be seen is said."""
    async with world(sshd_factory, config=config) as made:
        found = await told(made)
    assert failed(found) == []
    for what in (
        "it forwards no agent for the certificate", "it forwards no X11 for the certificate", "it opens no tunnel",
        "it takes no environment from who connects that decides what runs",
        "it offers no weak key exchange, cipher, MAC or kind of host key",
        "it shows no certificate of its host key; the pinned key is what counts",
    ):  # fmt: skip
        assert not found[what].advice, what
    assert found[UNSEEN.what] == UNSEEN


@pytest.mark.parametrize("mode", ["yes", "point-to-point", "ethernet", "yes\nDisableForwarding yes"])
async def test_a_target_that_allows_tunnels(sshd_factory: StartSshd, mode: str) -> None:
    """No certificate forbids one, nor does DisableForwarding: found by what sshd answers, device or none."""
    async with world(sshd_factory, config=f"PermitTunnel {mode}") as made:
        (wrong,) = failed(found := await told(made))
    assert "tunnel" in wrong
    assert found[wrong].advice.startswith("set PermitTunnel no")


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("BASH_ENV", "BASH_ENV"),
        ("LD_*", "LD_PRELOAD, LD_LIBRARY_PATH, LD_AUDIT"),
        ("LANG GIT_SSH_COMMAND", "GIT_SSH_COMMAND"),
        ("*", "any variable at all"),
    ],
)
async def test_a_target_that_takes_variables(sshd_factory: StartSshd, setting: str, named: str) -> None:
    """I-10: with BASH_ENV or LD_PRELOAD of somebody's choice the approved bytes are not what runs."""
    async with world(sshd_factory, config=f"AcceptEnv {setting}") as made:
        assert failed(await told(made)) == [f"it takes environment from who connects: {named}"]


WEAK = """KexAlgorithms +diffie-hellman-group14-sha1
Ciphers +aes128-cbc,3des-cbc
MACs +hmac-md5,hmac-sha1-96
HostKeyAlgorithms +ssh-rsa"""


async def test_a_target_that_offers_weak_algorithms(sshd_factory: StartSshd, tmp_path: Path) -> None:
    """Named, as a note: grantd speaks none of them, others who log in there may."""
    rsa = tmp_path / "rsa"
    _keygen("-t", "rsa", "-b", "2048", "-N", "", "-f", str(rsa))
    async with world(sshd_factory, config=f"{WEAK}\nHostKey {rsa}") as made:
        found = await told(made)
    assert failed(found) == []
    (what,) = [one for one in found if one.startswith("it offers others weak algorithms: ")]
    assert set(what.partition(": ")[2].split(", ")) == {
        "diffie-hellman-group14-sha1", "aes128-cbc", "3des-cbc", "hmac-md5", "hmac-sha1-96", "ssh-rsa"
    }  # fmt: skip
    assert found[what].advice


async def test_a_certified_host_key(sshd_factory: StartSshd, tmp_path: Path) -> None:
    """Whose it is, whether it is of the pinned key, and whether it is valid; the gateway's own CA is nobody else's."""
    for ca, validity, says, fine in (
        ("other", "-1m:+1d", "it shows a host certificate of another CA; the pinned key is what counts", True),
        ("other", "-2d:-1d", "its host certificate, of another CA, is not valid now", True),
        ("host", "-1m:+1d", "it shows a host certificate of grantd's host CA, which is the gateway's alone", False),
    ):
        async with certified(sshd_factory, tmp_path, ca, validity) as made:
            found = await told(made)
            assert found[says].ok is fine
            assert failed(found) == ([] if fine else [says])
            shown = (await greeted(made.target.host, made.target.port)).certificate
            assert shown is not None
            assert shown.public_key == parse_line(made.target.host_key).blob
            assert shown.valid_after < datetime.now(UTC).timestamp()


@asynccontextmanager
async def certified(start: StartSshd, folder: Path, ca: str, validity: str) -> AsyncIterator[World]:
    """An sshd whose host key has a certificate: of the gateway's host CA, or of a stranger."""
    async with world(start) as made:
        files = made.sshd.files
        key = folder / f"{ca}-{validity.replace(':', '_')}"
        if ca == "host":
            key.touch(mode=0o600)
            key.write_bytes(made.signer.private_line(Ca.HOST))
        else:
            _keygen("-t", "ed25519", "-N", "", "-f", str(key))
        public = files.host_key.with_suffix(".pub")
        _keygen("-s", str(key), "-I", "web1", "-h", "-n", "web1", "-V", validity, str(public))
        files.config.write_text(f"HostCertificate {files.host_key}-cert.pub\n{files.config.read_text()}")
        made.sshd.restart()
        yield made


@pytest.mark.parametrize(
    "said",
    [
        b"", b"HTTP/1.1 400 no\r\n\r\n", b"x" * 10_000, b"line\n" * 4_000, b"SSH-2.0-x\r\n",
        b"SSH-2.0-x\r\n" + bytes(64), b"SSH-2.0-x\r\n\xff\xff\xff\xff" + bytes(64),
        b"SSH-2.0-x\r\n" + (20).to_bytes(4, "big") + b"\x04\x14" + bytes(18),
        b"SSH-2.0-x\r\n" + (12).to_bytes(4, "big") + b"\xff\x14" + bytes(10),
    ],
)  # fmt: skip
async def test_whoever_is_no_ssh_server_is_not_believed(said: bytes) -> None:
    """I-26: nonsense, floods and packets cut short end the look, and nothing else."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NoGreeting):
            await greeted("127.0.0.1", port)


def _keygen(*words: str) -> None:
    program = peers.get("ssh-keygen")
    done = subprocess.run(
        [str(program), "-q", *words], env={**os.environ, **peers.environment(program)}, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr
