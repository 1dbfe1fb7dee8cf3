"""Pulling the kill switch: over its own listener, which needs neither the broker's database nor its queues.

Where that listener cannot be reached, or the profile does not know it, the ordinary one is asked. Lifting is an
ordinary change with signatures (grantd.stepup).
"""

from __future__ import annotations

from typing import Final

import grpc

from grantd.channel import open_channel, open_freeze_channel
from grantd.errors import GrantdError, Unreachable, from_rpc
from grantd.profile import Profile
from grantd.v1 import admin_pb2
from grantd.v1.admin_pb2_grpc import AdminServiceStub

_CALL_SECONDS: Final = 10.0


def freeze(profile: Profile, reason: str) -> admin_pb2.FreezeResponse:
    """Cut every session of the tenant, end every grant, let nothing new start. Repeating it is harmless.

    Renews no certificate on the way: what the profile holds is shown as it is. Raises GrantdError.
    """
    request = admin_pb2.FreezeRequest(reason=reason)
    if profile.description.freeze_address:
        try:
            return _ask(open_freeze_channel(profile), request)
        except Unreachable:
            pass
    return _ask(open_channel(profile), request)


def _ask(channel: grpc.Channel, request: admin_pb2.FreezeRequest) -> admin_pb2.FreezeResponse:
    with channel:
        try:
            return AdminServiceStub(channel).Freeze(request, timeout=_CALL_SECONDS)
        except grpc.RpcError as failed:
            error: GrantdError = from_rpc(failed)
            raise error from failed
