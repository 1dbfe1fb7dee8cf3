"""A fake broker with one signed-in person, for every test of the client side."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest

from grantd.client import Client
from grantd.enrolment import Join, enrol
from grantd.profile import Profile
from tests.agents.desk import Desk, helping
from tests.agents.fake_admin import JOIN_SECRET
from tests.agents.fake_broker import FakeBroker


@dataclass(frozen=True, slots=True)
class Person:
    """A profile and the approval key beside it."""

    profile: Profile
    key: Path


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    """Listening; nothing waits."""
    made = FakeBroker()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def person(broker: FakeBroker, tmp_path: Path) -> Person:
    """Enrolled at the fake broker, with an unencrypted Ed25519 approval key in the profile."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    broker.approval_key = key.export_public_key().decode().strip()
    profile = enrol(join_of(broker), tmp_path / "profile", approval_key="approval_key")
    path = profile.directory / "approval_key"
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key())
    return Person(profile, path)


@pytest.fixture
def home(person: Person) -> Path:
    """The profile's directory."""
    return person.profile.directory


@pytest.fixture
def client(person: Person) -> Iterator[Client]:
    """By client certificate."""
    with Client(person.profile) as made:
        yield made


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A runtime directory; short, because a socket's path may not be long."""
    made = Path(tempfile.mkdtemp(prefix="gr"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def desk(person: Person, runtime: Path) -> Desk:
    """Nobody listens yet."""
    return Desk(person.profile.directory, runtime)


@pytest.fixture
def helper(desk: Desk) -> Iterator[subprocess.Popen[bytes]]:
    """Listening."""
    with helping(desk) as process:
        yield process


def join_of(broker: FakeBroker, *, secret: bytes = JOIN_SECRET) -> Join:
    """A join file for the fake broker."""
    return Join(
        join_address=broker.join_address,
        ca_certificate=broker.authority.pem.decode(),
        tenant="t1",
        name="approver",
        secret=secret,
        server_name="",
    )
