"""Somebody has the whole broker process: what the signer, under a uid of its own, still does not sign (I-06, I-10).

The broker is the real one over its real data (tests/e2e/evil.py), the signer the real process as another user, the
target a real sshd. Run with `-s` it prints every try and the rule that said no.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import peers
from tests.e2e.programs import finish
from tests.e2e.stage import ASKS, House

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-taken-over")]
UID = 4242
"""The signer's; nobody else's on a test machine."""
TRIES = {
    "install, no signature": "approved by a person",
    "install, no record": "the record of an action",
    "install, signed by a key of its own": "signed over this record, by somebody whom the signer knows",
    "install, a key that it enrolled itself": "signed over this record, by somebody whom the signer knows",
    "install, the yes to another record": "signed over this record, by somebody whom the signer knows",
    "install, the record of an approval that was used": "an approval that was not used yet",
    "install, tier claimed looser": "approved by a person",
    "install, class claimed lower": "the class that its command has",
    "install forced under the record of a read": "the command of its record and no other",
    "install forced under an approved record": "the command of its record and no other",
    "an approved record, no force-command": "its one command, as it is no read",
    "an approved record, another target": "the target of its record",
    "an approved record, moved to another target": "signed over this record, by somebody whom the signer knows",
    "an approved record, another login": "a login that the target has",
    "an approved record, with a terminal": "a terminal where its action says so",
    "a tenant of its own": "a target that an owner named to the signer",
    "a target that nobody named": "a target that an owner named to the signer",
    "a write where the tier asks": "approved by a person",
    "an opaque script, called clear": "the class that its command has",
    "no force-command for a write": "its one command, as it is no read",
    "a check's certificate with a command": "a check is asked for as one",
    "an owner of its own": "signed by people whom the signer knows",
    "the first owner of a tenant of its own": "of a tenant whose first owner was named at the signer",
    "a looser tier": "signed by people whom the signer knows",
    "an approval from half an hour ago": "asked a short while ago",
    "another key for a CA, no signature": "signed by one to four people",
    "another key for a CA, signed by itself": "signed by people whom the signer knows",
    "an owner's statement of another target": "",
    "the same approval a second time": "an approval that was not used yet",
    "glass: one that it made itself": "signed by people whom the signer knows",
    "glass: spent without its key": "signed by its sealed credential",
    "glass: spent beside a certificate that needs no proof": "its own word opens it still",
    "glass: opened with a second word": "a sealed credential that was not used yet",
    "glass: its word, and no yes": "signed by its sealed credential alone",
    "glass: its word, and a yes of its own": "signed by its sealed credential",
    "glass: its word, and an approver's yes": "signed by its sealed credential",
    "glass: its yes, another target": "the target of its sealed credential",
    "glass: its yes, above its ceiling": "the ceiling of its sealed credential",
    "glass: its yes, for two hours": "the hour of its sealed credential",
    "glass: its yes, with a terminal": "a command by itself",
    "glass: its yes, for an agent": "a sealed credential of who asked",
    "glass: the same yes a second time": "an approval that was not used yet",
}
"""What it tries -> the rule that refuses it; any refusal will do where none stands."""
MAY = (
    "a read on any target",
    "an open connection for reads, as the login that reads are for",
    "a write where the tier lets writes run",
    "what a person approved and nobody ran yet, once",
    "what a sealed key said yes to in its hour, once",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver:
    """What came of it."""

    stage: House
    folder: Path
    told: dict[tuple[str, str], str]


@pytest.fixture(scope="module")
def taken_over() -> Iterator[TakenOver]:
    """A house with a past; then its signer as a service of another user, and its broker in other hands."""
    for program in ("sshd", "ssh", "ssh-keygen", "setpriv"):
        peers.require(program)
    if os.geteuid() != 0:
        pytest.skip("only root can give the signer a user of its own")
    folder = Path(tempfile.mkdtemp(prefix="grantd-taken-"))
    folder.chmod(0o755)
    house = House.build(folder / "house")
    try:
        sealed = ["--target", ASKS, "--login", house.sshd.login, "--ceiling", "write", "--out", f"{folder}/glass"]
        words = ["break-glass", "make", "--person", "approver", *sealed, "--passphrase-file", f"{folder}/glass.words"]
        assert house.ctl("owner", *words).status == 0
        ran = house.approved(house.grant(ASKS), f"touch {folder}/once").finished()
        house.stop()
        signer = _apart(house, folder)
        try:
            yield TakenOver(stage=house, folder=folder, told=_evil(house, folder, ran.id))
        finally:
            signer.send_signal(signal.SIGTERM)
            signer.wait(20)
            assert signer.stdout is not None
            signer.stdout.close()
    finally:
        house.close()
        shutil.rmtree(folder, ignore_errors=True)


def _apart(stage: House, folder: Path) -> subprocess.Popen[bytes]:
    """The signer's directory as another user's, and a signer that runs as that user."""
    mine = folder / "signer"
    mine.mkdir(mode=0o755)
    shutil.move(stage.data / "signer", mine / "keys")
    for place in (mine, *mine.rglob("*")):
        os.chown(place, UID, UID)
    settings = f'\n[signer]\nembedded = false\ndirectory = "{mine}/keys"\nsocket = "{mine}/s"\nuid = {UID}\n'
    stage.config.write_text(stage.config.read_text() + settings)
    # it may read the installation wherever that lies; its own files are its own all the same
    words = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--pdeathsig=TERM",
             "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", sys.executable, "-m", "broker.signer",
             f"--directory={mine}/keys", f"--socket={mine}/s", f"--allowed-uid={os.geteuid()}"]  # fmt: skip
    signer = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert signer.stdout is not None
    assert signer.stdout.readline() == b"ready\n"
    return signer


def _evil(stage: House, folder: Path, action: str) -> dict[tuple[str, str], str]:
    """Runs the broker in other hands, without any privilege over other users' files."""
    place = folder / "evil"
    place.mkdir()
    env = {**os.environ, "EVIL_ACTION": action, "EVIL_FOLDER": str(place)}
    env |= {"EVIL_APPROVER": str(stage.folder / "approver_key"), "EVIL_GLASS": str(folder / "glass")}
    words = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-m", "tests.e2e.evil"]
    done = subprocess.run(
        [*words, str(stage.config), stage.sshd.login], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"kind"')]
    return {(one["kind"], one["name"]): one["told"] for one in said}


def test_a_broker_in_other_hands_gets_nothing_that_nobody_allowed(taken_over: TakenOver) -> None:
    """No way to an install, a write where the tier asks, another target or another rule; each refused by its rule."""
    told = {name: why for (kind, name), why in taken_over.told.items() if kind == "try"}
    for name, why in told.items():
        sys.stdout.write(f"  {name:55} {why.rpartition(': ')[2] or 'SIGNED'}\n")
    assert told.keys() == TRIES.keys()
    for name, rule in TRIES.items():
        assert told[name], f"{name}: signed"
        assert rule in told[name], name


def test_what_a_broker_in_other_hands_can_have_signed(taken_over: TakenOver) -> None:
    """What runs without a person anyway, and what a person allowed, once: so says SECURITY.md."""
    told = {name: why for (kind, name), why in taken_over.told.items() if kind == "may"}
    assert told == dict.fromkeys(MAY, "")


def test_the_signers_files_are_not_the_brokers(taken_over: TakenOver) -> None:
    """Under a uid of its own: neither keys nor what it believes can be read, let alone written (I-06)."""
    told = {name: why for (kind, name), why in taken_over.told.items() if kind == "file"}
    assert len(told) == 4
    assert set(told.values()) == {"PermissionError"}


def test_the_targets_own_sshd_runs_what_was_signed_and_nothing_else(taken_over: TakenOver) -> None:
    """A certificate with a force-command in evil hands: whatever is asked for, the approved bytes run."""
    sshd, place = taken_over.stage.sshd, taken_over.folder / "evil"
    known = place / "known_hosts"
    known.write_text(f"[{sshd.host}]:{sshd.port} {sshd.host_key}\n")
    words = ["ssh", "-F", "none", "-i", str(place / "key"), "-o", f"CertificateFile={place}/key-cert.pub",
             "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes", "-p", str(sshd.port)]  # fmt: skip
    finish([*words, f"{sshd.login}@{sshd.host}", f"touch {place}/mine"])
    assert (place / "forced").exists()
    assert not (place / "mine").exists()
