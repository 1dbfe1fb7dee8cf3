"""What the signer answers, and that nothing leaves it unjournalled (I-07, I-31)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from broker.core.cert import Ca, must_match
from broker.core.signing import Answer, AskCa, Refused, Signed, SignSsh, SignX509
from broker.core.sshcert import parse
from broker.core.x509_match import must_match_x509
from broker.signer import authority as module
from broker.signer.authority import Authority
from broker.signer.journal import NAME
from broker.signer.sign import sign_ssh
from policy.classes import Tier
from tests.broker.core.test_cert import BAD_EGRESS, client, server
from tests.broker.core.test_x509_match import CSR
from tests.broker.signer.journals import verify
from tests.broker.signer.world import MANAGER, OWNER, READ, Asker, furnish, machine, open_authority
from tests.broker.ssh_keys import GRANT, egress, ingress, new_public_key

COMMAND = b"mysql -p'canary-c4d1'"
ASK = Asker()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys and journal of this module."""
    made = tmp_path_factory.mktemp("signer") / "keys"
    furnish(made, machine("web1"), machine("lab1", Tier.TRUSTED))
    return made


@pytest.fixture
def authority(directory: Path) -> Iterator[Authority]:
    """An authority whose clock stands at NOW."""
    made = open_authority(directory)
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
    plain = SignSsh(spec=ingress(), public_key=new_public_key(), record=b"", signatures=())
    for ask in (plain, ASK.ask(ASK.record(READ))):
        spec, made = ask.spec, blob(authority.answer(ask))
        must_match(spec, made, public_key=ask.public_key, ca_key=blob(authority.answer(AskCa(ca=spec.ca))))
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
    ask = ASK.ask(ASK.record(COMMAND), MANAGER, OWNER)
    blob(authority.answer(ask))
    line = last_line(directory)
    assert (line["kind"], line["key_id"], line["serial"]) == ("ssh", GRANT, str(ask.spec.serial))
    assert line["principals.0"] == ask.spec.principals[0]
    assert line["record"] == hashlib.sha256(ask.record).hexdigest()
    told = [line["signatures.0"], line["signatures.1"]]
    assert told == [hashlib.sha256(s).hexdigest() for s in ask.signatures]
    assert b"canary" not in (directory / NAME).read_bytes()


@pytest.mark.parametrize("pty", [True, False])
def test_a_terminal_is_signed_where_the_action_says_it(authority: Authority, directory: Path, *, pty: bool) -> None:
    """I-10: a broker that was taken over cannot add a terminal, and with it a keyboard, to what a person approved."""
    for said in (True, False):
        before = verify(directory / NAME)
        record = ASK.record(pty=said)
        ask = ASK.ask(record, MANAGER, spec=replace(ASK.spec(record), permit_pty=pty))
        answer = authority.answer(ask)
        if said == pty:
            blob(answer)
        else:
            assert answer == Refused(why="certificate refused: a terminal where its action says so")
            assert verify(directory / NAME) == before


@pytest.mark.parametrize("name", [name for name, _ in BAD_EGRESS])
def test_what_must_never_be_signed_leaves_no_trace(authority: Authority, directory: Path, name: str) -> None:
    """The signer checks for itself, whatever the broker checked; nothing is signed and nothing journalled (I-07)."""
    before = verify(directory / NAME)
    spec = replace(egress(), **dict(BAD_EGRESS)[name])
    record = ASK.record(READ)
    answer = authority.answer(ASK.ask(record, spec=spec))
    assert isinstance(answer, Refused)
    assert answer.why.startswith("certificate refused")
    assert verify(directory / NAME) == before


@pytest.mark.parametrize("key", [b"", b"\0\0\0\x07ssh-rsa", bytes(51)])
def test_other_keys_are_refused(authority: Authority, key: bytes) -> None:
    """Only plain Ed25519 keys get a certificate."""
    assert isinstance(authority.answer(replace(ASK.ask(ASK.record(READ)), public_key=key)), Refused)
    assert isinstance(authority.answer(SignX509(spec=client(), csr_der=key)), Refused)


def test_what_cannot_be_journalled_is_not_handed_out(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that cannot reach the disk makes every signature a refusal (I-30, I-31)."""
    opened = open_authority(directory)
    ask = ASK.ask(ASK.record(READ))

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
    answer = authority.answer(ASK.ask(ASK.record(READ)))
    assert answer == Refused(why="certificate differs from its specification")
    assert verify(directory / NAME) == before
