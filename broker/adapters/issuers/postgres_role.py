"""The statements that make one role, and the questions that prove it holds what was granted and nothing more.

Every name goes in as an identifier or a literal of the driver's; no text of a request becomes part of a statement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final, LiteralString

from psycopg import sql

from broker.adapters.issuers.postgres_faults import fault
from broker.adapters.issuers.postgres_login import Connection
from broker.core.database import MEMBERSHIPS, Privilege, Profile, Thing
from broker.core.ids import PREFIXES, CredentialId
from policy.classes import CommandClass

PREFIX: Final = "grantd_"
GRANTS_LOCK: Final = 0x6772616E7464
"""Whoever changes what is granted in a database waits here: two GRANTs on one table at a time fail in the server."""
IDLE_IN_TRANSACTION: Final = timedelta(minutes=10)
_INHERITS_EXPLICITLY: Final = 160_000
_ON: Final = {
    Thing.SCHEMA: sql.SQL("SCHEMA {schema}"),
    Thing.TABLE: sql.SQL("TABLE {schema}.{name}"),
    Thing.TABLES: sql.SQL("ALL TABLES IN SCHEMA {schema}"),
    Thing.SEQUENCE: sql.SQL("SEQUENCE {schema}.{name}"),
    Thing.SEQUENCES: sql.SQL("ALL SEQUENCES IN SCHEMA {schema}"),
}
_WORDS: Final = {
    word: sql.SQL(word)
    for word in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "USAGE", "CREATE")
}
_REACH: Final = """
SELECT count(*) FROM pg_roles r
WHERE r.rolname <> %(role)s AND pg_has_role(%(role)s, r.oid, 'MEMBER')
AND (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls
  OR r.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files',
                   'pg_create_subscription', 'pg_database_owner'))
"""
_WRITES: Final = """
WITH who AS (SELECT oid FROM pg_roles WHERE pg_has_role(%(role)s, oid, 'MEMBER'))
SELECT
 (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, who
  WHERE c.relkind IN ('r', 'p', 'v', 'f') AND n.nspname !~ '^(pg_|information_schema$)'
  AND (has_table_privilege(who.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
    OR has_any_column_privilege(who.oid, c.oid, 'INSERT, UPDATE')))
+ (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, who
  WHERE n.nspname !~ '^(pg_|information_schema$)'
  AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(who.oid, c.oid, 'USAGE, UPDATE') ELSE false END)
+ (SELECT count(*) FROM pg_namespace n, who
  WHERE n.nspname !~ '^pg_(temp|toast)' AND has_schema_privilege(who.oid, n.oid, 'CREATE'))
"""
"""Whatever it can do itself or by SET ROLE."""
_RULES: Final = """
WITH who AS (SELECT oid, rolname FROM pg_roles WHERE pg_has_role(%(role)s, oid, 'MEMBER'))
SELECT
 (SELECT count(*) FROM pg_shdepend s JOIN who ON who.oid = s.refobjid
  WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype = 'o')
+ (SELECT count(*) FROM pg_auth_members m JOIN who ON who.oid = m.member WHERE m.admin_option)
+ (SELECT count(*) FROM who WHERE starts_with(rolname, 'pg_') AND NOT rolname = ANY(%(known)s))
+ (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, who
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^(pg_|information_schema$)'
  AND has_table_privilege(who.oid, c.oid, 'TRUNCATE, REFERENCES, TRIGGER'))
+ (SELECT count(*) FROM pg_namespace n, who
  WHERE n.nspname !~ '^pg_(temp|toast)' AND has_schema_privilege(who.oid, n.oid, 'CREATE'))
"""
"""What only the class execute has: owning things, giving roles away, and making code that others run."""
_MISSING: Final[dict[Thing, LiteralString]] = {
    Thing.SCHEMA: "SELECT NOT has_schema_privilege(%(role)s, %(schema)s, %(word)s)",
    Thing.TABLE: (
        "SELECT NOT has_table_privilege(%(role)s, format('%%I.%%I', %(schema)s::text, %(name)s::text), %(word)s)"
    ),
    Thing.SEQUENCE: (
        "SELECT NOT has_sequence_privilege(%(role)s, format('%%I.%%I', %(schema)s::text, %(name)s::text), %(word)s)"
    ),
    Thing.TABLES: (
        "SELECT EXISTS (SELECT 1 FROM pg_class c WHERE c.relnamespace = quote_ident(%(schema)s)::regnamespace"
        " AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT has_table_privilege(%(role)s, c.oid, %(word)s))"
    ),
    Thing.SEQUENCES: (
        "SELECT EXISTS (SELECT 1 FROM pg_class c WHERE c.relnamespace = quote_ident(%(schema)s)::regnamespace"
        " AND CASE c.relkind WHEN 'S' THEN NOT has_sequence_privilege(%(role)s, c.oid, %(word)s) ELSE false END)"
    ),
}


def role_of(credential: CredentialId) -> str:
    """The name of a credential's role: 128 random bits of it, so that nobody guesses or has it already."""
    return PREFIX + credential.removeprefix(f"{PREFIXES['credential']}_")


def lock_of(credential: CredentialId) -> int:
    """The advisory lock under which a credential is made and ended: whoever ends it waits for whoever makes it."""
    return int.from_bytes(hashlib.sha256(f"grantd {credential}".encode()).digest()[:8], "big", signed=True)


def statements(
    role: str, profile: Profile, *, verifier: str, not_after: datetime, mark: str, version: int
) -> Iterator[sql.Composed]:
    """What makes the role, in order; `version` is the server's, as 150004."""
    name = sql.Identifier(role)
    yield sql.SQL(
        "CREATE ROLE {} LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
        " PASSWORD {} VALID UNTIL {} CONNECTION LIMIT {}"
    ).format(name, sql.Literal(verifier), sql.Literal(not_after.isoformat()), sql.Literal(profile.sessions))
    yield sql.SQL("COMMENT ON ROLE {} IS {}").format(name, sql.Literal(mark))
    # the broker's own role must be able to end its sessions and take its things
    own = sql.SQL("GRANT {} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE" if version >= _INHERITS_EXPLICITLY
                  else "GRANT {} TO CURRENT_USER")  # fmt: skip
    yield own.format(name)
    for member in profile.member_of:
        yield sql.SQL("GRANT {} TO {}").format(sql.Identifier(member), name)
    for privilege in profile.privileges:
        yield _grant(privilege, name)
    yield from _settings(name, profile)


async def prove(connection: Connection, role: str, profile: Profile) -> None:
    """Asks the server what the role can do, in the transaction that makes it.

    Raises:
        TargetFault: `not_made`: a privilege was not granted (the broker's role may not), or it could do more than its
            profile's class.
    """
    if await _number(connection, _REACH, {"role": role}):
        raise fault("not_made")
    for privilege in profile.privileges:
        for word in sorted(privilege.privileges):
            of = {"role": role, "schema": privilege.schema, "name": privilege.name, "word": word}
            if await _number(connection, _MISSING[privilege.on], of):
                raise fault("not_made")
    if profile.level is CommandClass.READ and await _number(connection, _WRITES, {"role": role}):
        raise fault("not_made")
    known = [name for name, least in MEMBERSHIPS.items() if least <= profile.level]
    if profile.level < CommandClass.EXECUTE and await _number(connection, _RULES, {"role": role, "known": known}):
        raise fault("not_made")


async def _number(connection: Connection, question: LiteralString, of: Mapping[str, str | list[str]]) -> int:
    cursor = await connection.execute(question, of)
    row = await cursor.fetchone()
    return int(row[0]) if row else 1


def _grant(privilege: Privilege, role: sql.Identifier) -> sql.Composed:
    words = sql.SQL(", ").join(_WORDS[word] for word in sorted(privilege.privileges))
    on = _ON[privilege.on].format(schema=sql.Identifier(privilege.schema), name=sql.Identifier(privilege.name or "_"))
    return sql.SQL("GRANT {} ON {} TO {}").format(words, on, role)


def _settings(role: sql.Identifier, profile: Profile) -> Iterator[sql.Composed]:
    """What a session begins with. It may set others: none of these is a border."""
    alter = sql.SQL("ALTER ROLE {} SET {} = {}")
    if profile.statement_timeout:
        ms = profile.statement_timeout // timedelta(milliseconds=1)
        yield alter.format(role, sql.SQL("statement_timeout"), sql.Literal(ms))
    idle = IDLE_IN_TRANSACTION // timedelta(milliseconds=1)
    yield alter.format(role, sql.SQL("idle_in_transaction_session_timeout"), sql.Literal(idle))
    if profile.level is CommandClass.READ:
        yield alter.format(role, sql.SQL("default_transaction_read_only"), sql.SQL("on"))
