"""A PostgreSQL database as a target: where it is, who the broker is there, and the profiles that grants may name.

Pure: makes no SQL. A profile is what a grant's login is on a host: what a role made under it may do, exactly. Whatever
becomes part of a statement is checked here first, and quoted again where it is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from broker.core.errors import Refusal, invalid, not_found
from broker.core.ids import TargetId, is_login
from broker.core.records import pae
from broker.core.secret import Secret
from policy.classes import CommandClass

MAX_PROFILES: Final = 16
MAX_GRANTS: Final = 64
MAX_MEMBERSHIPS: Final = 8
MAX_SESSIONS: Final = 20
MAX_CA_BYTES: Final = 64 * 1024
MAX_TIMEOUT: Final = timedelta(hours=24)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$-]{0,62}")
_CERTIFICATE: Final = re.compile(
    r"\s*(-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----\s*)+", re.ASCII
)
_OWN: Final = "grantd_"


class Thing(StrEnum):
    """What privileges are on."""

    SCHEMA = "schema"
    TABLE = "table"
    """A table, view, materialised view or foreign table."""
    TABLES = "tables"
    """All of them in a schema, as they are when the role is made."""
    SEQUENCE = "sequence"
    SEQUENCES = "sequences"
    """All of them in a schema, as they are when the role is made."""


PRIVILEGES: Final[Mapping[Thing, Mapping[str, CommandClass]]] = MappingProxyType(
    {
        Thing.SCHEMA: {"USAGE": CommandClass.READ, "CREATE": CommandClass.EXECUTE},
        Thing.TABLE: {
            "SELECT": CommandClass.READ,
            "INSERT": CommandClass.WRITE,
            "UPDATE": CommandClass.WRITE,
            "DELETE": CommandClass.WRITE,
            "TRUNCATE": CommandClass.EXECUTE,
            "REFERENCES": CommandClass.EXECUTE,
            "TRIGGER": CommandClass.EXECUTE,
        },
        Thing.SEQUENCE: {"SELECT": CommandClass.READ, "USAGE": CommandClass.WRITE, "UPDATE": CommandClass.WRITE},
    }
)
"""Privilege -> the least class of a profile that may hold it. TRIGGER and CREATE make code that others run."""
_OF_ALL: Final = {Thing.TABLES: Thing.TABLE, Thing.SEQUENCES: Thing.SEQUENCE}
MEMBERSHIPS: Final[Mapping[str, CommandClass]] = MappingProxyType(
    {
        "pg_read_all_data": CommandClass.READ,
        "pg_monitor": CommandClass.READ,
        "pg_read_all_settings": CommandClass.READ,
        "pg_read_all_stats": CommandClass.READ,
        "pg_stat_scan_tables": CommandClass.READ,
        "pg_write_all_data": CommandClass.WRITE,
        "pg_signal_backend": CommandClass.EXECUTE,
        "pg_checkpoint": CommandClass.EXECUTE,
        "pg_maintain": CommandClass.EXECUTE,
    }
)
"""The server's own roles that a profile may be a member of, and from which class on: none reaches files or programs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Privilege:
    """Privileges on one thing, or on all of a kind in a schema."""

    on: Thing
    schema: str
    name: str
    """Of the table or sequence; empty for a schema and for all of them."""
    privileges: frozenset[str]

    def parts(self) -> bytes:
        """One byte string for one value."""
        words = [self.on.value, self.schema, self.name, *sorted(self.privileges)]
        return pae([word.encode() for word in words])


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a role may do, and how much of the server it may take."""

    name: str
    level: CommandClass
    """The least class that a request for it must ask for; nothing in it may exceed this."""
    privileges: tuple[Privilege, ...]
    member_of: tuple[str, ...]
    """Roles that exist in the database already; their privileges are inherited."""
    owner: str
    """One of `member_of`, who gets what the role made; empty: that is dropped with it."""
    sessions: int
    """How many at a time."""
    statement_timeout: timedelta
    """What a session begins with; it may choose another. Zero: the server's own."""

    def parts(self) -> bytes:
        """One byte string for one value."""
        words = [self.name, self.level.word, *self.member_of, "", self.owner, str(self.sessions),
                 str(self.statement_timeout)]  # fmt: skip
        return pae([*(word.encode() for word in words), *(privilege.parts() for privilege in self.privileges)])


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresSettings:
    """One database of one server. The broker's password there is in the vault, under the target's id."""

    database: str
    admin: str
    """The broker's own role: CREATEROLE, never superuser."""
    ca: str
    """PEM certificates, one of which must have signed the server's: TLS is never left out."""
    profiles: tuple[Profile, ...]

    def profile(self, name: str) -> Profile:
        """The profile of this name. Raises Refusal `not_found`."""
        found = next((profile for profile in self.profiles if profile.name == name), None)
        if found is None:
            raise not_found("profile")
        return found

    def parts(self) -> list[bytes]:
        """Byte strings that are the same for equal settings only."""
        words = [self.database.encode(), self.admin.encode(), self.ca.encode()]
        return [*words, *(profile.parts() for profile in self.profiles)]


def checked(settings: PostgresSettings) -> PostgresSettings:
    """`settings`, if every name can be a name and no profile holds more than its class.

    Raises:
        Refusal: `bad_database`, `bad_ca`, `bad_profile`; the message says what is wrong.
    """
    for what, name in (("database", settings.database), ("role", settings.admin)):
        if not _NAME.fullmatch(name):
            raise invalid("bad_database", f"the {what} is not a name", f"letters, digits, '_', '$', '-': {_LENGTH}")
    if len(settings.ca) > MAX_CA_BYTES or not _CERTIFICATE.fullmatch(settings.ca):
        raise invalid("bad_ca", "the CA is not PEM certificates", "give the CA that signed the server's certificate")
    names = [profile.name for profile in settings.profiles]
    if not 1 <= len(names) <= MAX_PROFILES or len(set(names)) != len(names):
        raise _bad(f"a database has 1 to {MAX_PROFILES} different profiles")
    for profile in settings.profiles:
        _check_profile(profile, settings.admin)
    return settings


def password_name(target: TargetId) -> str:
    """The name of the broker's own password for a database, in the vault."""
    return f"target/{target}/password"


def checked_password(password: Secret[bytes]) -> None:
    """Raises Refusal `bad_password` unless it can be one: a server's protocol ends it at a NUL."""
    try:
        text = password.reveal().decode()
    except UnicodeDecodeError:
        text = ""
    if not text or "\0" in text:
        raise invalid("bad_password", "a password is text without NUL")


_LENGTH: Final = "at most 63 of them"


def _check_profile(profile: Profile, admin: str) -> None:
    if not is_login(profile.name):
        raise _bad("a profile's name is lower case letters, digits, '_' and '-', starting with a letter")
    if len(profile.privileges) > MAX_GRANTS or len(profile.member_of) > MAX_MEMBERSHIPS:
        raise _bad(f"a profile has at most {MAX_GRANTS} grants and {MAX_MEMBERSHIPS} memberships")
    if not profile.privileges and not profile.member_of:
        raise _bad(f"the profile {profile.name} gives nothing")
    if not 1 <= profile.sessions <= MAX_SESSIONS:
        raise _bad(f"a profile allows 1 to {MAX_SESSIONS} sessions")
    if not timedelta(0) <= profile.statement_timeout <= MAX_TIMEOUT:
        raise _bad("a statement timeout is 0 to 24 hours")
    for privilege in profile.privileges:
        _within(profile, _class_of_privilege(privilege), "a privilege")
    for role in profile.member_of:
        _within(profile, _class_of_role(role, admin), "a membership")
    if profile.owner and profile.owner not in profile.member_of:
        raise _bad("the owner of what a role leaves behind is one of the roles that it is a member of")


def _within(profile: Profile, least: CommandClass, what: str) -> None:
    if least > profile.level:
        raise _bad(f"{what} of the profile {profile.name} needs the class {least.word}")


def _class_of_privilege(given: Privilege) -> CommandClass:
    known = PRIVILEGES[_OF_ALL.get(given.on, given.on)]
    if not given.privileges or not given.privileges <= set(known):
        raise _bad(f"the privileges on a {given.on.value} are of {', '.join(known)}")
    named = given.on in (Thing.TABLE, Thing.SEQUENCE)
    if not _NAME.fullmatch(given.schema) or (not _NAME.fullmatch(given.name) if named else given.name):
        raise _bad("a schema, table or sequence is letters, digits, '_', '$' and '-'")
    if given.schema.startswith("pg_") or given.schema == "information_schema":
        raise _bad("nothing is granted on the server's own schemas")
    return highest(known[word] for word in given.privileges)


def _class_of_role(role: str, admin: str) -> CommandClass:
    if not _NAME.fullmatch(role) or role == admin or role.startswith(_OWN):
        raise _bad("a membership is in a role of the database's own, not in one of the broker's")
    if role.startswith("pg_"):
        if role not in MEMBERSHIPS:
            raise _bad(f"of the server's own roles a profile may have {', '.join(MEMBERSHIPS)}")
        return MEMBERSHIPS[role]
    return CommandClass.READ  # what it can do is asked of the server, each time a role is made


def highest(classes: Iterable[CommandClass]) -> CommandClass:
    """The highest of some classes, at least READ."""
    return max(classes, default=CommandClass.READ)


def _bad(message: str) -> Refusal:
    return invalid("bad_profile", message, "see docs/databases.md")
