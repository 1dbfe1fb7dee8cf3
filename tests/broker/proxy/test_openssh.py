"""The stock client: it checks who the gateway is, shows its certificate, and runs one command."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import asyncssh
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.adapters.gateway_identity import gateway_identity
from broker.core.sshcert import CERT_KIND
from broker.core.sshwire import parse_blob
from tests import peers
from tests.broker.proxy.world import Gate, Pass
from tests.pace import Since

pytestmark = pytest.mark.sshd


def options(front: Gate, shown: Pass, folder: Path) -> list[str]:
    """The command line up to the host."""
    key = folder / "id"
    key.touch(mode=0o600)
    key.write_bytes(shown.key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    (folder / "id-cert.pub").write_bytes(CERT_KIND + b" " + base64.b64encode(shown.certificate) + b"\n")
    known = folder / "known_hosts"
    known.write_text(f"@cert-authority [127.0.0.1]:{front.port} {parse_blob(front.host_ca).line()}\n")
    told: dict[str, object] = {
        "IdentityFile": key,
        "CertificateFile": folder / "id-cert.pub", "IdentitiesOnly": "yes", "IdentityAgent": "none",
        "UserKnownHostsFile": known, "GlobalKnownHostsFile": "/dev/null", "StrictHostKeyChecking": "yes",
        "BatchMode": "yes", "UpdateHostKeys": "no",
    }  # fmt: skip
    words = [str(peers.require("ssh")), "-F", "none", "-p", str(front.port), "-l", shown.user]
    return words + [word for name, value in told.items() for word in ("-o", f"{name}={value}")]


async def ssh(words: list[str], stdin: bytes = b"") -> tuple[bytes, bytes, int]:
    """(stdout, stderr, status) of a client."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe, stderr=pipe)
    async with asyncio.timeout(20):
        out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return out, err, process.returncode


async def test_a_stock_client_runs_one_command(front: Gate, tmp_path: Path) -> None:
    """The host is pinned by its CA, stdin, streams and status are whole, and nothing is said beside them (I-27)."""
    await front.trust()
    words = options(front, await front.admit(), tmp_path)
    assert await ssh([*words, "127.0.0.1", "cat; echo err >&2; exit 7"], b"in\x00\xff") == (b"in\x00\xff", b"err\n", 7)


async def test_compression_is_declined(front: Gate, tmp_path: Path) -> None:
    """M5: `-C` of a person's habits does no harm."""
    await front.trust()
    words = options(front, await front.admit(), tmp_path)
    assert await ssh([*words, "-C", "127.0.0.1", "echo yes"]) == (b"yes\n", b"", 0)


async def test_a_terminal_is_one(front: Gate, tmp_path: Path) -> None:
    """`ssh -tt`: a pty on the target's side, both streams in one, and the exit status."""
    await front.trust()
    words = options(front, await front.admit(), tmp_path)
    out, _, status = await ssh([*words, "-tt", "127.0.0.1", "tty >/dev/null && echo yes; echo err >&2; exit 3"])
    assert (out, status) == (b"yes\r\nerr\r\n", 3)


async def test_a_shell_and_forwardings_are_refused(front: Gate, tmp_path: Path) -> None:
    """I-20: by the client that people have."""
    words = options(front, await front.admit(), tmp_path)
    assert (await ssh([*words, "127.0.0.1"]))[2] != 0
    assert (await ssh([*words, "-W", "127.0.0.1:22", "127.0.0.1"]))[2] != 0
    assert (await ssh([*words, "-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:22", "127.0.0.1"]))[2] != 0
    assert (await ssh([*words, "-s", "127.0.0.1", "sftp"]))[2] != 0
    assert set(await front.features()) == {"shell", "direct_tcpip", "tcpip_forward", "subsystem"}


async def test_a_plain_key_is_not_enough(front: Gate, tmp_path: Path) -> None:
    """I-24: the very key, without its certificate."""
    words = options(front, await front.admit(), tmp_path)
    (tmp_path / "id-cert.pub").write_text("")
    out, err, status = await ssh([*words, "127.0.0.1", "id"])
    assert (out, status) == (b"", 255)
    assert b"Permission denied (publickey)" in err


async def test_a_cold_connection_is_quick(front: Gate, tmp_path: Path) -> None:
    """No waits of our own: the best of five within half a second, on a busy machine."""
    await front.trust()
    words = options(front, await front.admit(), tmp_path)
    best = 9.0
    for _ in range(5):
        since = Since()
        assert (await ssh([*words, "127.0.0.1", "id"]))[2] == 0
        best = min(best, since.s())
    assert best < 0.5


async def test_a_renewed_host_certificate_is_what_the_next_client_sees(front: Gate, tmp_path: Path) -> None:
    """The gateway's host key and certificate change under way; a client that pins the CA notices nothing (I-25)."""
    await front.trust()
    words = options(front, await front.admit(), tmp_path)
    world = front.house.world
    fresh = await gateway_identity(signer=world.signer, entropy=world.entropy, name="127.0.0.1", now=world.clock.now())
    before = await asyncssh.get_server_host_key("127.0.0.1", front.port)
    await front.door.show(fresh.host_key, fresh.host_certificate, fresh.ingress_cas)
    after = await asyncssh.get_server_host_key("127.0.0.1", front.port)
    assert before is not None
    assert after is not None
    assert before.public_data != after.public_data
    assert (await ssh([*words, "127.0.0.1", "echo yes"]))[2] == 0
