"""Every RPC and the permission that its proto declares, by descriptor. An RPC without one stops the start (I-41)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from broker.core.errors import Fault
from broker.core.roles import Permission
from grantd.v1 import (
    access_pb2,
    action_pb2,
    admin_pb2,
    approval_pb2,
    audit_pb2,
    identity_pb2,
    options_pb2,
    session_pb2,
    vault_pb2,
)

SERVICES: Sequence[ServiceDescriptor] = tuple(
    file.services_by_name[name]
    for file in (access_pb2.DESCRIPTOR, approval_pb2.DESCRIPTOR, action_pb2.DESCRIPTOR, session_pb2.DESCRIPTOR,
                 audit_pb2.DESCRIPTOR, identity_pb2.DESCRIPTOR, admin_pb2.DESCRIPTOR, vault_pb2.DESCRIPTOR)
    for name in file.services_by_name
)  # fmt: skip
"""All services of the contract."""


class Undeclared(Fault):
    """An RPC declares no permission, or one that the table does not know: the daemon does not start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpc:
    """One RPC as its descriptor has it."""

    service: str
    """Full name, such as `grantd.v1.AccessService`."""
    name: str
    permission: Permission
    takes: type[Message]
    client_streams: bool
    server_streams: bool
    id_fields: tuple[str, ...]
    """String fields of the request that hold ids: for the log line."""

    @property
    def method(self) -> str:
        """`grantd.v1.AccessService/GetGrant`: what logs, metrics and step-up records call it."""
        return f"{self.service}/{self.name}"


def rpcs_of(service: ServiceDescriptor) -> tuple[Rpc, ...]:
    """The RPCs of a service. Raises Undeclared."""
    return tuple(_rpc(service, method) for method in service.methods)


def _rpc(service: ServiceDescriptor, method: MethodDescriptor) -> Rpc:
    takes = method.input_type
    return Rpc(
        service=service.full_name,
        name=method.name,
        permission=_permission(method),
        takes=GetMessageClass(takes),
        client_streams=bool(method.client_streaming),
        server_streams=bool(method.server_streaming),
        id_fields=tuple(f.name for f in takes.fields if f.name == "id" or f.name.endswith("_id")),
    )


def _permission(method: MethodDescriptor) -> Permission:
    declared = method.GetOptions().Extensions[options_pb2.permission]
    try:
        return Permission(declared)
    except ValueError:
        raise Undeclared(f"{method.full_name} declares no known permission (it says {declared!r})") from None
