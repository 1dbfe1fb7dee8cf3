"""A private PostgreSQL for the tests: its own files, port and passwords, gone with the test session.

Never touches a cluster of this machine. Runs as an unprivileged user even when the tests run as root, because the
server refuses root. Durability is off: these databases outlive nothing.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL

from tests import peers
from tests.processes import free_port, stop_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

OWNER: Final = "grantd_owner"  # owns the tables, runs the migrations; row security is forced on it as well
APP: Final = "grantd_app"  # what a broker connects as; owns nothing, bypasses nothing
_ADMIN: Final = "postgres"
_START_SECONDS: Final = 20
_FAST: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "32MB"}
_MORE: Final = {"max_prepared_transactions": "4"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresDatabase:
    """One fresh database, as the three roles see it (SQLAlchemy URLs for the psycopg driver)."""

    name: str
    admin: URL
    owner: URL
    app: URL


class PostgresCluster:
    """A running private cluster. Made by start, ended by stop."""

    def __init__(self, *, folder: Path, port: int, passwords: dict[str, str], process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.port = port
        self._passwords = passwords
        self._process = process

    @classmethod
    def start(cls) -> Self:
        """Make a cluster below the temporary folder and start it; a peer that cannot start raises RuntimeError."""
        folder = Path(tempfile.mkdtemp(prefix="grantd-pg-"))
        try:
            programs = _reachable_programs(folder)
            passwords = {role: secrets.token_urlsafe(18) for role in (_ADMIN, OWNER, APP)}
            _initialise(folder, programs, passwords[_ADMIN])
            port = free_port()
            cluster = cls(folder=folder, port=port, passwords=passwords, process=_serve(folder, programs, port))
        except BaseException:
            shutil.rmtree(folder)
            raise
        try:
            cluster._await_ready()
            cluster._create_roles()
        except BaseException:
            cluster.stop()
            raise
        return cluster

    def stop(self) -> None:
        """End the server at once and remove its files."""
        stop_tree(self._process, signal.SIGINT)  # PostgreSQL's "fast": ends sessions, keeps no caller waiting
        shutil.rmtree(self.folder)

    @property
    def pid(self) -> int:
        """The server; what it forks is below it."""
        return self._process.pid

    def url(self, role: str, database: str) -> URL:
        """Where SQLAlchemy finds the database as that role, over loopback TCP."""
        password = self._passwords[role]
        return URL.create(
            "postgresql+psycopg", username=role, password=password, host="127.0.0.1", port=self.port, database=database
        )

    def create_database(self, *, template: str = "template0") -> PostgresDatabase:
        """A database of its own, owned by OWNER, whose future tables APP may read and write (nothing else)."""
        name = f"t_{secrets.token_hex(6)}"
        with self._connect(_ADMIN) as admin:
            admin.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(OWNER), sql.Identifier(template)
                )
            )
        with self._connect(OWNER, name) as owner:
            owner.execute(f"GRANT USAGE ON SCHEMA public TO {APP}")
            owner.execute(f"ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {APP}")
            owner.execute(f"ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO {APP}")
        return PostgresDatabase(
            name=name, admin=self.url(_ADMIN, name), owner=self.url(OWNER, name), app=self.url(APP, name)
        )

    def superuser(self, database: str) -> psycopg.Connection:
        """A connection as the server's own superuser, in autocommit."""
        return self._connect(_ADMIN, database)

    def drop_database(self, name: str) -> None:
        """Remove the database and end whoever is still connected to it."""
        with self._connect(_ADMIN) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _connect(self, role: str, database: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=role,
            password=self._passwords[role],
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        )

    def _create_roles(self) -> None:
        with self._connect(_ADMIN) as admin:
            for role in (OWNER, APP):
                admin.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), self._passwords[role])
                )

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._connect(_ADMIN).close()
            except psycopg.OperationalError as refused:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = (self.folder / "log").read_text(errors="replace")
                    raise RuntimeError(f"PostgreSQL did not start: {log[-2000:]}") from refused
                time.sleep(0.05)
            else:
                return


def _unprivileged() -> list[str]:
    """How to run a server program: as nobody if we are root, and never longer than this process lives."""
    ends_with_us = ["setpriv", "--pdeathsig=INT"]
    if os.geteuid() != 0:
        return ends_with_us
    nobody = pwd.getpwnam("nobody")
    return [*ends_with_us, f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]


def _reachable_programs(folder: Path) -> Path:
    """The folder of the server's programs; copied first when the unprivileged user cannot reach the unpacked ones."""
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    initdb = peers.get("initdb")
    probe = subprocess.run(
        [*_unprivileged(), str(initdb), "--version"], check=False, env=peers.environment(initdb), capture_output=True
    )
    if probe.returncode == 0:
        return initdb.parent
    if not initdb.is_relative_to(peers.PRIVATE_ROOT):
        raise RuntimeError(f"{initdb} does not run: {probe.stderr.decode(errors='replace')}")
    shutil.copytree(peers.PRIVATE_ROOT, folder / "programs", symlinks=True)
    return folder / "programs" / initdb.parent.relative_to(peers.PRIVATE_ROOT)


def _environment(programs: Path) -> dict[str, str]:
    env = peers.environment(peers.get("initdb"))
    copied = next((parent for parent in programs.parents if parent.name == "programs"), None)
    if copied is not None:
        env["LD_LIBRARY_PATH"] = env["LD_LIBRARY_PATH"].replace(str(peers.PRIVATE_ROOT), str(copied))
    return env | {"LC_ALL": "C", "TZ": "UTC"}


def _initialise(folder: Path, programs: Path, password: str) -> None:
    secret = folder / "password"
    secret.write_text(password)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(secret, nobody.pw_uid, nobody.pw_gid)
    options = [f"--pgdata={folder / 'data'}", f"--username={_ADMIN}", f"--pwfile={secret}", "--no-sync"]
    options += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
    made = subprocess.run(
        [*_unprivileged(), str(programs / "initdb"), *options],
        check=False,
        env=_environment(programs),
        cwd=folder,
        capture_output=True,
    )
    if made.returncode != 0:
        raise RuntimeError(f"initdb failed: {made.stderr.decode(errors='replace')}")


def _serve(folder: Path, programs: Path, port: int) -> subprocess.Popen[bytes]:
    settings = (
        _FAST | _MORE | {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": str(folder)}
    )
    arguments = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [*_unprivileged(), programs / "postgres", "-D", folder / "data", *arguments],
            env=_environment(programs),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the terminal is for pytest; it then stops the server itself
        )


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[PostgresCluster]:
    """A private PostgreSQL server, one a test process, started when the first test asks for it."""
    for program in peers.PEERS["postgres"]:
        peers.require(program)
    cluster = PostgresCluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
def postgres_database(postgres_cluster: PostgresCluster) -> Iterator[PostgresDatabase]:
    """A fresh, empty database for one test, dropped after it."""
    database = postgres_cluster.create_database()
    yield database
    postgres_cluster.drop_database(database.name)
