"""A PostgresIssuer over a shop, and what a caller brings."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TypeVar, cast

from broker.adapters.issuers.postgres import PostgresIssuer
from broker.core.database import PostgresSettings, Privilege, Profile, Thing, checked
from broker.core.identity import Login, Target
from broker.core.ids import CredentialId, GrantId, IdentityId, TargetId, TenantId, render
from broker.core.secret import Secret
from broker.service.ports import DatabaseWish, Lease, Store
from policy.classes import CommandClass, Tier
from tests.peers_shop import Shop

T = TypeVar("T")
TENANT = TenantId("acme")


@dataclass(frozen=True, slots=True)
class OnePassword:
    """As much of a Store as an issuer reads: the one password."""

    password: str

    async def read(self, tenant: TenantId, unit: Callable[[object], T]) -> T:
        keys = SimpleNamespace(secret=lambda name: Secret(self.password.encode()))  # noqa: ARG005
        return unit(SimpleNamespace(keys=keys))


def issuer_of(
    shop: Shop, *, issuer: str = "grantd.example/c1", password: str = "", sessions: int = 100
) -> PostgresIssuer:
    """The real one."""
    return PostgresIssuer(cast("Store", OnePassword(password or shop.password)), issuer=issuer, sessions=sessions)


def profile(name: str, level: CommandClass, *privileges: Privilege, **changed: object) -> Profile:
    """Two sessions, ten seconds a statement."""
    made = Profile(
        name=name, level=level, privileges=privileges, member_of=(), owner="", sessions=2,
        statement_timeout=timedelta(seconds=90),
    )  # fmt: skip
    return replace(made, **changed)  # type: ignore[arg-type]


def on(thing: Thing, name: str, *words: str, schema: str = "app") -> Privilege:
    """A privilege."""
    return Privilege(on=thing, schema=schema, name=name, privileges=frozenset(words))


USAGE = on(Thing.SCHEMA, "", "USAGE")
REPORT = profile("report", CommandClass.READ, USAGE, on(Thing.TABLE, "orders", "SELECT"))
CLERK = profile(
    "clerk", CommandClass.WRITE, USAGE, on(Thing.TABLES, "", "SELECT", "INSERT"), on(Thing.SEQUENCES, "", "USAGE"),
)  # fmt: skip


def target_of(shop: Shop, *profiles: Profile) -> Target:
    """The shop as a target, with `report`, `clerk` and `builder` where nothing else is said."""
    builder = profile(
        "builder", CommandClass.EXECUTE, on(Thing.SCHEMA, "", "USAGE", "CREATE"), member_of=(shop.team,),
        owner=shop.team,
    )  # fmt: skip
    known = profiles or (REPORT, CLERK, builder)
    settings = PostgresSettings(database=shop.name, admin=shop.admin, ca=shop.ca, profiles=known)
    return Target(
        tenant=TENANT, id=TargetId(render("target", hashlib.sha256(shop.name.encode()).digest()[:16])), name="shop",
        host="127.0.0.1", port=shop.port, host_key="", tier=Tier.APPROVAL, teams=frozenset(), labels={},
        logins=tuple(Login(name=one.name, read_login="") for one in known), seal_reads=False, source_address="",
        settings=checked(settings), created_at=datetime.now(UTC),
    )  # fmt: skip


def lease_of(
    shop: Shop, login: str = "report", *, ceiling: CommandClass = CommandClass.EXECUTE, number: int = 1,
    seconds: float = 3600, target: Target | None = None,
) -> Lease:  # fmt: skip
    """A lease of a profile; another number is another credential."""
    seed = hashlib.sha256(f"{shop.name} {number}".encode()).digest()[:16]
    return Lease(
        tenant=TENANT, credential=CredentialId(render("credential", seed)), grant=GrantId(render("grant", seed)),
        identity=IdentityId(render("agent", seed)), target=target or target_of(shop), login=login, ceiling=ceiling,
        not_after=datetime.now(UTC) + timedelta(seconds=seconds),
    )  # fmt: skip


def verifier_of(password: str, *, iterations: int = 4096, salt: bytes = b"") -> str:
    """What PostgreSQL keeps of a password (RFC 5803), made here from the RFC and not by the SDK."""
    salt = salt or os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return "SCRAM-SHA-256${}:{}${}:{}".format(iterations, *parts)


PASSWORD = "a password that only the test knows"
WISH = DatabaseWish(verifier=verifier_of(PASSWORD))
