"""A database to get access to: a private PostgreSQL with TLS, some tables, and a role for the broker that may little.

The broker's role makes roles and gives on what it was given; it is no superuser and owns nothing.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.peers_postgres import PostgresCluster

_TABLES: Final = """
CREATE SCHEMA app;
CREATE TABLE app.orders (id serial PRIMARY KEY, what text NOT NULL);
CREATE TABLE app."Odd Name" (id int);
INSERT INTO app.orders (what) VALUES ('bread'), ('salt');
CREATE SCHEMA private;
CREATE TABLE private.cards (number text);
INSERT INTO private.cards VALUES ('4111');
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """One database of the server, and the broker's role there."""

    cluster: PostgresCluster
    name: str
    admin: str
    password: str
    ca: str
    team: str
    """A role that owns nothing yet and may create in `app`: what a profile can be a member of."""
    sessions: list[psycopg.Connection[tuple[Any, ...]]] = field(default_factory=list)
    """Every one that logged in; closed with the shop."""

    @property
    def port(self) -> int:
        return self.cluster.port

    def ask(self, question: str, *values: object) -> list[tuple[Any, ...]]:
        """As the server's own superuser."""
        with self.cluster.superuser(self.name) as root:
            return root.execute(question, values).fetchall()

    def do(self, statement: str) -> None:
        """As the server's own superuser."""
        with self.cluster.superuser(self.name) as root:
            root.execute(statement)

    def made(self) -> list[str]:
        """The roles that look like the broker's; a shop's admin sees those of other shops of the server too."""
        return [
            row[0]
            for row in self.ask(
                "SELECT r.rolname FROM pg_roles r JOIN pg_auth_members m ON m.roleid = r.oid"
                " JOIN pg_roles a ON a.oid = m.member WHERE r.rolname LIKE 'grantd\\_%%' AND a.rolname = %s",
                self.admin,
            )
        ]

    def login(self, user: str, password: str) -> psycopg.Connection[tuple[Any, ...]]:
        """As somebody with a password, over TLS as a client should."""
        ca = self.cluster.folder / "ca.pem"
        session = psycopg.connect(
            host="127.0.0.1", port=self.port, dbname=self.name, user=user, password=password, sslmode="verify-full",
            sslrootcert=str(ca), connect_timeout=5, autocommit=True,
        )  # fmt: skip
        self.sessions.append(session)
        return session


def open_shop(cluster: PostgresCluster) -> Shop:
    """A fresh one."""
    ca = _with_tls(cluster)
    token = secrets.token_hex(4)
    shop = Shop(
        cluster=cluster, name=f"shop_{token}", admin=f"broker_{token}", team=f"team_{token}", ca=ca,
        password=secrets.token_urlsafe(36),
    )  # fmt: skip
    admin, team, name = sql.Identifier(shop.admin), sql.Identifier(shop.team), sql.Identifier(shop.name)
    with cluster.superuser("postgres") as root:
        root.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD {}").format(admin, sql.Literal(shop.password)))
        root.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(team))
        root.execute(sql.SQL("GRANT {} TO {} WITH ADMIN OPTION").format(team, admin))
        root.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
    with cluster.superuser(shop.name) as root:
        root.execute(_TABLES)
        for given in (
            "GRANT USAGE, CREATE ON SCHEMA app TO {} WITH GRANT OPTION",
            "GRANT ALL ON ALL TABLES IN SCHEMA app TO {} WITH GRANT OPTION",
            "GRANT ALL ON ALL SEQUENCES IN SCHEMA app TO {} WITH GRANT OPTION",
        ):
            root.execute(sql.SQL(given).format(admin))
        root.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA app TO {}").format(team))
    return shop


def close_shop(shop: Shop) -> None:
    """Drops the database and the roles that were for it, made ones too; other shops of the server go on."""
    for session in shop.sessions:
        session.close()
    left = shop.made()
    shop.cluster.drop_database(shop.name)
    with shop.cluster.superuser("postgres") as root:
        for role in (*left, shop.admin, shop.team):
            root.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def _with_tls(cluster: PostgresCluster) -> str:
    """Turns TLS on, once a server; the PEM of the CA that signed its certificate."""
    kept = cluster.folder / "ca.pem"
    if kept.exists():
        return kept.read_text()
    ca_pem, key_pem, chain_pem = certificates()
    for name, text in (("server.key", key_pem), ("server.crt", chain_pem)):
        path = cluster.folder / "data" / name
        _write_privately(path, text, owner=(cluster.folder / "data").stat())
    with cluster.superuser("postgres") as root:
        root.execute("ALTER SYSTEM SET ssl = on")
        root.execute("SELECT pg_reload_conf()")
    kept.write_text(ca_pem)
    return ca_pem


def _write_privately(path: Path, text: str, *, owner: os.stat_result) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    if os.geteuid() == 0:
        os.chown(path, owner.st_uid, owner.st_gid)


def certificates() -> tuple[str, str, str]:
    """CA, server key, server certificate for 127.0.0.1."""
    now = datetime.now(UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop CA")])

    def begin(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder().subject_name(subject).issuer_name(ca_name).public_key(public)
            .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(days=1))
        )  # fmt: skip

    ca = begin(ca_name, ca_key.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    server = begin(x509.Name([]), key.public_key()).add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=True
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = serialization.Encoding.PEM
    signed = [one.sign(ca_key, hashes.SHA256()).public_bytes(pem).decode() for one in (ca, server)]
    return signed[0], private.decode(), signed[1]


@pytest.fixture
def shop(postgres_cluster: PostgresCluster) -> Iterator[Shop]:
    """A fresh database for one test."""
    opened = open_shop(postgres_cluster)
    yield opened
    close_shop(opened)
