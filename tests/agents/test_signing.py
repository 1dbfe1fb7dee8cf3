"""SSHSIG by key file and by ssh-agent, judged by stock ssh-keygen and by the daemon's own verifier."""

from __future__ import annotations

import base64
import dataclasses
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from broker.core import sshsig
from grantd import records
from grantd.cli import signing
from grantd.cli.signing import Signer
from grantd.errors import Invalid
from tests.agents.conftest import Person
from tests.agents.console import GRANTCTL, Console
from tests.agents.fake_broker import FakeBroker
from tests.agents.items import action_item, daemon_record, is_signed

NAMESPACES = (records.APPROVAL_NAMESPACE, records.SIGN_IN_NAMESPACE, records.CHANGE_NAMESPACE)
MESSAGE = bytes(range(256)) * 3


def keygen(*words: str, message: bytes = b"") -> int:
    """The exit code of a stock ssh-keygen."""
    return subprocess.run(["ssh-keygen", *words], input=message, check=False, capture_output=True).returncode


def holds(signer: Signer, public_line: str, folder: Path, namespace: str, message: bytes = MESSAGE) -> bool:
    """Whether ssh-keygen -Y verify and the daemon accept what the signer made; they must agree."""
    signature = signer.sign(namespace, MESSAGE)
    (folder / "signers").write_text(f'approver namespaces="{namespace}" {public_line}\n')
    (folder / "signature").write_text(armoured(signature))
    words = ("-Y", "verify", "-f", f"{folder}/signers", "-I", "approver", "-n", namespace, "-s", f"{folder}/signature")
    stock = keygen(*words, message=message) == 0
    try:
        sshsig.verify(signature, message, namespace, [public_line])
    except sshsig.BadSignature:
        assert not stock
        return False
    assert stock
    return True


def armoured(signature: bytes) -> str:
    """The form of `ssh-keygen -Y sign`."""
    text = base64.b64encode(signature).decode()
    lines = [text[at : at + 70] for at in range(0, len(text), 70)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])


def made_key(folder: Path, kind: str, passphrase: str = "") -> Path:
    """A key pair made by ssh-keygen."""
    path = folder / f"id_{kind}"
    bits = ("-b", "256") if kind == "ecdsa" else ()
    assert keygen("-q", "-t", kind, *bits, "-N", passphrase, "-C", "", "-f", str(path)) == 0
    return path


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A private ssh-agent; empty."""
    socket = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    while not socket.exists():
        assert process.poll() is None
    yield socket
    process.terminate()
    process.wait()


@pytest.mark.sshd
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_key_file_signs(person: Person, tmp_path: Path, kind: str, namespace: str) -> None:
    """For each purpose, and only for it and for this message (I-10)."""
    path = made_key(tmp_path, kind)
    signer = signing.find(person.profile, path)
    line = path.with_suffix(".pub").read_text()
    assert holds(signer, line, tmp_path, namespace)
    assert not holds(signer, line, tmp_path, namespace, MESSAGE + b"x")
    with pytest.raises(sshsig.BadSignature):
        sshsig.verify(signer.sign(namespace, MESSAGE), MESSAGE, "grantd-other@v1", [line])


@pytest.mark.sshd
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_an_agents_key_signs(person: Person, tmp_path: Path, agent: Path, kind: str) -> None:
    """Named by its public file, the private one is not needed; the same envelope as a file key's."""
    path = made_key(tmp_path, kind)
    assert subprocess.run(["ssh-add", "-q", str(path)], check=False).returncode == 0
    path.unlink()
    signer = signing.find(person.profile, path.with_suffix(".pub"))
    line = path.with_suffix(".pub").read_text()
    assert holds(signer, line, tmp_path, records.APPROVAL_NAMESPACE)
    assert signer.fingerprint == asyncssh.import_public_key(line).get_fingerprint()
    assert signing.find(person.profile, path).fingerprint == signer.fingerprint, "found by the private name too"


@pytest.mark.sshd
def test_the_agents_only_key_is_enough(person: Person, tmp_path: Path, agent: Path) -> None:
    """Without a key in the profile; with two keys it has to be named."""
    told = dataclasses.replace(person.profile.description, approval_key="")
    nameless = dataclasses.replace(person.profile, description=told)
    with pytest.raises(Invalid, match="0 keys"):
        signing.find(nameless, None)
    for kind in ("ed25519", "ecdsa"):
        subprocess.run(["ssh-add", "-q", str(made_key(tmp_path, kind))], check=True)
        if kind == "ed25519":
            line = (tmp_path / "id_ed25519.pub").read_text()
            assert holds(signing.find(nameless, None), line, tmp_path, records.APPROVAL_NAMESPACE)
    with pytest.raises(Invalid, match="2 keys"):
        signing.find(nameless, None)


def test_a_key_that_left_the_agent_is_said(person: Person, tmp_path: Path, agent: Path) -> None:
    """Both when it was never there and when it went in between."""
    path = made_key(tmp_path, "ed25519")
    with pytest.raises(Invalid) as absent:
        signing.find(person.profile, path.with_suffix(".pub"))
    assert absent.value.code == "key_not_in_agent"
    subprocess.run(["ssh-add", "-q", str(path)], check=True)
    signer = signing.find(person.profile, path.with_suffix(".pub"))
    subprocess.run(["ssh-add", "-qD"], check=True, stderr=subprocess.DEVNULL)
    with pytest.raises(Invalid) as left:
        signer.sign(records.APPROVAL_NAMESPACE, b"x")
    assert left.value.code == "key_left_agent"


@pytest.mark.parametrize("content", [b"", b"not a key", b"ssh-ed25519 AAAA"])
def test_what_is_no_key_is_refused(person: Person, tmp_path: Path, content: bytes) -> None:
    """With a sentence, not a traceback."""
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(Invalid):
        signing.find(person.profile, path)
    with pytest.raises(Invalid):
        signing.find(person.profile, tmp_path / "absent")


def test_no_agent_is_said(person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the way out."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    path = made_key(tmp_path, "ed25519")
    with pytest.raises(Invalid) as absent:
        signing.find(person.profile, path.with_suffix(".pub"))
    assert absent.value.code == "no_agent"


def test_an_encrypted_key_asks_for_its_passphrase(broker: FakeBroker, person: Person, tmp_path: Path) -> None:
    """On the terminal, without echo, before anything is shown; without a terminal it is refused."""
    path = made_key(tmp_path, "ed25519", "open sesame")
    command = [GRANTCTL, "--profile", str(person.profile.directory), "approve", "--once", "--key", str(path)]
    before = {*_private_agents()}
    broker.add(item := action_item(b"touch x"))
    broker.approval_key = path.with_suffix(".pub").read_text()
    with Console(command, env={}, columns=250) as console:
        console.expect("passphrase for")
        console.type("wrong\r")
        console.expect("again")
        console.type("open sesame\r")
        console.expect("type y and Enter")
        console.type("y\r")
        assert console.wait() == 0
        assert "sesame" not in console.text()
    signature = broker.settle().signature
    assert is_signed(daemon_record(item.action), signature, records.APPROVAL_NAMESPACE, broker.approval_key)
    with Console(command, env={}, columns=250) as console:
        console.expect("passphrase for")
        console.type("\r")
        assert console.wait() == 2
        assert "was not unlocked" in console.text()
    assert not {*_private_agents()} - before, "the private agents are gone"
    piped = subprocess.run(
        [GRANTCTL, "--profile", str(person.profile.directory), "login", "--key", str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        env=os.environ,
    )
    assert piped.returncode == 2
    assert b"no terminal" in piped.stderr


def _private_agents() -> Iterator[Path]:
    return Path(tempfile.gettempdir()).glob("grantctl-*/agent")
