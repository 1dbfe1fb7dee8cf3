"""A secret from a file to a file in memory: put, asked for, approved, checked out once, due at the end (P33, I-50)."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from grantd import Client, asking, secrets
from grantd.errors import GrantdError
from grantd.v1 import access_pb2
from tests.e2e.stage import TEAM, House

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-vault")]
VALUE = b"canary-" + os.urandom(24).hex().encode()
NAME = "db-admin"


@pytest.fixture(scope="module")
def stocked(house: House, tmp_path_factory: pytest.TempPathFactory) -> House:
    """A house with one secret that the team's agents can ask for."""
    file = tmp_path_factory.mktemp("value") / "value"
    file.write_bytes(VALUE)
    done = house.ctl("owner", "secret", "put", NAME, "--file", str(file), "--team", TEAM)
    assert done.status == 0, done.err
    assert "version 1" in done.out
    file.unlink()
    return house


def grant_of(house: House) -> str:
    """A grant on the secret, which the approver gave."""
    client = house.client("builder")
    asked = client.request_access(NAME, "value", ceiling="execute", ttl=timedelta(minutes=5), reason="migrate")
    assert asked.state == access_pb2.REQUEST_STATE_PENDING, "a person decides"
    house.decide(asked.id)
    return asking.require_grant(client.get_request(asked.id))


@pytest.fixture
def taken(stocked: House) -> Iterator[tuple[str, Path]]:
    """What `grantctl secret checkout` left; removed afterwards."""
    grant = grant_of(stocked)
    done = stocked.ctl("builder", "secret", "checkout", grant)
    assert done.status == 0, done.err
    path = Path(done.out.strip())
    yield grant, path
    path.unlink(missing_ok=True)
    path.parent.rmdir()


def test_it_comes_once_into_a_private_file_in_memory(stocked: House, taken: tuple[str, Path]) -> None:
    """0400 in a directory 0700 of a file system in memory; a second checkout of the grant is refused."""
    grant, path = taken
    assert path.read_bytes() == VALUE
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    again = stocked.ctl("builder", "secret", "checkout", grant)
    assert again.status != 0
    assert "handed its value out" in again.err
    assert stocked.audited("secret.refused", lambda entry: entry["grant"] == grant)
    assert stocked.audited("secret.read", lambda entry: entry["grant"] == grant)


def test_it_goes_into_a_pipe(stocked: House) -> None:
    """Exactly its bytes, no newline."""
    done = stocked.ctl("builder", "secret", "checkout", grant_of(stocked), "--stdout")
    assert (done.status, done.out.encode()) == (0, VALUE)


def test_a_program_gets_a_buffer_that_it_can_zero(stocked: House) -> None:
    """The SDK gives a bytearray, and takes one."""
    client: Client = stocked.client("builder")
    grant = grant_of(stocked)
    value = client.checkout(grant)
    assert value == VALUE
    secrets.zero(value)
    assert value == bytes(len(VALUE))
    with pytest.raises(GrantdError) as refused:
        client.checkout(grant)
    assert refused.value.code == "already_checked_out"


def test_at_the_end_it_is_due_until_it_is_changed(stocked: House, taken: tuple[str, Path], tmp_path: Path) -> None:
    """The list says so, and stops when the next value is put, here by a descriptor."""
    grant, _ = taken
    stocked.client("builder").revoke(grant, "done")
    stocked.audited("secret.due", lambda entry: entry["grant"] == grant)
    (listed,) = stocked.ctl("owner", "secret", "list", "-o", "json").json()
    assert listed["due_since"]
    assert "value" not in listed
    done = stocked.ctl("owner", "secret", "rotate", NAME, "--fd", "0", stdin=VALUE)
    assert done.status == 0, done.err
    (listed,) = stocked.ctl("owner", "secret", "list", "-o", "json").json()
    assert (listed["version"], "due_since" in listed) == (2, False)


def content(path: Path) -> bytes:
    """Of a file that may be gone by now: heads are written and renamed all the time."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def test_no_file_of_the_broker_holds_it(stocked: House, taken: tuple[str, Path]) -> None:
    """Database, write-ahead log, log, recordings, what the kernel shows of it: in no usual spelling (I-53)."""
    forms = [VALUE, VALUE.hex().encode(), *(base64.b64encode(VALUE[n:])[4:-4] for n in range(3))]
    places = [path for path in stocked.folder.rglob("*") if path.is_file()]
    places += [Path(f"/proc/{stocked.pid}/{name}") for name in ("cmdline", "environ")]
    found = [str(path) for path in places for form in forms if form in content(path)]
    assert found == []


def test_only_owners_and_admins_put_and_list(stocked: House) -> None:
    """Nobody else, and nobody gets a value by either."""
    for who in ("approver", "builder"):
        assert stocked.ctl(who, "secret", "list").status == 3
        assert stocked.ctl(who, "secret", "put", "x", "--fd", "0", stdin=b"v").status == 3


def test_no_value_comes_by_an_argument(stocked: House) -> None:
    """There is no way to say one there, nor by a variable."""
    assert stocked.ctl("owner", "secret", "put", "x", VALUE.decode()).status == 2
    done = stocked.ctl("owner", "secret", "put", "x", stdin=VALUE)
    assert done.status != 0
    assert "no terminal" in done.err
