"""Who gets through: every RPC for every role, and everybody who has none (I-08, I-41, I-42, F31)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor

from broker.core.identity import IdentityStatus
from broker.core.roles import Permission, Role, holds
from broker.rpc.declared import SERVICES, Rpc, Undeclared, rpcs_of
from broker.rpc.gate import Gate
from broker.rpc.handlers import Unserved
from broker.rpc.server import Listen, RpcServers
from grantd.v1 import identity_pb2, options_pb2
from grantd.v1.approval_pb2 import WatchPendingRequest
from grantd.v1.approval_pb2_grpc import ApprovalServiceStub
from grantd.v1.identity_pb2_grpc import IdentityServiceStub
from tests.broker.rpc.calls import next_of, refusal_of, said
from tests.broker.rpc.world import House

RPCS = tuple(rpc for service in SERVICES for rpc in rpcs_of(service))
NOT_A_MESSAGE = b"\xff"
"""Whoever gets past the gate is told that this is no message: a proof of admission without an effect."""


async def knock(channel: grpc.aio.Channel, rpc: Rpc) -> tuple[str, str]:
    """(status, reason) of a call with bytes that are no message."""
    raw: Any = channel
    path = f"/{rpc.method}"
    if rpc.client_streams:
        answer = "", ""
        for _ in range(5):
            answer = await refusal_of(raw.stream_stream(path)(iter([NOT_A_MESSAGE]), timeout=10).read())
            if answer != ("INTERNAL", ""):  # a reset that overtook the status: gRPC's client then knows no other word
                break
        return answer
    if rpc.server_streams:
        return await refusal_of(raw.unary_stream(path)(NOT_A_MESSAGE, timeout=10).read())
    return await refusal_of(raw.unary_unary(path)(NOT_A_MESSAGE, timeout=10))


def expected(role: Role, rpc: Rpc) -> tuple[str, str]:
    """The cell of the table."""
    if rpc.permission is Permission.NONE or holds(role, rpc.permission):
        return "INVALID_ARGUMENT", "bad_message"
    return "PERMISSION_DENIED", "not_permitted"


@pytest.mark.parametrize("role", Role)
async def test_every_rpc_is_open_to_exactly_the_roles_of_the_table(house: House, role: Role) -> None:
    """I-42: all cells of RPC x role, driven by the descriptors: an RPC that is added is in the test."""
    async with house.channel(house.people[role]) as channel:
        answers = {rpc.method: await knock(channel, rpc) for rpc in RPCS}
    assert answers == {rpc.method: expected(role, rpc) for rpc in RPCS}
    assert len(answers) == sum(len(service.methods) for service in SERVICES)


async def test_suspended_unknown_and_foreign_callers_reach_nothing(house: House) -> None:
    """I-08: a certificate of the right CA is never enough; its row must be there, active, and hold this very key."""
    suspended = await house.add("gone", Role.OWNER, status=IdentityStatus.SUSPENDED)
    owner, agent = house.people["owner"], house.people["agent"]
    unknown = house.certificate(owner.row, owner.key, uri="grantd://t1/pe_aaaaaaaaaaaaaaaaaaaaaaaaaa")
    foreign = house.certificate(owner.row, owner.key, uri=f"grantd://t2/{owner.row.id}")
    borrowed = house.certificate(agent.row, agent.key, uri=f"grantd://t1/{owner.row.id}")
    cases = [(suspended, None), (owner, unknown), (owner, foreign), (agent, borrowed)]
    for who, certificate in cases:
        async with house.channel(who, certificate=certificate) as channel:
            for rpc in RPCS:
                if rpc.permission is not Permission.NONE:
                    assert await knock(channel, rpc) == ("UNAUTHENTICATED", "unknown_identity"), rpc.method


async def test_without_a_certificate_the_main_address_answers_nothing(house: House) -> None:
    """Everything but enrolment is by mTLS: the handshake fails, no handler runs."""
    async with house.channel(None) as channel:
        for rpc in RPCS:
            status, reason = await knock(channel, rpc)
            assert (status, reason) == ("UNAVAILABLE", "")
    assert not [labels for name, labels in house.meter.counted if name == "rpc_requests"]


async def test_the_join_address_serves_what_asks_for_no_credential_and_nothing_else(house: House) -> None:
    """F23: with a certificate or without one, the other RPCs do not exist there."""
    assert house.rpc is not None
    for who in (None, house.people["owner"]):
        async with house.channel(who, port=house.rpc.join_port) as channel:
            for rpc in RPCS:
                answer = await knock(channel, rpc)
                if rpc.permission is Permission.NONE:
                    assert answer == ("INVALID_ARGUMENT", "bad_message")
                else:
                    # INTERNAL: the transport's refusal came as a reset while the client was still sending
                    assert answer in (("UNIMPLEMENTED", ""), ("INTERNAL", ""))


@pytest.mark.parametrize(
    "path",
    [
        "grantd.v1.AdminService/ListTeams",
        "//grantd.v1.AdminService/ListTeams",
        "/GRANTD.V1.AdminService/ListTeams",
        "/grantd.v1.AdminService/ListTeams/",
    ],
)
async def test_a_path_that_is_not_the_methods_own_reaches_no_handler(house: House, path: str) -> None:
    """F31: no spelling of a path gets an agent past the gate of ListTeams."""
    async with house.channel(house.people["agent"]) as channel:
        raw: Any = channel
        status, _ = await refusal_of(raw.unary_unary(path)(b"", timeout=10))
    assert status in ("UNIMPLEMENTED", "PERMISSION_DENIED", "INTERNAL", "UNAVAILABLE")


async def test_an_expired_certificate_is_refused_in_the_handshake(house: House) -> None:
    """I-01: nothing new at the end."""
    agent = house.people["agent"]
    expired = house.certificate(agent.row, agent.key, life=timedelta(seconds=-1))
    async with house.channel(agent, certificate=expired) as channel:
        status, reason = await refusal_of(IdentityServiceStub(channel).WhoAmI(identity_pb2.WhoAmIRequest(), timeout=10))
    assert (status, reason) == ("UNAVAILABLE", "")


async def test_a_connection_does_not_outlive_its_certificate(house: House) -> None:
    """I-01: the handshake looks once; every call looks again."""
    agent = house.people["agent"]
    short = house.certificate(agent.row, agent.key, life=timedelta(seconds=3))
    async with house.channel(agent, certificate=short) as channel:
        stub = IdentityServiceStub(channel)
        assert (await stub.WhoAmI(identity_pb2.WhoAmIRequest())).name == "agent"
        await asyncio.sleep(3.1)
        answer = await refusal_of(stub.WhoAmI(identity_pb2.WhoAmIRequest(), timeout=10))
    assert answer == ("UNAUTHENTICATED", "certificate_expired")


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [({"status": IdentityStatus.SUSPENDED}, "UNAUTHENTICATED", "unknown_identity"),
     ({"role": Role.AGENT}, "PERMISSION_DENIED", "not_permitted"),
     ({"key": bytes(32)}, "UNAUTHENTICATED", "unknown_identity")],
)  # fmt: skip
async def test_a_stream_ends_within_a_second_of_what_its_caller_lost(
    house: House, change: dict[str, object], status: str, reason: str
) -> None:
    """I-41: also where another broker changed the row, so that nothing here was told."""
    manager = house.people["manager"]
    async with house.channel(manager) as channel:
        call = ApprovalServiceStub(channel).WatchPending(WatchPendingRequest(), timeout=30)
        assert (await next_of(call)).in_step
        await house.change(manager, **change)
        loop = asyncio.get_running_loop()
        changed = loop.time()
        assert await refusal_of(call.read()) == (status, reason)
        assert loop.time() - changed < 1.0


async def test_what_a_role_may_not_do_is_audited_once_a_minute(house: House) -> None:
    """I-33: refusals are in the log; a loop of them cannot bury it."""
    rpc = next(rpc for rpc in RPCS if rpc.permission is Permission.POLICY_WRITE)
    async with house.channel(house.people["viewer"]) as channel:
        for _ in range(5):
            await knock(channel, rpc)
    assert (await house.events()).count("permission.refused") == 1


async def test_one_identity_cannot_hold_more_calls_than_its_share(house: House) -> None:
    """I-60: beyond its share an identity gets RESOURCE_EXHAUSTED, others go on."""
    watcher = house.people["viewer"]
    async with house.channel(watcher) as channel, house.channel(house.people["admin"]) as other:
        stub = ApprovalServiceStub(channel)
        gate = house_gate(house)
        gate._per_identity = 3  # noqa: SLF001  the real one would need 250 streams
        calls = [stub.WatchPending(WatchPendingRequest()) for _ in range(3)]
        for call in calls:
            await call.read()
        whoami = identity_pb2.WhoAmIRequest()
        assert await refusal_of(IdentityServiceStub(channel).WhoAmI(whoami)) == ("RESOURCE_EXHAUSTED", "too_many_calls")
        assert (await IdentityServiceStub(other).WhoAmI(whoami)).name == "admin"
        calls[0].cancel()
        await said(lambda: gate._open[watcher.row.id] < 3)  # noqa: SLF001
        assert (await IdentityServiceStub(channel).WhoAmI(whoami)).name == "viewer"


def planted(permission: str | None) -> FileDescriptor:
    """A service `planted.v1.PlantedService` with one RPC, in a pool that knows the option."""
    pool = descriptor_pool.Default()
    name = f"planted/{permission or 'nothing'}.proto"
    file = descriptor_pb2.FileDescriptorProto(
        name=name, package=f"planted.{(permission or 'nothing').replace('.', '_')}", syntax="proto3",
        dependency=["grantd/v1/identity.proto", "grantd/v1/options.proto"],
    )  # fmt: skip
    method = file.service.add(name="PlantedService").method.add(
        name="Do", input_type=".grantd.v1.WhoAmIRequest", output_type=".grantd.v1.WhoAmIResponse"
    )
    if permission is not None:
        method.options.Extensions[options_pb2.permission] = permission
    pool.Add(file)
    return pool.FindFileByName(name)


@pytest.mark.parametrize("permission", [None, "everything.goes"])
async def test_an_rpc_without_a_known_permission_stops_the_start(house: House, permission: str | None) -> None:
    """I-41: planted beside the real services, it is found before a port is bound."""
    service = planted(permission).services_by_name["PlantedService"]
    with pytest.raises(Undeclared, match="Do declares no known permission"):
        servers(house, {}, [service])


async def test_an_rpc_without_an_implementation_stops_the_start(house: House) -> None:
    """A servicer that lacks a method is found at the start, not by the first caller."""
    with pytest.raises(Unserved, match="has no implementation"):
        servers(house, {}, SERVICES)


def servers(house: House, servicers: dict[str, object], services: Sequence[ServiceDescriptor]) -> RpcServers:
    """Servers over other services."""
    return RpcServers(
        listen=Listen(main="127.0.0.1:0", join="127.0.0.1:0"), identity=lambda: house.shown, servicers=servicers,
        identify=house.cases.identify, tell=house.cases.refused, meter=house.meter, clock=house.world.clock,
        services=services,
    )  # fmt: skip


def house_gate(house: House) -> Gate:
    """The gate of the running servers."""
    assert house.rpc is not None
    return house.rpc._gate  # noqa: SLF001
