"""The settings of a target's kind, and what is issued on each, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import assert_never

from broker.core.database import PostgresSettings, Privilege, Profile, Thing
from broker.core.kinds import SecretSettings, SshSettings, TargetKind, TargetSettings
from broker.rpc.convert.scalars import class_of, class_value, duration, moment, span
from broker.service.issue_outside import OutsideCredential
from broker.service.ports import CredentialWish, DatabaseAccess, DatabaseWish, SecretWish, WrappedSecret
from grantd.v1 import access_pb2, admin_pb2

_SESSIONS = 2
_THINGS: Mapping[Thing, admin_pb2.DatabaseThing.ValueType] = MappingProxyType(
    {thing: admin_pb2.DatabaseThing.Value(f"DATABASE_THING_{thing.name}") for thing in Thing}
)
_BY_VALUE: Mapping[int, Thing] = MappingProxyType({value: thing for thing, value in _THINGS.items()})


def settings_of(given: admin_pb2.Target) -> TargetSettings:
    """What a target's kind needs; an SSH host where nothing is set."""
    if given.HasField("postgres"):
        return PostgresSettings(
            database=given.postgres.database,
            admin=given.postgres.admin,
            ca=given.postgres.ca,
            profiles=tuple(_profile(profile) for profile in given.postgres.profiles),
        )
    if given.HasField("secret"):
        return SecretSettings(secret=given.secret.secret)
    return SshSettings(krl_login=given.ssh.krl_login)


def settings_into(out: admin_pb2.Target, settings: TargetSettings) -> admin_pb2.Target:
    """The target, and what its kind needs."""
    match settings:
        case SshSettings(krl_login=login):
            if login:
                out.ssh.krl_login = login
        case PostgresSettings():
            out.postgres.database, out.postgres.admin, out.postgres.ca = settings.database, settings.admin, settings.ca
            out.postgres.profiles.extend(_profile_out(profile) for profile in settings.profiles)
        case SecretSettings(secret=secret):
            out.secret.secret = secret
        case _:
            assert_never(settings)
    return out


def wish_of(request: access_pb2.IssueCredentialRequest) -> tuple[TargetKind, CredentialWish]:
    """What a caller brings for a credential that is made on a target; nothing set is an empty one, which is refused."""
    if request.kind == access_pb2.CREDENTIAL_KIND_DATABASE:
        return TargetKind.POSTGRES, DatabaseWish(verifier=request.database.scram_verifier)
    return TargetKind.SECRET, SecretWish(public_key=request.secret.public_key)


def outside_out(made: OutsideCredential) -> access_pb2.IssueCredentialResponse:
    """What was made on a target."""
    answer = access_pb2.IssueCredentialResponse(credential_id=made.credential, not_after=moment(made.not_after))
    match made.access:
        case DatabaseAccess() as access:
            answer.database.CopyFrom(
                access_pb2.DatabaseCredential(
                    host=access.host, port=access.port, database=access.database, user=access.user, ca=access.ca
                )
            )
        case WrappedSecret(sealed=sealed):
            answer.secret.sealed = sealed
        case _:
            assert_never(made.access)
    return answer


def _profile(given: admin_pb2.DatabaseProfile) -> Profile:
    timeout = given.HasField("statement_timeout")
    return Profile(
        name=given.name,
        level=class_of(given.level),
        privileges=tuple(
            Privilege(on=_BY_VALUE[one.on], schema=one.schema, name=one.name, privileges=frozenset(one.privileges))
            for one in given.privileges
        ),
        member_of=tuple(given.member_of),
        owner=given.owner,
        sessions=given.sessions or _SESSIONS,
        statement_timeout=span("statement_timeout", given.statement_timeout) if timeout else timedelta(0),
    )


def _profile_out(profile: Profile) -> admin_pb2.DatabaseProfile:
    return admin_pb2.DatabaseProfile(
        name=profile.name,
        level=class_value(profile.level),
        privileges=[
            admin_pb2.DatabasePrivilege(
                on=_THINGS[one.on], schema=one.schema, name=one.name, privileges=sorted(one.privileges)
            )
            for one in profile.privileges
        ],
        member_of=profile.member_of,
        owner=profile.owner,
        sessions=profile.sessions,
        statement_timeout=duration(profile.statement_timeout),
    )
