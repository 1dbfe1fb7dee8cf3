"""Sealed credentials, both ways."""

from __future__ import annotations

from broker.core.clock import from_micros
from broker.core.errors import invalid
from broker.core.glass import BreakGlass, GlassId
from broker.core.identity import Caller
from broker.core.ids import IdentityId, TargetId
from broker.core.sshwire import KeyKind, WireError, parse_line
from broker.rpc.convert.scalars import class_of, class_value, moment, moment_or_none
from broker.service.glass import Shown
from grantd.v1 import glass_pb2 as pb


def wanted_glass(request: pb.MakeBreakGlassRequest, caller: Caller) -> BreakGlass:
    """A credential to make. Raises Refusal for a key or a time that cannot be."""
    try:
        key, until = parse_line(request.public_key), from_micros(request.until_us)
    except (WireError, ValueError, OverflowError) as error:
        raise _unusable() from error
    if key.kind is not KeyKind.ED25519:
        raise _unusable()
    return BreakGlass(
        tenant=caller.tenant,
        id=GlassId(request.id),
        person=IdentityId(request.person_id),
        target_id=TargetId(request.target_id),
        login=request.login,
        ceiling=class_of(request.ceiling),
        key=key.line(),
        until=until,
        made_by=caller.identity,
        made_at=until,
    )


def glass_out(shown: Shown) -> pb.BreakGlass:
    """A credential as it stands."""
    glass, request = shown.glass, shown.request
    return pb.BreakGlass(
        id=glass.id,
        person_id=glass.person,
        person_name=shown.person,
        target_id=glass.target_id,
        target_name=shown.target,
        login=glass.login,
        ceiling=class_value(glass.ceiling),
        public_key=glass.key,
        until=moment(glass.until),
        used_at=moment_or_none(glass.used_at),
        request_id=glass.request_id or "",
        grant_id=(request.grant_id or "") if request else "",
        reason=request.reason if request else "",
        reviewed_at=moment_or_none(glass.reviewed_at),
        reviewed_by=glass.reviewed_by or "",
    )


def _unusable() -> Exception:
    return invalid("bad_break_glass", "a sealed credential has an id, a key and an end of its own", "use grantctl")
