"""What the signer answers, and that nothing leaves it unjournalled (I-07, I-31)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from broker.core.cert import Ca, must_match
from broker.core.records import ActionRecord
from broker.core.signing import Answer, AskCa, Refused, Signed, SignSsh, SignX509
from broker.core.sshcert import parse
from broker.core.x509_match import must_match_x509
from broker.signer import authority as module
from broker.signer.authority import Authority
from broker.signer.journal import NAME, Journal
from broker.signer.keys import load_keys, make_keys
from broker.signer.sign import sign_ssh
from tests.broker.core.test_cert import BAD_EGRESS, client, server
from tests.broker.core.test_x509_match import CSR
from tests.broker.signer.journals import verify
from tests.broker.ssh_keys import GRANT, NOW, PRINCIPAL, egress, ingress, new_public_key

COMMAND = "mysql -p'canary-c4d1'"
RECORD = ActionRecord(
    tenant="t1", request_id="rq_x", action_id="ac_x", requester="pe_x", agent_id="ag_x", agent_key=bytes(32),
    target_id="tg_x", host_key=bytes(32), login="deploy", command=b"vi x", cwd="", env={}, stdin_mode="stream",
    stdin_sha256=b"", pty=True, command_class="execute", opaque=True, egress=False, tier="approval", verification=None,
    rollback=(), not_after=NOW, policy_version="p1", nonce=bytes(16),
)  # fmt: skip


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys and journal of this module."""
    made = tmp_path_factory.mktemp("signer") / "keys"
    make_keys(made, NOW)
    return made


@pytest.fixture
def authority(directory: Path) -> Iterator[Authority]:
    """An authority whose clock stands at NOW."""
    made = Authority(load_keys(directory, owner=os.geteuid()), Journal(directory), lambda: NOW)
    yield made
    made.stop()


def blob(answer: Answer) -> bytes:
    """What was signed; a refusal fails the test."""
    assert isinstance(answer, Signed), answer
    return answer.blob


def last_line(directory: Path) -> dict[str, object]:
    """The journal's newest line."""
    line: dict[str, object] = json.loads((directory / NAME).read_bytes().splitlines()[-1])
    return line


def test_each_ca_signs_with_its_own_key(authority: Authority) -> None:
    """What the ingress CA signed is not signed by the egress CA (I-06)."""
    key = new_public_key()
    for spec in (ingress(), egress()):
        made = blob(authority.answer(SignSsh(spec=spec, public_key=key, record=b"", signatures=())))
        must_match(spec, made, public_key=key, ca_key=blob(authority.answer(AskCa(ca=spec.ca))))
        other = Ca.EGRESS if spec.ca is Ca.INGRESS else Ca.INGRESS
        assert parse(made).ca_key != blob(authority.answer(AskCa(ca=other)))


def test_x509_certificates_come_from_the_x509_ca(authority: Authority) -> None:
    """Clients and servers alike."""
    ca = blob(authority.answer(AskCa(ca=Ca.X509)))
    for spec in (client(), server()):
        made = blob(authority.answer(SignX509(spec=spec, csr_der=CSR)))
        must_match_x509(spec, made, csr_der=CSR, ca_der=ca)


def test_a_signature_has_its_line(authority: Authority, directory: Path) -> None:
    """The line names grant, serial, principal and the proof's digests; never command or record (I-36)."""
    spec = egress(force_command=COMMAND)
    ask = SignSsh(spec=spec, public_key=new_public_key(), record=COMMAND.encode(), signatures=(b"one", b"two"))
    blob(authority.answer(ask))
    line = last_line(directory)
    assert (line["kind"], line["key_id"], line["serial"]) == ("ssh", GRANT, str(spec.serial))
    assert line["principals.0"] == PRINCIPAL
    assert len(str(line["record"])) == 64
    told = [line["signatures.0"], line["signatures.1"]]
    assert told == [hashlib.sha256(s).hexdigest() for s in (b"one", b"two")]
    assert b"canary" not in (directory / NAME).read_bytes()


@pytest.mark.parametrize("pty", [True, False])
def test_a_terminal_is_signed_where_the_action_says_it(authority: Authority, directory: Path, *, pty: bool) -> None:
    """I-10: a broker that was taken over cannot add a terminal, and with it a keyboard, to what a person approved."""
    for said in (True, False):
        before = verify(directory / NAME)
        spec = replace(egress(force_command=COMMAND), permit_pty=pty)
        signed = replace(RECORD, pty=said).encoded()
        answer = authority.answer(SignSsh(spec=spec, public_key=new_public_key(), record=signed, signatures=()))
        if said == pty:
            blob(answer)
        else:
            assert answer == Refused(why="certificate refused: a terminal that its action does not say")
            assert verify(directory / NAME) == before


@pytest.mark.parametrize("name", [name for name, _ in BAD_EGRESS])
def test_what_must_never_be_signed_leaves_no_trace(authority: Authority, directory: Path, name: str) -> None:
    """The signer checks for itself, whatever the broker checked; nothing is signed and nothing journalled (I-07)."""
    before = verify(directory / NAME)
    spec = replace(egress(), **dict(BAD_EGRESS)[name])
    answer = authority.answer(SignSsh(spec=spec, public_key=new_public_key(), record=b"", signatures=()))
    assert isinstance(answer, Refused)
    assert answer.why.startswith("certificate refused")
    assert verify(directory / NAME) == before


@pytest.mark.parametrize("key", [b"", b"\0\0\0\x07ssh-rsa", bytes(51)])
def test_other_keys_are_refused(authority: Authority, key: bytes) -> None:
    """Only plain Ed25519 keys get a certificate."""
    assert isinstance(authority.answer(SignSsh(spec=egress(), public_key=key, record=b"", signatures=())), Refused)
    assert isinstance(authority.answer(SignX509(spec=client(), csr_der=key)), Refused)


def test_what_cannot_be_journalled_is_not_handed_out(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that cannot reach the disk makes every signature a refusal (I-30, I-31)."""
    opened = Authority(load_keys(directory, owner=os.geteuid()), Journal(directory), lambda: NOW)
    ask = SignSsh(spec=egress(), public_key=new_public_key(), record=b"", signatures=())

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("broker.signer.journal.os.fsync", full)
        assert opened.answer(ask) == Refused(why="the signer's journal cannot be written")
    blob(opened.answer(ask))
    opened.stop()
    verify(directory / NAME)


def test_what_was_signed_wrongly_is_not_handed_out(
    authority: Authority, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate with more in it than its specification never leaves, whoever made the mistake."""
    before = verify(directory / NAME)
    monkeypatch.setattr(module, "sign_ssh", lambda s, *rest: sign_ssh(replace(s, permit_pty=True), *rest))
    answer = authority.answer(SignSsh(spec=egress(), public_key=new_public_key(), record=b"", signatures=()))
    assert answer == Refused(why="certificate differs from its specification")
    assert verify(directory / NAME) == before
