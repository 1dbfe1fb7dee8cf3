"""The settings of a target's kind as JSON text, and back. Judges nothing: what stands there was checked going in."""

from __future__ import annotations

from typing import Any, assert_never

from broker.adapters.store.values import from_json, from_span, to_json, to_span
from broker.core.database import PostgresSettings, Privilege, Profile, Thing
from broker.core.kinds import SecretSettings, SshSettings, TargetKind, TargetSettings
from policy.classes import CommandClass


def settings_to_text(settings: TargetSettings) -> str:
    """JSON text; equal settings are equal text."""
    match settings:
        case SshSettings(krl_login=login):
            return to_json({"krl_login": login}) if login else "{}"
        case SecretSettings(secret=secret):
            return to_json({"secret": secret})
        case PostgresSettings():
            return to_json(
                {
                    "database": settings.database,
                    "admin": settings.admin,
                    "ca": settings.ca,
                    "profiles": [_profile_out(profile) for profile in settings.profiles],
                }
            )
        case _:
            assert_never(settings)


def settings_of(kind: TargetKind, text: str) -> TargetSettings:
    """The inverse of `settings_to_text`."""
    given = from_json(text)
    match kind:
        case TargetKind.SSH:
            return SshSettings(krl_login=given.get("krl_login", ""))
        case TargetKind.SECRET:
            return SecretSettings(secret=given["secret"])
        case TargetKind.POSTGRES:
            return PostgresSettings(
                database=given["database"],
                admin=given["admin"],
                ca=given["ca"],
                profiles=tuple(_profile(profile) for profile in given["profiles"]),
            )
        case _:
            assert_never(kind)


def _profile_out(profile: Profile) -> dict[str, object]:
    return {
        "name": profile.name,
        "level": profile.level.word,
        "privileges": [[one.on.value, one.schema, one.name, sorted(one.privileges)] for one in profile.privileges],
        "member_of": list(profile.member_of),
        "owner": profile.owner,
        "sessions": profile.sessions,
        "statement_timeout_us": from_span(profile.statement_timeout),
    }


def _profile(given: dict[str, Any]) -> Profile:
    return Profile(
        name=given["name"],
        level=CommandClass.from_word(given["level"]),
        privileges=tuple(
            Privilege(on=Thing(on), schema=schema, name=name, privileges=frozenset(words))
            for on, schema, name, words in given["privileges"]
        ),
        member_of=tuple(given["member_of"]),
        owner=given["owner"],
        sessions=given["sessions"],
        statement_timeout=to_span(given["statement_timeout_us"]),
    )
