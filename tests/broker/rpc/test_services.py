"""The other services over the wire: asking for access, classifying, approving, waiting."""

from __future__ import annotations

import base64
import copy
import hashlib
import os
from dataclasses import replace

import pytest
from google.protobuf.duration_pb2 import Duration

from broker.core.ids import ActionId, render
from broker.core.records import APPROVAL_NAMESPACE, denial_record
from broker.core.sshcert import parse
from broker.service.ports import Tx
from grantd import records as client_records
from grantd.v1 import access_pb2, action_pb2, approval_pb2, options_pb2
from grantd.v1.access_pb2_grpc import AccessServiceStub
from grantd.v1.action_pb2_grpc import ActionServiceStub
from grantd.v1.approval_pb2_grpc import ApprovalServiceStub
from tests.broker.rpc.agent import granted, identified, run, start
from tests.broker.rpc.calls import next_of, refusal_of, wish
from tests.broker.rpc.world import House, web1


@pytest.mark.parametrize(
    ("ttl", "reason"),
    [(Duration(), "ttl_too_short"), (Duration(seconds=-1), "ttl_too_short"),
     (Duration(seconds=315_360_000), "ttl_too_long"),
     (Duration(seconds=1, nanos=1), "ttl_fraction"), (Duration(seconds=1, nanos=-1), "bad_field"),
     (Duration(seconds=2**62), "bad_field")],
    ids=["none", "negative", "ten years", "fraction", "two signs", "no duration"],
)  # fmt: skip
async def test_ttls_out_of_bounds_are_refused(house: House, ttl: Duration, reason: str) -> None:
    """I-03, from the wire inwards."""
    async with house.channel(house.people["agent"]) as channel:
        assert await refusal_of(AccessServiceStub(channel).RequestAccess(wish(ttl=ttl))) == ("INVALID_ARGUMENT", reason)


async def test_a_request_becomes_a_grant_and_a_credential_and_ends(house: House) -> None:
    """RequestAccess, GetRequest, WatchRequest, GetGrant, ListGrants, IssueCredential, RevokeGrant."""
    async with house.channel(house.people["agent"]) as channel:
        stub = AccessServiceStub(channel)
        asked = wish()
        request = (await stub.RequestAccess(asked)).request
        assert (await stub.RequestAccess(asked)).request == request
        assert request.state == access_pb2.REQUEST_STATE_APPROVED
        assert (request.identity_name, request.target_name, request.ttl.seconds) == ("agent", "web1", 600)
        assert (await stub.GetRequest(access_pb2.GetRequestRequest(request_id=request.id))).request == request
        watched = [
            seen.request async for seen in stub.WatchRequest(access_pb2.WatchRequestRequest(request_id=request.id))
        ]
        assert watched == [request]
        listed = await stub.ListGrants(access_pb2.ListGrantsRequest(page_size=1))
        assert [grant.id for grant in listed.grants] == [request.grant_id]
        rest = await stub.ListGrants(access_pb2.ListGrantsRequest(page_size=1, page_token=listed.next_page_token))
        assert (list(rest.grants), rest.next_page_token) == ([], "")
        key = web1(house.team).host_key.split()[1]
        issued = await stub.IssueCredential(
            access_pb2.IssueCredentialRequest(
                grant_id=request.grant_id, kind=access_pb2.CREDENTIAL_KIND_SSH, ssh_public_key=base64.b64decode(key)
            )
        )
        kind, blob = issued.ssh_certificate.split()
        assert kind == "ssh-ed25519-cert-v01@openssh.com"
        assert parse(base64.b64decode(blob)).principals == ("deploy+web1",)
        assert issued.gateway_user == "deploy+web1"
        ended = await stub.RevokeGrant(access_pb2.RevokeGrantRequest(grant_id=request.grant_id, reason="done"))
        assert ended.grant.state in (access_pb2.GRANT_STATE_ENDING, access_pb2.GRANT_STATE_REVOKED)
        again = await refusal_of(run(channel, start(request.grant_id, "uname")))
        assert again == ("FAILED_PRECONDITION", "grant_over")


async def test_ends_that_fail_are_seen_and_tried_again_by_those_who_may(house: House) -> None:
    """ListStuckGrants, RetryStuckGrant: Owners and Admins; nobody else even sees them."""
    async with house.channel(house.people["owner"]) as channel:
        stub = AccessServiceStub(channel)
        assert list((await stub.ListStuckGrants(access_pb2.ListStuckGrantsRequest())).grants) == []
        again = access_pb2.RetryStuckGrantRequest(grant_id=await granted(house), reason="again")
        assert await refusal_of(stub.RetryStuckGrant(again)) == ("NOT_FOUND", "not_found")
    async with house.channel(house.people["agent"]) as channel:
        stub = AccessServiceStub(channel)
        for call in (stub.ListStuckGrants(access_pb2.ListStuckGrantsRequest()), stub.RetryStuckGrant(again)):
            assert (await refusal_of(call))[0] == "PERMISSION_DENIED"


async def test_classify_and_preview_run_nothing(house: House) -> None:
    """Class, parts and who would have to approve."""
    grant = await granted(house)
    async with house.channel(house.people["agent"]) as channel:
        stub = ActionServiceStub(channel)
        seen = (await stub.Classify(action_pb2.ClassifyRequest(line=b"ls | tee /tmp/x"))).classification
        assert seen.command_class == options_pb2.COMMAND_CLASS_WRITE
        assert [list(part.argv)[:1] for part in seen.parts][:2] == [["ls"], ["tee"]]
        refused = (await stub.Classify(action_pb2.ClassifyRequest(line=b"echo 'open"))).classification
        assert refused.refused
        command = action_pb2.Command(line=b"touch /tmp/x")
        preview = await stub.Preview(action_pb2.PreviewRequest(grant_id=grant, command=command))
        assert (preview.decision, preview.quorum) == ("needs_approval", 1)
        assert "admin" in preview.approver_roles
        assert not preview.approvers, "an agent does not read the directory"
        command = action_pb2.Command(line=b"ls > /tmp/x")
        preview = await stub.Preview(action_pb2.PreviewRequest(grant_id=grant, command=command))
        assert [(a.what, a.decision) for a in preview.alternatives] == [("drop `> /tmp/x`", "permit")]
        (advice,) = preview.classification.advice
        assert (advice.start, advice.end, advice.put, advice.say) == (2, 11, "", "drop `> /tmp/x`")
        assert advice.command_class == options_pb2.COMMAND_CLASS_READ
        (advice,) = (await stub.Classify(action_pb2.ClassifyRequest(line=b"ls | sh"))).classification.advice
        assert (advice.say, advice.opaque) == ("without `sh`", False)
        many = (await stub.Classify(action_pb2.ClassifyRequest(line=b";".join([b"ls"] * 5000)))).classification
        assert len(many.parts) <= 256
    assert not house.targets.plans


async def test_what_waits_is_watched_decided_and_gone(house: House) -> None:
    """WatchPending: the snapshot, in step, then what comes and goes; a client rebuilds and signs the same bytes."""
    grant = await granted(house)
    admin = house.people["admin"]
    async with house.channel(admin) as channel, house.channel(house.people["agent"]) as agent:
        stub = ApprovalServiceStub(channel)
        watch = stub.WatchPending(approval_pb2.WatchPendingRequest())
        assert (await next_of(watch)).in_step
        waiting = ActionServiceStub(agent).Execute(iter([start(grant, "touch /tmp/x")]))
        action = (await next_of(waiting)).action
        while (change := await next_of(watch)).WhichOneof("change") != "added":
            pass
        item = change.added
        assert (item.id, item.identity_name, item.target_name, item.quorum) == (action.id, "agent", "web1", 1)
        assert item == (await stub.GetPending(approval_pb2.GetPendingRequest(id=item.id))).item
        assert [item] == list((await stub.ListPending(approval_pb2.ListPendingRequest())).items)
        record = client_records.action_record(item.action)
        assert hashlib.sha256(record).digest() == item.digest == action.digest
        decision = approval_pb2.DecideRequest(
            id=item.id, verdict=options_pb2.VERDICT_DENY, digest=item.digest, note="no",
            signature=admin.sign(APPROVAL_NAMESPACE, denial_record(record)),
        )  # fmt: skip
        forged = copy.deepcopy(decision)
        forged.verdict = options_pb2.VERDICT_APPROVE
        assert await refusal_of(stub.Decide(forged)) == ("PERMISSION_DENIED", "bad_signature")
        assert (await stub.Decide(decision)).state == "denied"
        while (change := await next_of(watch)).WhichOneof("change") != "gone":
            pass
        assert (change.gone.id, change.gone.state) == (item.id, "denied")
        assert (await next_of(waiting)).finished.note == "no"
        watch.cancel()


async def test_waiting_for_an_action_and_taking_it_back(house: House) -> None:
    """WaitAction returns at a change or in time; CancelAction ends what waits and what runs."""
    grant = await granted(house)
    async with house.channel(house.people["agent"]) as channel:
        stub = ActionServiceStub(channel)
        call = stub.Execute(iter([start(grant, "touch /tmp/x")]))
        action = (await next_of(call)).action
        awaiting = action_pb2.ACTION_STATE_AWAITING
        wait = action_pb2.WaitActionRequest(action_id=action.id, unless=awaiting, timeout=Duration(nanos=200_000_000))
        assert (await stub.WaitAction(wait)).action.state == awaiting
        cancel = action_pb2.CancelActionRequest(action_id=action.id)
        assert (await stub.CancelAction(cancel)).action.state == action_pb2.ACTION_STATE_CANCELLED
        assert (await next_of(call)).finished.state == action_pb2.ACTION_STATE_CANCELLED
        running = stub.Execute(iter([start(grant, "tail -f /dev/null")]))
        runs = (await next_of(running)).action
        cut = await stub.CancelAction(action_pb2.CancelActionRequest(action_id=runs.id))
        assert (await next_of(running)).notice.text == "ended: cancelled"
        assert (await next_of(running)).finished.note == "cancelled"
        assert cut.action.state in (action_pb2.ACTION_STATE_RUNNING, action_pb2.ACTION_STATE_CUT)
        wait = action_pb2.WaitActionRequest(action_id=runs.id, timeout=Duration(seconds=56))
        assert await refusal_of(stub.WaitAction(wait)) == ("INVALID_ARGUMENT", "bad_wait")


async def test_a_flood_of_long_commands_still_fits_one_list(house: House) -> None:
    """I-19: fifty of the longest commands do not hide each other behind a message that is too long."""
    grant = await granted(house)
    long = b"touch " + b" ".join(b"/tmp/%05d" % number for number in range(1_400))
    async with house.channel(house.people["agent"]) as agent:
        call = ActionServiceStub(agent).Execute(iter([start(grant, long)]))
        action = (await next_of(call)).action
        caller = await identified(house, "agent")
        one = await house.cases.waiting.get(caller, ActionId(action.id))

        def unit(tx: Tx) -> None:
            for _ in range(49):
                tx.actions.put(
                    replace(one, id=ActionId(render("action", os.urandom(16))), nonce=os.urandom(16), reason="x" * 2048)
                )

        await house.world.store.run(one.tenant, unit)
        async with house.channel(house.people["admin"]) as channel:
            listed = await ApprovalServiceStub(channel).ListPending(approval_pb2.ListPendingRequest())
        assert len(listed.items) == 50
        assert all(item.action.command == long for item in listed.items)
        call.cancel()
