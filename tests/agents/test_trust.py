"""What is signed for the signer is what its author typed and what a second person reads, whatever the broker says."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest

from grantd import statements, trust
from grantd.cli.change import render
from grantd.client import Client
from grantd.errors import Invalid
from grantd.statements import Statement
from grantd.v1 import admin_pb2, ca_pb2
from grantd.v1.options_pb2 import AutonomyTier

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"


def said(subject: str, content: bytes) -> bytes:
    """A first statement about somebody or something."""
    return statements.following(b"", tenant="t1", subject=subject, content=content, at_us=1).encoded()


def answering(statement: bytes) -> Client:
    """A client whose broker says that this stands in the signer's file, whoever was asked about."""

    def call(_method: object, asked: admin_pb2.GetTrustRequest) -> admin_pb2.GetTrustResponse:
        return admin_pb2.GetTrustResponse(
            entries=[admin_pb2.TrustEntry(subject=one, statement=statement) for one in asked.subjects]
        )

    return cast("Client", SimpleNamespace(admin=SimpleNamespace(GetTrust=None), call=call))


def test_nobody_else_is_suspended_than_who_was_named() -> None:
    """A broker that answers bob with alice's id would have an owner sign the end of alice's say (I-12)."""
    alice = said("pe_alice", statements.person(name="alice", role="owner", active=True, keys=[KEY]))
    change = admin_pb2.SuspendIdentityRequest(identity_id="pe_alice", reason="left")
    with pytest.raises(Invalid, match="another person"):
        trust.state(answering(alice), change, tenant="t1", now=NOW, about="bob")
    assert not change.trust
    trust.state(answering(alice), change, tenant="t1", now=NOW, about="alice")
    assert statements.told(Statement.parse(change.trust).content)[2] == ("status", "suspended")


def test_the_second_person_reads_all_of_a_statement() -> None:
    """Also what the change has no field for: how many people a class needs, and that it is none any more."""
    logins = [admin_pb2.TargetLogin(name="deploy", read_login="reader")]
    target = admin_pb2.Target(
        id="tg_1", name="web1", host_key=KEY, tier=AutonomyTier.AUTONOMY_TIER_TRUSTED, logins=logins
    )
    texts = []
    for least in ({"install": 3}, {}):
        content = statements.target(
            name="web1", tier="trusted", host_key=KEY, logins=[("deploy", "reader")], seal_reads=False,
            quorum=statements.quorum(least),
        )  # fmt: skip
        change = admin_pb2.PutTargetRequest(target=target, trust=said("tg_1", content))
        trust.must_say(change, tenant="t1")
        texts.append(render(change))
    assert "people for install  3" in texts[0]
    assert "people for" not in texts[1]
    assert all("the signer is told of tg_1, revision 1" in text for text in texts)


def test_a_step_that_came_back_is_the_one_that_was_typed() -> None:
    """Another step, CA, key or haste in the file: its author signs none of them, whoever else did."""
    typed = ca_pb2.RotateCaRequest(name="egress", step="start")
    file = ca_pb2.RotateCaRequest(name="egress", step="start")
    trust.state(rotating((3,)), file, tenant="t1", now=NOW)
    honest = Statement.parse(file.trust)
    trust.must_be_typed(rotating((3,)), file, typed, tenant="t1", now=NOW)
    for ca, step, number, forced in (
        ("host", "start", 4, False), ("egress", "finish", 3, False), ("egress", "start", 5, False),
        ("egress", "start", 4, True),
    ):  # fmt: skip
        content = statements.rotation(ca=ca, step=step, number=number, forced=forced)
        file.trust = replace(honest, subject=f"ca-{ca}", content=content).encoded()
        typed = ca_pb2.RotateCaRequest(name="egress", step="start")
        with pytest.raises(Invalid, match="another thing"):
            trust.must_be_typed(rotating((3,)), file, typed, tenant="t1", now=NOW)


def test_fewer_people_than_were_typed_are_not_signed_for() -> None:
    """How many a target's class needs stands in no field of the change: as the signer has it, and not as the file."""
    logins, first = [admin_pb2.TargetLogin(name="deploy")], statements.quorum({"install": 2})
    target = admin_pb2.Target(
        id="tg_1", name="web1", host_key=KEY, tier=AutonomyTier.AUTONOMY_TIER_TRUSTED, logins=logins
    )
    contents = [
        statements.target(
            name="web1", tier="trusted", host_key=KEY, logins=[("deploy", "")], seal_reads=False, quorum=least
        )
        for least in (first, statements.quorum({}))
    ]
    broker = answering(said("tg_1", contents[0]))
    for content, good in zip(contents, (True, False), strict=True):
        file = admin_pb2.PutTargetRequest(target=target, trust=said("tg_1", content))
        typed = admin_pb2.PutTargetRequest(target=target)
        with contextlib.nullcontext() if good else pytest.raises(Invalid, match="another thing"):
            trust.must_be_typed(broker, file, typed, tenant="t1", now=NOW)


@pytest.mark.parametrize(("step", "numbers", "key"), [("start", (3,), 4), ("switch", (3, 4), 4), ("finish", (3, 4), 3)])
def test_a_step_of_a_rotation_is_signed_for_the_key_that_it_is_about(
    step: str, numbers: tuple[int, ...], key: int
) -> None:
    """What the owner typed, and the number of that key: another step, CA or haste is not what a second person signs."""
    change = ca_pb2.RotateCaRequest(name="egress", step=step, force=True)
    trust.state(rotating(numbers), change, tenant="t1", now=NOW)
    told = Statement.parse(change.trust)
    assert (told.subject, told.revision) == ("ca-egress", 1)
    assert dict(statements.told(told.content)) == {"ca": "egress", "step": step, "key": str(key), "forced": "yes"}
    trust.must_say(change, tenant="t1")
    assert f"key  {key}" in render(change)
    for other in ({"name": "host"}, {"step": "begin"}, {"force": False}):
        wrong = ca_pb2.RotateCaRequest(name="egress", step=step, force=True, trust=change.trust)
        for field, value in other.items():
            setattr(wrong, field, value)
        with pytest.raises(Invalid, match="another thing"):
            trust.must_say(wrong, tenant="t1")


def rotating(numbers: tuple[int, ...]) -> Client:
    """A client whose broker tells these generations of the egress CA; nothing was said of it yet."""
    listed = ca_pb2.ListCasResponse(
        cas=[ca_pb2.Ca(name="egress", generations=[ca_pb2.CaGeneration(number=number) for number in numbers])]
    )

    def call(method: str, asked: admin_pb2.GetTrustRequest | ca_pb2.ListCasRequest) -> object:
        if isinstance(asked, ca_pb2.ListCasRequest):
            return listed
        return admin_pb2.GetTrustResponse(entries=[admin_pb2.TrustEntry(subject=one) for one in asked.subjects])

    return cast("Client", SimpleNamespace(admin=SimpleNamespace(GetTrust=None, ListCas=None), call=call))
