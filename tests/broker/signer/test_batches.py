"""Questions that wait together share one fsync, and nothing else: not a refusal, not an approval, not a lost disk."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.core.cert import Ca
from broker.core.generation import Step
from broker.core.glass import GLASS_NAMESPACE
from broker.core.signing import AskCa, AskHead, OpenGlass, Refused, Signed, SignSsh, Told
from broker.core.signwire import encode_ask, frame
from broker.core.sshcert import parse
from broker.signer.authority import Authority
from broker.signer.journal import HEAD_ROWS, NAME, Journal
from tests.broker.signer import sealed
from tests.broker.signer.journals import rows, verify
from tests.broker.signer.world import (
    INSTALL,
    MANAGER,
    OWNER,
    SECOND,
    Asker,
    furnish,
    machine,
    open_authority,
    rotate,
    rotation,
)
from tests.broker.ssh_keys import NOW, ingress, new_public_key

ASK = Asker()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Keys and an empty journal."""
    furnish(tmp_path / "keys", machine("web1"))
    return tmp_path / "keys"


@pytest.fixture
def authority(directory: Path) -> Iterator[Authority]:
    """An authority whose clock stands."""
    made = open_authority(directory)
    yield made
    made.stop()


class Disk:
    """os.fsync, which counts, and fails while it is told to."""

    def __init__(self) -> None:
        self.synced, self.full = 0, False
        self._fsync = os.fsync

    def __call__(self, descriptor: int) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.synced += 1
        self._fsync(descriptor)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Under the journal."""
    made = Disk()
    monkeypatch.setattr("broker.signer.journal.os.fsync", made)
    return made


def plain(now: datetime | None = None) -> SignSsh:
    """A question that proves nothing: a certificate for the door."""
    spec = ingress(now) if now else ingress()
    return SignSsh(spec=spec, public_key=new_public_key(), record=b"", signatures=())


def test_a_batch_is_one_fsync_and_rows_stand_as_answers_do(authority: Authority, directory: Path, disk: Disk) -> None:
    """Every row is on disk when the answers are given, in the order of the answers (I-31)."""
    asks, before = [plain() for _ in range(20)], disk.synced
    answers = authority.answers(asks)
    assert disk.synced == before + 1
    signed = [parse(each.blob).serial for each in answers if isinstance(each, Signed)]
    assert signed == [ask.spec.serial for ask in asks]
    lines = (directory / NAME).read_bytes().splitlines()[-20:]
    assert [json.loads(line)["serial"] for line in lines] == [str(serial) for serial in signed]


def test_a_bad_question_refuses_itself_alone(authority: Authority, directory: Path) -> None:
    """Refused by a rule or by nobody's foresight: those beside it are signed, and only they have rows."""
    broken = plain()
    object.__setattr__(broken, "public_key", None)
    asks = [plain(), replace(plain(), spec=replace(ingress(), principals=())), plain(), broken, plain()]
    answers = authority.answers(asks)
    assert [type(each) for each in answers] == [Signed, Refused, Signed, Refused, Signed]
    authority.stop()
    assert verify(directory / NAME) == 3


def test_one_approval_is_one_certificate_in_a_batch_too(authority: Authority) -> None:
    """Two questions of one record beside each other: the second finds it used (I-12)."""
    record = ASK.record(INSTALL)
    first, second = ASK.ask(record, MANAGER), ASK.ask(record, MANAGER)
    one, other = authority.answers([first, second])
    assert isinstance(one, Signed)
    assert isinstance(other, Refused)
    assert "not used yet" in other.why
    assert authority.answer(second) == other


def test_a_sealed_credential_is_opened_once_in_a_batch_too(tmp_path: Path) -> None:
    """Two words over one credential beside each other: the first is its one use, whatever the second asks (I-62)."""
    signer = open_authority(sealed.sealed_directory(tmp_path / "sealed"))
    again = sealed.use(at=NOW + timedelta(seconds=1))
    one, other = signer.answers([sealed.ask(), sealed.ask(opening=again)])
    assert isinstance(one, Signed)
    assert isinstance(other, Refused)
    assert "a sealed credential that was not used yet" in other.why
    signer.stop()


def test_an_opening_is_on_disk_when_it_is_answered(tmp_path: Path) -> None:
    """Its row waits for nobody's certificate (I-62)."""
    signer = open_authority(sealed.sealed_directory(tmp_path / "sealed"))
    said = sealed.use().encoded()
    asked = OpenGlass(use=said, signature=sealed.SEALED.sign(said, GLASS_NAMESPACE))
    assert isinstance(signer.answers([asked])[0], Signed)
    assert b'"kind":"glass"' in (tmp_path / "sealed" / NAME).read_bytes().splitlines()[-1]
    signer.stop()


def test_what_did_not_reach_the_disk_is_refused_and_used_nothing(
    authority: Authority, directory: Path, disk: Disk
) -> None:
    """All of the batch, refusals as they were; with room again the same approval is good, and no half row is left."""
    ask = ASK.ask(ASK.record(INSTALL), MANAGER)
    disk.full = True
    answers = authority.answers([plain(), replace(plain(), spec=replace(ingress(), principals=())), ask])
    assert all(isinstance(each, Refused) for each in answers)
    assert ["journal" in each.why for each in answers if isinstance(each, Refused)] == [True, False, True]
    disk.full = False
    assert isinstance(authority.answer(ask), Signed)
    authority.stop()
    assert verify(directory / NAME) == 1


def test_a_head_that_cannot_be_kept_uses_nothing_up(
    authority: Authority, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on disk is answered; the next batch waits for the head, and its approvals are good once there is room."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    due, ask = [plain() for _ in range(HEAD_ROWS)], ASK.ask(ASK.record(INSTALL), MANAGER)
    with monkeypatch.context() as patched:
        patched.setattr("broker.signer.journal.put", full)
        assert all(isinstance(each, Signed) for each in authority.answers(due))
        written = (directory / NAME).read_bytes()
        refused = authority.answer(ask)
        assert isinstance(refused, Refused)
        assert "journal" in refused.why
    assert (directory / NAME).read_bytes() == written
    assert isinstance(authority.answer(ask), Signed)
    authority.stop()
    assert verify(directory / NAME) == HEAD_ROWS + 1


def test_what_changes_a_key_is_on_disk_by_itself(authority: Authority, directory: Path, disk: Disk) -> None:
    """A step of a rotation between two certificates comes after the first one's row, and signs the second."""
    start = rotation(Ca.INGRESS, Step.START, 2)
    switch = rotation(Ca.INGRESS, Step.SWITCH, 2, forced=True, before=start)
    steps = [rotate(said, OWNER, SECOND) for said in (start, switch)]
    before, _, after, signed = authority.answers([plain(), *steps, plain()])
    assert isinstance(before, Signed)
    assert isinstance(after, Told)
    assert isinstance(signed, Signed)
    assert parse(before.blob).ca_key != parse(signed.blob).ca_key
    authority.stop()
    told = [row.get("step", row.get("ca", "said")) for row in rows(directory / NAME)[1:]]
    assert told == ["ingress", "said", "start", "said", "switch", "ingress"]
    assert disk.synced >= len(told)


def test_a_head_signs_for_nothing_that_is_not_on_disk(authority: Authority, disk: Disk) -> None:
    """Asked for behind certificates of the same batch, it is made after their commit."""
    before = disk.synced
    answers = authority.answers([plain(), plain(), AskHead(since=0), AskCa(ca=Ca.HOST)])
    assert all(isinstance(each, Signed) for each in answers)
    head = answers[2]
    assert isinstance(head, Signed)
    assert b"\n3\n" in head.blob  # the first row and both certificates
    assert disk.synced > before


_DYING = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from broker.signer import journal
from broker.signer.server import AllowedPeer, listen, serve
from tests.broker.signer.world import open_authority
fsync, after = os.fsync, sys.argv[3] == "after"

def dies(descriptor):
    if after:
        fsync(descriptor)
    os.kill(os.getpid(), signal.SIGKILL)

signer = open_authority(Path(sys.argv[1]), lambda: datetime.now(tz=UTC))
me = AllowedPeer(uid=os.geteuid(), pid=None)
listener = listen(Path(sys.argv[2]), own_uid=me.uid, allowed=me)
journal.os.fsync = dies
print("ready", flush=True)
serve(listener, me, signer.answers)
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_kill_nine_at_the_fsync_lets_no_answer_out(directory: Path, tmp_path: Path, moment: str) -> None:
    """A batch of five whose signer dies at its fsync: not a byte came back, and an approval in it stays used (I-12).

    Died after it: the rows are there, of certificates that nobody has. A page cache outlives a process, so they are
    there as well where it died just before; what a power cut leaves is whole rows and half of one (test_journal).
    """
    now = datetime.now(tz=UTC)
    asker = Asker(now)
    record = asker.record(INSTALL)
    asks = [plain(now), plain(now), asker.ask(record, MANAGER), plain(now), plain(now)]
    with subprocess.Popen(
        [sys.executable, "-c", _DYING, str(directory), str(tmp_path / "s"), moment], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(tmp_path / "s"))
            connection.sendall(b"".join(frame(encode_ask(ask)) for ask in asks))
            came = connection.recv(1)
        assert process.wait(timeout=20) == -signal.SIGKILL
    assert came == b""
    again = Journal(directory)
    assert again.used(hashlib.sha256(record.encoded()).digest(), now)
    again.close()
    serials = [row["serial"] for row in rows(directory / NAME) if row["event"] == "certificate.signed"]
    assert serials == [str(ask.spec.serial) for ask in asks]
