"""What can go wrong for a caller, as exceptions with a stable code and a way out.

The broker answers a refusal as google.rpc.Status with one ErrorInfo (reason = code, domain "grantd", metadata
"way_out" and "blame"). Nothing else leaves the SDK: no grpc.RpcError, no ValueError of a parser. Messages may quote
the broker and are not escaped: whoever prints them on a terminal does that (grantctl does).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

DOMAIN: Final = "grantd"
# a broker that stops cancels what it still serves
_NO_ANSWER: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
_DETAILS_KEY: Final = "grpc-status-details-bin"


class GrantdError(Exception):
    """Something was refused or failed.

    Args:
        code: stable, lower snake case, for machines; docs/errors.md lists the broker's.
        message: one sentence for people.
        way_out: what the caller can do next; empty where nothing helps.
    """

    def __init__(self, code: str, message: str, way_out: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.way_out = way_out


class Invalid(GrantdError):
    """The input can never be right; retrying is useless."""


class NotSignedIn(GrantdError):
    """The broker does not know the caller: no certificate, an expired or a suspended one."""


class Forbidden(GrantdError):
    """Known caller, not allowed; also what policy says."""


class NotFound(GrantdError):
    """Does not exist or is not yours: the same answer."""


class Conflict(GrantdError):
    """Not in the state that the call needs."""


class Expired(GrantdError):
    """The time is over; never the same as denied."""


class LimitReached(GrantdError):
    """A limit is reached; try later."""


class Unavailable(GrantdError):
    """The broker answers, but cannot: frozen, starting, or a part that must work does not."""


class Unreachable(GrantdError):
    """No answer from the broker."""


class BrokerFault(GrantdError):
    """The broker failed and says so; the cause is in its log."""


class ProfileProblem(GrantdError):
    """The files of the profile are missing, damaged or open to others."""


class StillPending(GrantdError):
    """Nobody decided yet; asking again later is right."""


class AccessDenied(GrantdError):
    """A person said no to a request or a command, or its requester took it back."""


_BY_STATUS: Final[Mapping[grpc.StatusCode, type[GrantdError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: Invalid,
    grpc.StatusCode.OUT_OF_RANGE: Invalid,
    grpc.StatusCode.UNAUTHENTICATED: NotSignedIn,
    grpc.StatusCode.PERMISSION_DENIED: Forbidden,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitReached,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unreachable,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """The machine-readable part of a refusal."""

    reason: str
    way_out: str
    blame: str
    """The broker's own word for what kind of refusal it is, such as `expired`."""


def from_rpc(error: grpc.RpcError) -> GrantdError:
    """The exception for a failed call, sync or aio. Without the broker's ErrorInfo it was the transport that spoke."""
    status = error.code()
    said = str(error.details() or "")
    info = _info_of(error.trailing_metadata() or ())
    if info is None:
        return _from_transport(status, said)
    return _refusal_class(status, info)(info.reason, said, info.way_out)


def _refusal_class(status: grpc.StatusCode, info: ErrorInfo) -> type[GrantdError]:
    # gRPC has no status word for "too late"
    if info.blame == "expired":
        return Expired
    return _BY_STATUS.get(status, BrokerFault)


def _from_transport(status: grpc.StatusCode, said: str) -> GrantdError:
    if status in _NO_ANSWER:
        return Unreachable("unreachable", f"no answer from the broker ({said})", _reach(said))
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return LimitReached("message_too_large", said, "send less in one message")
    return _BY_STATUS.get(status, BrokerFault)(status.name.lower(), said or status.name.lower())


def _reach(said: str) -> str:
    if "handshake" in said.lower() or "certificate" in said.lower():
        return "the TLS handshake failed: check that the profile is for this broker, and sign in or enrol again"
    return "check the address in the profile and that the broker runs"


def _info_of(metadata: Iterable[Any]) -> ErrorInfo | None:
    """The first ErrorInfo of our domain; None where there is none or it does not parse."""
    for key, value in metadata:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            return _parse_status(value)
    return None


def _parse_status(raw: bytes) -> ErrorInfo | None:
    try:
        status = _STATUS.FromString(raw)
        for detail in status.details:  # type: ignore[attr-defined]
            if detail.type_url.rpartition("/")[2] != "google.rpc.ErrorInfo":
                continue
            info = _ERROR_INFO.FromString(detail.value)
            if info.domain == DOMAIN:  # type: ignore[attr-defined]
                told = info.metadata  # type: ignore[attr-defined]
                return ErrorInfo(reason=info.reason, way_out=told["way_out"], blame=told["blame"])  # type: ignore[attr-defined]
    except message.DecodeError:
        return None
    return None


def _rpc_types() -> tuple[type[message.Message], type[message.Message]]:
    """google.rpc.Status and ErrorInfo in a pool of our own.

    They are two tiny, frozen messages: not worth a dependency of every agent, and a second copy in the default pool
    would clash with googleapis-common-protos where an agent has that.
    """
    field = descriptor_pb2.FieldDescriptorProto
    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    file = descriptor_pb2.FileDescriptorProto(name="grantd/private/rpc.proto", package="google.rpc", syntax="proto3")
    any_ = file.message_type.add(name="Any")
    any_.field.add(name="type_url", number=1, type=field.TYPE_STRING, label=one)
    any_.field.add(name="value", number=2, type=field.TYPE_BYTES, label=one)
    status = file.message_type.add(name="Status")
    status.field.add(name="code", number=1, type=field.TYPE_INT32, label=one)
    status.field.add(name="message", number=2, type=field.TYPE_STRING, label=one)
    status.field.add(name="details", number=3, type=field.TYPE_MESSAGE, label=many, type_name=".google.rpc.Any")
    info = file.message_type.add(name="ErrorInfo")
    info.field.add(name="reason", number=1, type=field.TYPE_STRING, label=one)
    info.field.add(name="domain", number=2, type=field.TYPE_STRING, label=one)
    entry = info.nested_type.add(name="MetadataEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=one)
    entry.field.add(name="value", number=2, type=field.TYPE_STRING, label=one)
    info.field.add(
        name="metadata", number=3, type=field.TYPE_MESSAGE, label=many, type_name=".google.rpc.ErrorInfo.MetadataEntry"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    get = message_factory.GetMessageClass
    return (
        get(pool.FindMessageTypeByName("google.rpc.Status")),
        get(pool.FindMessageTypeByName("google.rpc.ErrorInfo")),
    )


_STATUS, _ERROR_INFO = _rpc_types()
