"""Refusals and faults as google.rpc.Status: a status word, a stable code, a way out. Causes stay in the log.

Too late is FAILED_PRECONDITION: gRPC has no word for it (DEADLINE_EXCEEDED is the call's own deadline, and clients
retry it). The metadata's `blame` says `expired`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import grpc
import structlog
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from broker.core.errors import Blame, RecorderFault, Refusal, SignerFault, SignerRefused, StoreFault, TargetFault
from recorder.errors import RecorderFailed, RecordingInvalid

log = structlog.get_logger()
DOMAIN = "grantd"
STATUS_OF: Mapping[Blame, grpc.StatusCode] = MappingProxyType(
    {
        Blame.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
        Blame.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
        Blame.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
        Blame.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
        Blame.CONFLICT: grpc.StatusCode.FAILED_PRECONDITION,
        Blame.EXPIRED: grpc.StatusCode.FAILED_PRECONDITION,
        Blame.EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
        Blame.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    }
)
_MAX_TEXT = 512
_SHOWN = frozenset(" ")
_LOOK = "look at the broker's health; its log has the cause"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a caller is told of a failure."""

    code: grpc.StatusCode
    reason: str
    message: str
    way_out: str
    blame: str

    def status(self) -> grpc.Status:
        """For `context.abort_with_status`."""
        info = error_details_pb2.ErrorInfo(
            reason=self.reason, domain=DOMAIN, metadata={"way_out": visible(self.way_out), "blame": self.blame}
        )
        rich = status_pb2.Status(code=self.code.value[0], message=visible(self.message))
        rich.details.add().Pack(info)
        status: grpc.Status = rpc_status.to_status(rich)
        return status


def told_of(error: Exception, *, method: str) -> Told:
    """What the caller is told; what it is not told is logged here, with the cause."""
    if isinstance(error, Refusal):
        return Told(
            code=STATUS_OF[error.blame], reason=error.code, message=error.message, way_out=error.way_out,
            blame=error.blame,
        )  # fmt: skip
    told = _ours(error)
    if told.code is grpc.StatusCode.INTERNAL:
        log.error("rpc.failed", method=method, cause=repr(error), exc_info=error)
    else:
        log.warning("rpc.failed", method=method, cause=repr(error), because=repr(error.__cause__))
    return told


def visible(text: str) -> str:
    """`text` with everything that a terminal would act on escaped, never stripped; cut at 512 characters."""
    return "".join(map(_shown, text[:_MAX_TEXT]))


def _shown(char: str) -> str:
    if char in _SHOWN or unicodedata.category(char)[0] not in "CZ":
        return char
    return char.encode("unicode_escape").decode()


def _ours(error: Exception) -> Told:
    match error:
        case StoreFault():
            return _unavailable("store_unavailable", "the broker's store does not answer; nothing was written")
        case SignerRefused():  # the signer's own fixed phrase
            return Told(
                code=grpc.StatusCode.PERMISSION_DENIED, reason=error.code, message=error.what,
                way_out="look at grantctl trust list, and have an owner sign what is missing", blame=Blame.FORBIDDEN,
            )  # fmt: skip
        case SignerFault():
            return _unavailable("signer_unavailable", "the signer does not answer")
        case RecorderFault() | RecorderFailed():
            return _unavailable("recorder_unavailable", "the recorder cannot record; nothing runs unrecorded")
        case TargetFault():  # the phrase and the code are fixed, never the target's own text (I-27)
            return _unavailable(error.code, error.what)
        case RecordingInvalid():
            return _unavailable("recording_invalid", "the recording is not what was sealed")
        case _:
            return _internal()


def _unavailable(reason: str, message: str) -> Told:
    return Told(
        code=grpc.StatusCode.UNAVAILABLE, reason=reason, message=message, way_out=_LOOK, blame=Blame.UNAVAILABLE
    )


def _internal() -> Told:
    return Told(
        code=grpc.StatusCode.INTERNAL, reason="internal", message="the broker failed; the cause is in its log",
        way_out=_LOOK, blame="fault",
    )  # fmt: skip
