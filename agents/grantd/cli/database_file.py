"""The settings of a database target as a TOML file: whose it is, who the broker is there, what profiles there are.

    database = "shop"
    admin = "grantd"
    ca = "ca.pem"                       # beside this file

    [profiles.report]
    class = "read"
    grants = ["USAGE ON SCHEMA app", "SELECT ON app.orders", "SELECT ON ALL TABLES IN SCHEMA reports"]
    member_of = []
    sessions = 2
    statement_timeout = "30s"

Unknown keys are refused; names are judged by the broker.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from grantd import asking
from grantd.cli.shell import DURATION
from grantd.cli.visible import one_line
from grantd.errors import Invalid
from grantd.v1.admin_pb2 import DatabasePrivilege, DatabaseProfile, DatabaseThing, PostgresTarget

_KEYS: Final = {"database", "admin", "ca", "profiles"}
_PROFILE_KEYS: Final = {"class", "grants", "member_of", "owner", "sessions", "statement_timeout"}
_NAME: Final = r'"?([A-Za-z_][A-Za-z0-9_$-]*)"?'
_WORDS: Final = r"([A-Za-z]+(?:\s*,\s*[A-Za-z]+)*)"
_ON: Final = DatabaseThing
_FORMS: Final = (
    (re.compile(rf"{_WORDS} ON SCHEMA {_NAME}", re.IGNORECASE), _ON.DATABASE_THING_SCHEMA),
    (re.compile(rf"{_WORDS} ON ALL TABLES IN SCHEMA {_NAME}", re.IGNORECASE), _ON.DATABASE_THING_TABLES),
    (
        re.compile(rf"{_WORDS} ON ALL SEQUENCES IN SCHEMA {_NAME}", re.IGNORECASE),
        _ON.DATABASE_THING_SEQUENCES,
    ),
    (re.compile(rf"{_WORDS} ON SEQUENCE {_NAME}\.{_NAME}", re.IGNORECASE), _ON.DATABASE_THING_SEQUENCE),
    (re.compile(rf"{_WORDS} ON (?:TABLE )?{_NAME}\.{_NAME}", re.IGNORECASE), _ON.DATABASE_THING_TABLE),
)


def read(path: Path) -> PostgresTarget:
    """The settings that a file holds. Raises Invalid, naming the key."""
    try:
        given = tomllib.loads(path.read_text())
        ca = (path.parent / _text(given, "ca")).read_text()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as wrong:
        raise Invalid("bad_settings", f"{path} or its CA cannot be read: {wrong}") from wrong
    _only(given, _KEYS, "the file")
    profiles = given.get("profiles")
    if not isinstance(profiles, dict) or not all(isinstance(each, dict) for each in profiles.values()):
        raise Invalid("bad_settings", "profiles are tables such as [profiles.report]")
    return PostgresTarget(
        database=_text(given, "database"),
        admin=_text(given, "admin"),
        ca=ca,
        profiles=[_profile(name, each) for name, each in profiles.items()],
    )


def privilege(text: str) -> DatabasePrivilege:
    """`SELECT, INSERT ON app.orders` and its kin, as PostgreSQL writes them. Raises Invalid."""
    spaced = " ".join(text.split())
    for form, on in _FORMS:
        found = form.fullmatch(spaced)
        if found is not None:
            words, schema, *name = found.groups()
            named = name[0] if name else ""
            given = [word.strip().upper() for word in words.split(",")]
            return DatabasePrivilege(on=on, schema=schema, name=named, privileges=given)
    raise Invalid("bad_settings", f"{one_line(text)} is not such as: SELECT ON app.orders, USAGE ON SCHEMA app")


def _profile(name: str, given: Mapping[str, Any]) -> DatabaseProfile:
    _only(given, _PROFILE_KEYS, f"the profile {name}")
    word = _text(given, "class")
    if word not in asking.CLASSES:
        raise Invalid("bad_settings", f"the class of {one_line(name)} is one of {', '.join(asking.CLASSES)}")
    made = DatabaseProfile(
        name=name,
        level=asking.class_of(word),
        privileges=[privilege(each) for each in _texts(given, "grants")],
        member_of=_texts(given, "member_of"),
        owner=str(given.get("owner", "")),
        sessions=_number(given, "sessions"),
    )
    if "statement_timeout" in given:
        try:
            made.statement_timeout.FromTimedelta(DURATION.convert(_text(given, "statement_timeout"), None, None))
        except click.ClickException as wrong:
            raise Invalid("bad_settings", f"statement_timeout: {wrong.message}") from wrong
    return made


def _only(given: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in given:
        if key not in known:
            raise Invalid("bad_settings", f"{one_line(where)} has an unknown key: {one_line(key)}")


def _text(given: Mapping[str, Any], key: str) -> str:
    value = given.get(key)
    if not isinstance(value, str) or not value:
        raise Invalid("bad_settings", f"{key} is missing, or no text")
    return value


def _texts(given: Mapping[str, Any], key: str) -> list[str]:
    values = given.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise Invalid("bad_settings", f"{key} is a list of texts")
    return values


def _number(given: Mapping[str, Any], key: str) -> int:
    value = given.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 1000:  # noqa: PLR2004  the broker's to judge
        raise Invalid("bad_settings", f"{key} is a number")
    return value
