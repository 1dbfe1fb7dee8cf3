"""The listeners themselves: TLS, rotation, health, ports, what is told and logged of a failure (I-36)."""

from __future__ import annotations

import asyncio
import socket
import ssl

import grpc.aio
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from broker.core.errors import Refusal, SignerFault, StoreFault, TargetFault, invalid
from broker.rpc.server import CannotListen, Listen, RpcServers
from broker.rpc.status import told_of, visible
from grantd.v1 import access_pb2, admin_pb2, identity_pb2
from grantd.v1.access_pb2_grpc import AccessServiceStub
from grantd.v1.admin_pb2_grpc import AdminServiceStub
from grantd.v1.identity_pb2_grpc import IdentityServiceStub
from recorder.errors import RecorderFailed
from tests.broker.rpc.calls import refusal_of
from tests.broker.rpc.world import VERSION, House

WHOAMI = identity_pb2.WhoAmIRequest()


def shaken(house: House, port: int, version: ssl.TLSVersion | None = None) -> tuple[str | None, bytes | None]:
    """TLS version and server certificate of a handshake; with 1.3 a server says only later that it wants a client's."""
    context = ssl.create_default_context(cadata=house.ca_pem().decode())
    context.set_alpn_protocols(["h2"])
    if version is not None:
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
    ):
        return wrapped.version(), wrapped.getpeercert(binary_form=True)


async def test_a_new_certificate_is_shown_without_a_restart(house: House) -> None:
    """Old connections go on, new ones see the new certificate."""
    async with house.channel(house.people["agent"]) as channel:
        stub = IdentityServiceStub(channel)
        await stub.WhoAmI(WHOAMI)
        assert house.rpc is not None
        port = house.rpc.join_port
        before = await asyncio.to_thread(shown, house, port)
        house.shown = house.identity()
        after = await asyncio.to_thread(shown, house, port)
        assert before != after == x509.load_pem_x509_certificate(house.shown.chain).serial_number
        assert (await stub.WhoAmI(WHOAMI)).name == "agent"


def shown(house: House, port: int) -> int:
    """Serial of the certificate that a listener shows now."""
    _, der = shaken(house, port)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_nothing_older_than_tls_1_2_is_spoken(house: House) -> None:
    """Both listeners."""
    assert house.rpc is not None
    for port in (house.rpc.main_port, house.rpc.join_port):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(shaken, house, port, ssl.TLSVersion.TLSv1_1)
    version, _ = await asyncio.to_thread(shaken, house, house.rpc.join_port)
    assert version == "TLSv1.3"


async def test_plaintext_gets_no_answer(house: House) -> None:
    """Neither listener speaks HTTP/2 in the clear."""
    assert house.rpc is not None
    for port in (house.rpc.main_port, house.rpc.join_port):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer = await refusal_of(IdentityServiceStub(channel).WhoAmI(WHOAMI, timeout=5))
        assert answer[0] in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


async def test_a_second_daemon_cannot_share_the_port(house: House) -> None:
    """gRPC would let it, silently (so_reuseport)."""
    assert house.rpc is not None
    with pytest.raises(CannotListen):
        RpcServers(
            listen=Listen(main=f"127.0.0.1:{house.rpc.main_port}", join="127.0.0.1:0"),
            identity=lambda: house.shown, servicers={}, identify=house.cases.identify, tell=house.cases.refused,
            meter=house.meter, clock=house.world.clock, services=(),
        )  # fmt: skip


async def test_health_answers_strangers_on_the_join_address_alone(house: House) -> None:
    """F23: Check needs nothing there; Watch, which would hold a stream, is for certificates."""
    assert house.rpc is not None
    check, serving = health_pb2.HealthCheckRequest(), health_pb2.HealthCheckResponse.SERVING
    async with house.channel(None, port=house.rpc.join_port) as stranger:
        stub = health_pb2_grpc.HealthStub(stranger)
        assert (await stub.Check(check)).status == serving
        assert (await refusal_of(stub.Watch(check).read()))[0] == "UNIMPLEMENTED"
        await house.rpc.serving(False)  # noqa: FBT003  reads as a sentence
        assert (await stub.Check(check)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await house.rpc.serving(True)  # noqa: FBT003  the same
    async with house.channel(house.people["agent"]) as known:
        assert (await health_pb2_grpc.HealthStub(known).Watch(check).read()).status == serving
    async with house.channel(None) as stranger:
        assert (await refusal_of(health_pb2_grpc.HealthStub(stranger).Check(check, timeout=5)))[0] == "UNAVAILABLE"


async def test_who_am_i_says_what_the_row_says(house: House) -> None:
    """Names come from the store; the certificate holds none."""
    async with house.channel(house.people["manager"]) as channel:
        told = await IdentityServiceStub(channel).WhoAmI(WHOAMI)
    assert (told.tenant, told.name, told.kind, told.role, list(told.teams)) == (
        "t1",
        "manager",
        "person",
        "manager",
        ["web"],
    )
    certificate = x509.load_pem_x509_certificate(house.people["manager"].certificate)
    assert told.certificate_not_after.ToDatetime() == certificate.not_valid_after_utc.replace(tzinfo=None)
    assert told.server_version == VERSION


async def test_one_line_and_two_metrics_a_call_and_nothing_of_what_was_said(house: House) -> None:
    """I-36, I-45: ids and words only; the reason, the token and the note stay out."""
    async with house.channel(house.people["agent"]) as channel:
        with capture_logs() as lines:
            request = access_pb2.RevokeGrantRequest(grant_id="gr_aaaaaaaaaaaaaaaaaaaaaaaaaa", reason="canary-reason")
            await refusal_of(
                AccessServiceStub(channel).RevokeGrant(request, metadata=[("grantd-grant", "canary-token")])
            )
    (line,) = [line for line in lines if line["event"] == "rpc.served"]
    assert line["method"] == "grantd.v1.AccessService/RevokeGrant"
    assert (line["code"], line["reason"]) == ("NOT_FOUND", "not_found")
    assert line["identity"] == house.people["agent"].row.id
    assert line["grant_id"] == "gr_aaaaaaaaaaaaaaaaaaaaaaaaaa"
    assert "canary" not in repr(lines)
    counted = [labels for name, labels in house.meter.counted if name == "rpc_requests"]
    assert counted == [{"method": "grantd.v1.AccessService/RevokeGrant", "code": "NOT_FOUND"}]
    assert [name for name, _ in house.meter.observed if name == "rpc_duration_seconds"] == ["rpc_duration_seconds"]


async def test_a_bug_is_told_as_one_fixed_phrase_and_logged_with_its_trace(house: House) -> None:
    """Whatever escapes a servicer: the caller learns that it failed, the log learns why."""

    async def broken(*_: object) -> object:
        raise RuntimeError("canary-secret")

    house.cases.people.teams = broken  # type: ignore[method-assign, assignment]
    async with house.channel(house.people["owner"]) as channel:
        with capture_logs() as lines, pytest.raises(grpc.aio.AioRpcError) as failed:
            await AdminServiceStub(channel).ListTeams(admin_pb2.ListTeamsRequest())
    assert failed.value.code() is grpc.StatusCode.INTERNAL
    assert failed.value.details() == "the broker failed; the cause is in its log"
    assert "canary" not in repr(failed.value.trailing_metadata())
    assert any(line["event"] == "rpc.failed" and "canary" in line["cause"] for line in lines)


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (StoreFault("disk canary"), "UNAVAILABLE", "store_unavailable"),
        (SignerFault("canary"), "UNAVAILABLE", "signer_unavailable"),
        (RecorderFailed("canary"), "UNAVAILABLE", "recorder_unavailable"),
        (TargetFault("the target cannot be reached", code="unreachable"), "UNAVAILABLE", "unreachable"),
        (ValueError("canary"), "INTERNAL", "internal"),
    ],
)
def test_causes_stay_in_the_log(error: Exception, status: str, reason: str) -> None:
    """A fault's own words are for operators."""
    told = told_of(error, method="x")
    assert (told.code.name, told.reason) == (status, reason)
    assert "canary" not in told.message + told.way_out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\u202eb", "a\\u202eb"),
        ("a\nb", "a\\nb"),
        ("ä b", "ä b"),
        ("x" * 600, "x" * 512),
    ],
)
def test_text_of_others_is_shown_escaped(text: str, told: str) -> None:
    """I-27: what a terminal would act on is visible instead."""
    assert visible(text) == told
    status = told_of(invalid("x", text), method="x").status()
    assert status.details == told


def test_refusals_keep_their_way_out() -> None:
    """ErrorInfo: reason, domain, way_out."""
    from google.rpc import error_details_pb2, status_pb2  # noqa: PLC0415

    refusal: Refusal = invalid("some_code", "no", "do this")
    raw = dict(told_of(refusal, method="x").status().trailing_metadata)["grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(raw).details[0].Unpack(info)
    assert (info.reason, info.domain, dict(info.metadata)) == (
        "some_code",
        "grantd",
        {"way_out": "do this", "blame": "invalid"},
    )
