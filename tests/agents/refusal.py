"""A refusal as the broker sends one, by a fake of it."""

from __future__ import annotations

from typing import NoReturn, TypeAlias

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

Context: TypeAlias = grpc.ServicerContext


def refuse(
    context: Context, code: grpc.StatusCode, reason: str, message: str, *, way_out: str = "", blame: str = ""
) -> NoReturn:
    """Refuse as the broker does: google.rpc.Status with ErrorInfo."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain="grantd", metadata={"way_out": way_out, "blame": blame})
    rich = status_pb2.Status(code=code.value[0], message=message)
    rich.details.add().Pack(info)
    context.abort_with_status(rpc_status.to_status(rich))
    raise AssertionError("abort_with_status raises")
