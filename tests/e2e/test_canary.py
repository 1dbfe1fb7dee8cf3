"""No secret is found where it must not be, in any spelling, and the search finds what is planted (I-36, I-51, I-53)."""

from __future__ import annotations

import base64
import contextlib
import os
import stat
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
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
    sweep_clients,
    sweep_files,
    sweep_outside,
    sweep_processes,
    told,
)
from tests.e2e.canary_job import Job, lived_in
from tests.e2e.stage import ASKS
from tests.peers_postgres import PostgresCluster

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.sshd,
    pytest.mark.xdist_group("e2e-canary"),
    pytest.mark.timeout(420),  # twenty programs, one after another, on a machine that may be busy
    pytest.mark.skipif(os.geteuid() != 0, reason="only root reads the memory of an undumpable process"),
]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, postgres_cluster: PostgresCluster) -> Iterator[Job]:
    """The main job, done once."""
    for program in ("sshd", "ssh", "ssh-keygen"):
        peers.require(program)
    with lived_in(tmp_path_factory.mktemp("canary"), postgres_cluster) as job:
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
    """Logs, database, its write-ahead log, journal, recordings as stored and played, audit, metrics, errors, /tmp.

    And what the kernel showed of grantctl while it ran, and what the database server wrote.
    """
    sweep = Sweep(job.secrets)
    sweep_files(sweep, job.house, job.keys)
    sweep_clients(sweep, job.clients, job.logs)
    sweep_outside(sweep, told(job.house), job.said)
    assert sweep.found() == []
    assert {
        "log", "database pages", "write-ahead log", "signer's journal", "recordings, as stored",
        "recordings, as played", "temporary files", "audit entries", "metrics", "error texts",
        "words and variables of grantctl", "log of the database server",
    } <= sweep.swept.keys()  # fmt: skip
    assert all(count.places for count in sweep.swept.values())
    assert all(b"grantctl" in data for name, data in job.clients.items() if name.startswith("cmdline"))


def test_everything_that_is_secret_was_used(job: Job) -> None:
    """32 bytes or text of at least 29, each another: what is short, or there twice, would prove nothing."""
    seeded = {
        "join secret", "unspent join secret", "grant token", "declared stdin", "typed password", "ssh user key",
        "client key", "approval key", "secret value", "secret value, replaced", "upload key", "checkout key",
        "database password", "role password", "role's stored key", "role's server key", "sealed key",
        "sealed passphrase", "root key", "token seed", "head seed", "egress.key", "journal.key",
    }  # fmt: skip
    assert seeded <= job.secrets.keys()
    assert len(set(job.secrets.values())) == len(job.secrets)
    assert {name for name, secret in job.secrets.items() if len(secret) < 32} == {"sealed passphrase"}


def test_no_process_leaves_a_core(job: Job) -> None:
    """Broker, signer and worker alike: soft and hard limit are zero."""
    assert set(core_limits(job.house).values()) == {"0 0"}


def test_every_file_is_its_owners_alone(job: Job) -> None:
    """After the whole job each folder in the data directory is 0700 and each file no more than 0600 (I-53)."""
    open_ = []
    for path in [job.house.data, *job.house.data.rglob("*")]:
        with contextlib.suppress(FileNotFoundError):  # the broker runs on: one that it just renamed has another name
            mode = path.lstat().st_mode
            if stat.S_IMODE(mode) & (0o077 if stat.S_ISDIR(mode) else 0o177):
                open_.append(f"{path} {stat.S_IMODE(mode):04o}")
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
    """A command that prints a secret leaves it in what a player shows; entries, metrics and errors are read as well."""
    house = job.house
    running = house.run(house.grant(ASKS), "echo " + job.secrets["typed password"].hex())
    assert running.finished().exit_status == 0
    outside = told(house)
    entries = dict(outside.entries) | {"planted": b'{"reason":"' + base64.b64encode(job.secrets["sealed key"]) + b'"}'}
    metrics = outside.metrics + b'grantd_x{role="' + job.secrets["role password"] + b'"} 1\n'
    sweep = Sweep(job.secrets)
    reply = "no such " + job.secrets["join secret"].hex().upper()
    sweep_outside(sweep, replace(outside, entries=entries, metrics=metrics), {"a reply": reply})
    assert {(finding.kind, finding.secret) for finding in sweep.found()} == {
        ("recordings, as played", "typed password"),
        ("audit entries", "typed password"),  # the command itself, to those who may read it
        ("audit entries", "sealed key"),
        ("metrics", "role password"),
        ("error texts", "join secret"),
    }


def test_a_planted_leak_is_found_around_grantctl(job: Job, tmp_path: Path) -> None:
    """In its words, in its variables, and in a log of the server that it connects to."""
    log = tmp_path / "log"
    log.write_bytes(
        b"STATEMENT: CREATE ROLE x PASSWORD '" + base64.b64encode(job.secrets["role's stored key"]) + b"'\n"
    )
    clients = {
        "cmdline": b"grantctl\0secret\0put\0" + job.secrets["secret value"] + b"\0",
        "environ": b"A=1\0PGPASSWORD=" + job.secrets["database password"] + b"\0",
    }
    sweep = Sweep(job.secrets)
    sweep_clients(sweep, clients, {"log of the database server": log})
    assert {(finding.place, finding.secret) for finding in sweep.found()} == {
        ("cmdline", "secret value"), ("environ", "database password"), (str(log), "role's stored key"),
    }  # fmt: skip


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
