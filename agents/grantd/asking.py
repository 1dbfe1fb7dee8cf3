"""Builds the request messages that the sync and the asyncio client share. Makes idempotency keys; sends nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from google.protobuf import duration_pb2

from grantd.errors import AccessDenied, Expired, Invalid, StillPending
from grantd.v1 import access_pb2, options_pb2
from grantd.v1.access_pb2 import RequestState

CLASSES: Final = ("read", "write", "execute", "install", "reboot")


def new_key() -> str:
    """An idempotency key: 32 hex digits."""
    return uuid.uuid4().hex


def class_of(word: str) -> options_pb2.CommandClass.ValueType:
    """`write` -> COMMAND_CLASS_WRITE. Raises Invalid."""
    if word not in CLASSES:
        raise Invalid("bad_class", f"{word!r} is not a class of command", f"use one of {', '.join(CLASSES)}")
    return options_pb2.CommandClass.Value(f"COMMAND_CLASS_{word.upper()}")


def class_word(value: options_pb2.CommandClass.ValueType) -> str:
    """COMMAND_CLASS_WRITE -> `write`; a value of a newer broker is shown as its number."""
    try:
        return options_pb2.CommandClass.Name(value).removeprefix("COMMAND_CLASS_").lower()
    except ValueError:
        return f"class-{int(value)}"


def duration(value: timedelta) -> duration_pb2.Duration:
    """The wire's form."""
    wire = duration_pb2.Duration()
    wire.FromTimedelta(value)
    return wire


def access_request(
    *,
    target: str,
    login: str,
    ceiling: str,
    ttl: timedelta,
    reason: str,
    ticket: str,
    evidence: str,
    flags: Iterable[str],
    key: str | None,
) -> access_pb2.RequestAccessRequest:
    """A RequestAccess message. Raises Invalid for a class or TTL that can never be right."""
    if ttl <= timedelta(0):
        raise Invalid("bad_ttl", "the TTL must be at least one second", "give a duration such as 15m")
    return access_pb2.RequestAccessRequest(
        idempotency_key=key or new_key(),
        target=target,
        login=login,
        ceiling=class_of(ceiling),
        flags=sorted(set(flags)),
        ttl=duration(ttl),
        reason=reason,
        ticket=ticket,
        evidence=evidence,
    )


def is_decided(request: access_pb2.AccessRequest) -> bool:
    """Whether nothing more will happen to it."""
    return request.state not in (RequestState.REQUEST_STATE_UNSPECIFIED, RequestState.REQUEST_STATE_PENDING)


def require_grant(request: access_pb2.AccessRequest) -> str:
    """The grant id of an approved request; raises AccessDenied or Expired for any other decided one."""
    note = f": {request.note}" if request.note else ""
    match request.state:
        case RequestState.REQUEST_STATE_APPROVED:
            return request.grant_id
        case RequestState.REQUEST_STATE_EXPIRED:
            raise Expired("request_expired", f"nobody decided {request.id} in time", "ask again, or tell an approver")
        case RequestState.REQUEST_STATE_CANCELLED:
            raise AccessDenied("request_cancelled", f"{request.id} was taken back{note}")
        case RequestState.REQUEST_STATE_DENIED:
            raise AccessDenied(
                "request_denied", f"an approver refused {request.id}{note}", "heed the note before you ask again"
            )
        case _:
            raise StillPending("request_pending", f"{request.id} waits for an approver", "ask again later")
