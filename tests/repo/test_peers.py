"""The peers themselves: what other tests take for granted about them."""

from __future__ import annotations

import socket
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncssh
import psycopg
import pytest
from sqlalchemy import create_engine, text

from tests import peers
from tests.peers_sshd import login

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers_postgres import PostgresCluster, PostgresDatabase
    from tests.peers_sshd import Sshd, StartSshd

EGRESS = "grantd:tenant:target:login"


def user_certificate(ca: asyncssh.SSHKey, key: asyncssh.SSHKey, principal: str) -> asyncssh.SSHCertificate:
    """A one-minute certificate such as the egress CA makes."""
    now = datetime.now(tz=UTC)
    return ca.generate_user_certificate(
        key,
        "grant",
        principals=[principal],
        valid_after=now - timedelta(seconds=30),
        valid_before=now + timedelta(seconds=60),
    )


async def run(sshd: Sshd, ca: asyncssh.SSHKey, principal: str, command: str, pinned: str | None = None) -> str:
    """Log in by certificate, pin the host key (the present one if None), run the command, return its stdout."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with asyncssh.connect(
        sshd.host,
        sshd.port,
        username=sshd.login,
        client_keys=[(key, user_certificate(ca, key, principal))],
        known_hosts=([asyncssh.import_public_key(pinned or sshd.host_key)], [], []),
        config=None,
        agent_path=None,
    ) as connection:
        done = await connection.run(command, check=True)
        return str(done.stdout)


@pytest.mark.sshd
async def test_sshd_lets_in_the_trusted_principal_alone(sshd_factory: StartSshd) -> None:
    """A certificate works exactly when its CA is trusted and its principal is listed for the login."""
    ca = asyncssh.generate_private_key("ssh-ed25519")
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    sshd = sshd_factory(user_cas=[ca.export_public_key().decode()], principals={login(): [EGRESS]})
    assert await run(sshd, ca, EGRESS, "echo $SHLVL$((1+1))") == "42\n"  # SetEnv SHLVL=3, plus the shell itself
    with pytest.raises(asyncssh.PermissionDenied):
        await run(sshd, ca, "grantd:tenant:other:login", "true")
    with pytest.raises(asyncssh.PermissionDenied):
        await run(sshd, stranger, EGRESS, "true")
    assert "Accepted publickey" in sshd.log()


@pytest.mark.sshd
async def test_sshd_comes_back_with_another_host_key(sshd_factory: StartSshd) -> None:
    """A replaced host keeps its port and fails the pin."""
    ca = asyncssh.generate_private_key("ssh-ed25519")
    sshd = sshd_factory(user_cas=[ca.export_public_key().decode()], principals={login(): [EGRESS]})
    pinned = sshd.host_key
    sshd.restart_with_new_host_key()
    with pytest.raises(asyncssh.HostKeyNotVerifiable):
        await run(sshd, ca, EGRESS, "true", pinned)
    assert await run(sshd, ca, EGRESS, "echo back") == "back\n"


@pytest.mark.sshd
async def test_a_stopped_sshd_leaves_nothing(sshd_factory: StartSshd) -> None:
    """stop() ends the listener and the sessions, so no test can disturb the next."""
    ca = asyncssh.generate_private_key("ssh-ed25519")
    sshd = sshd_factory(user_cas=[ca.export_public_key().decode()], principals={login(): [EGRESS]})
    key = asyncssh.generate_private_key("ssh-ed25519")
    connection = await asyncssh.connect(
        sshd.host,
        sshd.port,
        username=sshd.login,
        client_keys=[(key, user_certificate(ca, key, EGRESS))],
        known_hosts=None,
        config=None,
        agent_path=None,
    )
    sshd.stop()
    await connection.wait_closed()
    with pytest.raises(ConnectionRefusedError), socket.create_connection((sshd.host, sshd.port), timeout=5):
        pass


@pytest.mark.postgres
def test_the_app_role_reads_and_owns_nothing(postgres_database: PostgresDatabase) -> None:
    """Row security can be proved only against a role that neither owns the tables nor bypasses it."""
    owner = create_engine(postgres_database.owner)
    with owner.begin() as connection:
        connection.execute(text("CREATE TABLE things (tenant text PRIMARY KEY)"))
    owner.dispose()
    with psycopg.connect(postgres_database.app.render_as_string(hide_password=False).replace("+psycopg", "")) as app:
        app.execute("INSERT INTO things VALUES ('a')")
        assert app.execute("SELECT tenant FROM things").fetchall() == [("a",)]
        privileged = app.execute("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
        assert privileged.fetchone() == (False,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute("ALTER TABLE things DISABLE ROW LEVEL SECURITY")


@pytest.mark.postgres
def test_databases_are_apart(postgres_cluster: PostgresCluster) -> None:
    """Each test starts from an empty database."""
    names = set()
    for _ in range(2):
        database = postgres_cluster.create_database()
        names.add(database.name)
        engine = create_engine(database.owner)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE once (id int)"))
        engine.dispose()
        postgres_cluster.drop_database(database.name)
    assert len(names) == 2


def test_a_missing_peer_skips_its_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without GRANTD_REQUIRE an absent program skips, and the reason says how to get it."""
    monkeypatch.delenv("GRANTD_REQUIRE", raising=False)
    monkeypatch.setattr(peers, "_places", lambda: ())
    with pytest.raises(pytest.skip.Exception, match=r"sshd is not on this machine.*make peers"):
        peers.require("sshd")


def test_a_missing_peer_fails_its_test_where_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    """CI names the peers, so that a partial run never passes for a full one."""
    monkeypatch.setenv("GRANTD_REQUIRE", "postgres,sshd")
    monkeypatch.setattr(peers, "_places", lambda: ())
    with pytest.raises(pytest.fail.Exception, match="GRANTD_REQUIRE names sshd"):
        peers.require("ssh-keygen")
    with pytest.raises(pytest.skip.Exception):
        peers.require("tmux")


def test_a_misspelt_requirement_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that nothing answers to would require nothing."""
    monkeypatch.setenv("GRANTD_REQUIRE", "postgers")
    with pytest.raises(ValueError, match="postgers"):
        peers.required()


def test_peers_script_finds_what_peers_finds(tmp_path: Path) -> None:
    """`make peers` says nothing exactly when the tests will find everything; it never fails the build."""
    ran = subprocess.run(
        ["sh", str(peers.REPOSITORY / "tests" / "peers.sh")], check=False, capture_output=True, cwd=tmp_path, timeout=50
    )
    assert ran.returncode == 0
    fetched = peers.PEERS.keys() - {"systemd", "clients"}  # a part of the machine or not, and of `make clients`
    everything = all(peers.find(program) for peer in fetched for program in peers.PEERS[peer])
    assert (ran.stderr == b"") == everything
