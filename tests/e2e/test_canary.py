"""No secret is found where it must not be, in any spelling, and the search finds what is planted (I-36, I-51, I-53)."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import peers
from tests.e2e.canary import (
    IN_USE,
    SETTLE_SECONDS,
    Sweep,
    core_limits,
    forms,
    memory,
    roles,
    sweep_files,
    sweep_outside,
    sweep_processes,
)
from tests.e2e.canary_job import Job, lived_in
from tests.e2e.stage import ASKS

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.sshd,
    pytest.mark.xdist_group("e2e-canary"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root reads the memory of an undumpable process"),
]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """The main job, done once."""
    for program in ("sshd", "ssh", "ssh-keygen"):
        peers.require(program)
    with lived_in(tmp_path_factory.mktemp("canary")) as job:
        time.sleep(SETTLE_SECONDS)
        yield job


def test_no_process_holds_what_it_is_done_with(job: Job) -> None:
    """Five seconds later no memory, argument or variable of broker, signer and worker has a spelling of any secret."""
    sweep = Sweep(job.secrets)
    sweep_processes(sweep, job.house)
    assert set(roles(job.house).values()) == set(IN_USE)
    assert sweep.found() == []
    assert all(count.size > 1 << 20 for kind, count in sweep.swept.items() if kind.startswith("memory"))


def test_the_search_sees_what_is_at_work(job: Job) -> None:
    """What a process does hold by right is found in it, so that a search which sees nothing would not pass."""
    for pid, role in roles(job.house).items():
        for name in IN_USE[role]:
            found = Sweep({name: job.secrets[name]}).look("memory", pid, memory(pid))
            assert found or name == "head seed", (role, name)


def test_nothing_that_is_written_or_told_holds_one(job: Job) -> None:
    """Logs, database, its write-ahead log, journal, recordings as stored and played, audit, metrics, errors, /tmp."""
    sweep = Sweep(job.secrets)
    sweep_files(sweep, job.house, job.keys)
    sweep_outside(sweep, job.house, job.said)
    assert sweep.found() == []
    assert {
        "log", "database pages", "write-ahead log", "signer's journal", "recordings, as stored",
        "recordings, as played", "temporary files", "audit entries", "metrics", "error texts",
    } <= sweep.swept.keys()  # fmt: skip
    assert all(count.places for count in sweep.swept.values())


def test_no_process_leaves_a_core(job: Job) -> None:
    """Broker, signer and worker alike: soft and hard limit are zero."""
    assert set(core_limits(job.house).values()) == {"0 0"}


def test_every_file_is_its_owners_alone(job: Job) -> None:
    """After the whole job each folder in the data directory is 0700 and each file no more than 0600 (I-53)."""
    open_ = [
        f"{path} {stat.S_IMODE(path.lstat().st_mode):04o}"
        for path in [job.house.data, *job.house.data.rglob("*")]
        if stat.S_IMODE(path.lstat().st_mode) & (0o077 if path.is_dir() else 0o177)
    ]
    assert open_ == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("data/planted.db", "database pages"),
        ("data/planted.db-wal", "write-ahead log"),
        ("data/signer/planted.log", "signer's journal"),
        ("data/recordings/planted.grec", "recordings, as stored"),
        ("data/checkpoints/planted", "other state"),
        ("data/planted.log", "log"),
        (f"{tempfile.gettempdir()}/grantd-planted", "temporary files"),
    ],
)
def test_a_planted_leak_is_found_in_files(job: Job, name: str, kind: str) -> None:
    """One secret in one file, in the middle of other bytes and in base64, is found there and nowhere else."""
    place = job.house.folder / name
    place.write_bytes(os.urandom(4097) + base64.b64encode(b"xy" + job.secrets["egress.key"]) + os.urandom(99))
    try:
        sweep = Sweep(job.secrets)
        sweep_files(sweep, job.house, job.keys)
        found = {(finding.kind, finding.place, finding.secret) for finding in sweep.found()}
    finally:
        place.unlink()
    assert found == {(kind, str(place), "egress.key")}


def test_a_planted_leak_is_found_in_a_process(job: Job) -> None:
    """In the memory, the words and the variables of a process that has it."""
    secret = job.secrets["declared stdin"]
    hold = (
        "import sys; held = bytearray(sys.stdin.buffer.read()); print('held', flush=True); import time; time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, secret.hex()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"LEAK": urllib.parse.quote(secret)},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(job.secrets["typed password"])
            process.stdin.close()
            assert process.stdout.readline() == b"held\n"
            sweep = Sweep(job.secrets)
            proc = Path(f"/proc/{process.pid}")
            assert {f.form for f in sweep.look("cmdline", 1, [(proc / "cmdline").read_bytes()])} == {"hex"}
            assert {f.secret for f in sweep.look("environ", 1, [(proc / "environ").read_bytes()])} == {"declared stdin"}
            assert "typed password" in {f.secret for f in sweep.look("memory", 1, memory(process.pid))}
        finally:
            process.kill()


def test_a_planted_leak_is_found_in_what_is_told(job: Job) -> None:
    """A command that prints a secret leaves it in what a player shows, and errors and entries are read as well."""
    house = job.house
    running = house.run(house.grant(ASKS), "echo " + job.secrets["typed password"].hex())
    assert running.finished().exit_status == 0
    sweep = Sweep(job.secrets)
    sweep_outside(sweep, house, {"a reply": "no such " + job.secrets["join secret"].hex().upper()})
    found = {(finding.kind, finding.secret, finding.form) for finding in sweep.found()}
    assert ("recordings, as played", "typed password", "hex") in found
    assert ("error texts", "join secret", "HEX") in found


def test_every_spelling_is_looked_for() -> None:
    """Raw, hex, base64 at each alignment and in both alphabets, JSON, URL, and turned round; across a boundary too."""
    secret = bytes(range(200, 232))
    text = bytes(range(33, 65))
    spelt = [secret, secret.hex().encode(), secret.hex().upper().encode(), secret[::-1]]
    spelt += [base64.b64encode(b"x" * before + secret + b"yz") for before in range(7)]
    spelt += [base64.urlsafe_b64encode(b"x" * before + secret) for before in range(7)]
    for each in spelt:
        assert Sweep({"s": secret}).look("k", "p", [b"\0" * 50 + each[:9], each[9:]]), each
    for each in (urllib.parse.quote_from_bytes(text).encode(), b'!\\"#$%&' + text[6:]):
        assert Sweep({"s": text}).look("k", "p", [each]), each
    assert not Sweep({"s": secret}).look("k", "p", [os.urandom(100_000)])
    assert len(forms(secret)) >= 10
