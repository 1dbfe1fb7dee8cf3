"""The client's records and the daemon's, held together by tests/vectors/records.json and by nothing else (I-10)."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from broker.core import records as daemon
from broker.core.clock import from_micros
from grantd import records as client
from grantd.v1 import admin_pb2, approval_pb2
from tests.agents.items import daemon_record

Vector: TypeAlias = dict[str, Any]
VECTORS: Any = json.loads((Path(__file__).parents[1] / "vectors/records.json").read_text())
HEX = ("agent_key", "host_key", "command", "stdin_sha256", "nonce")


def action_fields(vector: Vector) -> approval_pb2.ActionRecord:
    """The wire's message of a vector."""
    told = dict(vector["fields"])
    check = told.pop("verification")
    told |= {name: bytes.fromhex(told[name]) for name in HEX}
    told["rollback"] = [bytes.fromhex(each) for each in told["rollback"]]
    fields = approval_pb2.ActionRecord(**told)
    if check is not None:
        fields.verification.CopyFrom(
            approval_pb2.VerificationRecord(
                command=bytes.fromhex(check["command"]),
                expectation=bytes.fromhex(check["expectation"]),
                attempts=check["attempts"],
                deadline=Duration(seconds=check["deadline_seconds"]),
            )
        )
    return fields


@pytest.mark.parametrize("vector", VECTORS["pae"])
def test_the_framing(vector: Vector) -> None:
    """Both count and measure alike."""
    parts = [bytes.fromhex(part) for part in vector["parts"]]
    assert client.pae(*parts).hex() == daemon.pae(parts).hex() == vector["encoded"]


@pytest.mark.parametrize("vector", VECTORS["action"], ids=lambda vector: vector["name"])
def test_action_records(vector: Vector) -> None:
    """Record, digest, code and denial of a command are the vector's, in both implementations (I-10)."""
    fields = action_fields(vector)
    for record in (client.action_record(fields), daemon_record(fields)):
        assert record.hex() == vector["record"]
        assert client.digest_of(record).hex() == daemon.digest_of(record).hex() == vector["digest"]
        assert client.code_of(client.digest_of(record)) == daemon.code_of(daemon.digest_of(record)) == vector["code"]
        assert client.denial_record(record).hex() == daemon.denial_record(record).hex() == vector["denial"]


@pytest.mark.parametrize("vector", VECTORS["access"], ids=lambda vector: vector["name"])
def test_access_records(vector: Vector) -> None:
    """The same for access requests; the order of the flags on the wire does not count."""
    told = dict(vector["fields"])
    told |= {name: bytes.fromhex(told[name]) for name in ("agent_key", "host_key", "nonce")}
    shuffled = [*told["flags"][1:], *told["flags"][:1]]
    assert client.access_record(approval_pb2.AccessRecord(**{**told, "flags": shuffled})).hex() == vector["record"]
    ttl = timedelta(seconds=told.pop("ttl_seconds"))
    theirs = daemon.AccessRecord(**{**told, "flags": frozenset(told["flags"])}, ttl=ttl)
    assert theirs.encoded().hex() == vector["record"]


def test_the_sign_in_record() -> None:
    """Binds the new client key."""
    told = VECTORS["sign_in"]["fields"]
    key, nonce = bytes.fromhex(told["key_sha256"]), bytes.fromhex(told["nonce"])
    at = told["signed_at_us"]
    ours = client.sign_in_record(
        tenant=told["tenant"], person=told["person"], key_sha256=key, signed_at_us=at, nonce=nonce
    )
    theirs = daemon.sign_in_record(
        tenant=told["tenant"], person=told["person"], key_sha256=key, at=from_micros(at), nonce=nonce
    )
    assert ours.hex() == theirs.hex() == VECTORS["sign_in"]["record"]


def test_the_change_record() -> None:
    """Binds method and request; signatures that the request carries already are not part of it (I-17)."""
    told = VECTORS["change"]["fields"]
    nonce, at = bytes.fromhex(told["nonce"]), told["signed_at_us"]
    request = admin_pb2.UnfreezeRequest(reason="drill over")
    request.step_ups.add(person_id="pe_other", signature=b"x")
    assert client.change_payload(request).hex() == told["payload"]
    ours = client.change_record(
        tenant=told["tenant"],
        person_id=told["person_id"],
        method=told["method"],
        request=request,
        signed_at_us=at,
        nonce=nonce,
    )
    assert ours.hex() == VECTORS["change"]["record"]


RECORDS = st.builds(
    approval_pb2.ActionRecord,
    tenant=st.text(max_size=5),
    request_id=st.text(max_size=5),
    agent_id=st.text(max_size=5),
    agent_key=st.binary(max_size=5),
    login=st.text(max_size=5),
    command=st.binary(max_size=9),
    cwd=st.text(max_size=5),
    env=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
    stdin_mode=st.sampled_from(["none", "declared", "stream"]),
    pty=st.booleans(),
    opaque=st.booleans(),
    egress=st.booleans(),
    rollback=st.lists(st.binary(max_size=3), max_size=2),
    not_after_us=st.integers(0, 2**50),
    nonce=st.binary(max_size=16),
)


@given(RECORDS, RECORDS)
def test_two_implementations_agree_and_never_confuse(
    one: approval_pb2.ActionRecord, other: approval_pb2.ActionRecord
) -> None:
    """Client and daemon agree on any record, and different fields make different bytes (I-10)."""
    assert client.action_record(one) == daemon_record(one)
    same = one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
    assert (client.action_record(one) == client.action_record(other)) is same


def test_what_outlives_the_session_is_no_part_of_the_record() -> None:
    """It is a warning of the classifier, not something that is approved."""
    fields = action_fields(VECTORS["action"][0])
    warned = approval_pb2.ActionRecord()
    warned.CopyFrom(fields)
    warned.outlives = True
    assert client.action_record(warned) == client.action_record(fields)
