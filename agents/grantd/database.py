"""A role in a database: its password is made here and stays here; the broker gets what a server keeps of one.

Nothing of PostgreSQL's own library is needed: a verifier is RFC 5803 over a fresh random password.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from grantd.v1 import access_pb2

_ITERATIONS: Final = 4096
_SALT_BYTES: Final = 16
_PASSWORD_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """How to connect, until `not_after`: with TLS, to a server whose certificate `ca` signed (verify-full)."""

    credential_id: str
    host: str
    port: int
    name: str
    user: str
    password: str = field(repr=False)
    ca: str = field(repr=False)
    """PEM."""
    not_after: datetime


def new_password() -> str:
    """256 random bits as text."""
    return secrets.token_urlsafe(_PASSWORD_BYTES)


def verifier_of(password: str) -> str:
    """What PostgreSQL keeps of a password: `SCRAM-SHA-256$...`."""
    salt = os.urandom(_SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    text = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${_ITERATIONS}:{text[0]}${text[1]}:{text[2]}"


def wish(grant_id: str, password: str) -> access_pb2.IssueCredentialRequest:
    """The request for a role with this password."""
    return access_pb2.IssueCredentialRequest(
        grant_id=grant_id,
        kind=access_pb2.CREDENTIAL_KIND_DATABASE,
        database=access_pb2.DatabaseWish(scram_verifier=verifier_of(password)),
    )


def opened(made: access_pb2.IssueCredentialResponse, password: str) -> Database:
    """What the broker answered, with the password that it does not know."""
    at = made.database
    return Database(
        credential_id=made.credential_id,
        host=at.host,
        port=at.port,
        name=at.database,
        user=at.user,
        password=password,
        ca=at.ca,
        not_after=made.not_after.ToDatetime(tzinfo=UTC),
    )
