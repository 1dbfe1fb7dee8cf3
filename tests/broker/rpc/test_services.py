"""The other services over the wire: approving, looking back, administering, enrolling."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import secrets
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.duration_pb2 import Duration

from broker.core.clock import from_micros, micros
from broker.core.ids import ActionId, SessionId, render
from broker.core.records import (
    APPROVAL_NAMESPACE,
    CHANGE_NAMESPACE,
    SIGN_IN_NAMESPACE,
    change_record,
    denial_record,
    sign_in_record,
)
from broker.core.sshcert import parse
from broker.core.sshwire import ed25519_blob, parse_blob
from broker.service.ports import Tx
from grantd import records as client_records
from grantd.v1 import access_pb2, action_pb2, admin_pb2, approval_pb2, audit_pb2, identity_pb2, options_pb2, session_pb2
from grantd.v1.access_pb2_grpc import AccessServiceStub
from grantd.v1.action_pb2_grpc import ActionServiceStub
from grantd.v1.admin_pb2_grpc import AdminServiceStub
from grantd.v1.approval_pb2_grpc import ApprovalServiceStub
from grantd.v1.audit_pb2_grpc import AuditServiceStub
from grantd.v1.identity_pb2_grpc import IdentityServiceStub
from grantd.v1.session_pb2_grpc import SessionServiceStub
from tests.broker.rpc.agent import granted, identified, run, start
from tests.broker.rpc.calls import next_of, refusal_of
from tests.broker.rpc.world import House, Somebody, spki_sha256, web1


def wish(**fields: object) -> access_pb2.RequestAccessRequest:
    """A request that is granted; fields may differ."""
    given: dict[str, object] = {
        "idempotency_key": secrets.token_hex(8), "target": "web1", "login": "deploy",
        "ceiling": options_pb2.COMMAND_CLASS_WRITE, "ttl": Duration(seconds=600), "reason": "release",
    }  # fmt: skip
    return access_pb2.RequestAccessRequest(**given | fields)  # type: ignore[arg-type]


def step_up(who: Somebody, change: object, method: str) -> options_pb2.StepUp:
    """A person's fresh signature over a change, made from the description in options.proto."""
    bare = copy.deepcopy(change)
    bare.ClearField("step_ups")  # type: ignore[attr-defined]
    payload = bare.SerializeToString(deterministic=True)  # type: ignore[attr-defined]
    at, nonce = micros(datetime.now(UTC)), os.urandom(16)
    record = change_record(
        tenant=who.row.tenant, person=who.row.id, method=f"grantd.v1.AdminService/{method}",
        payload_sha256=hashlib.sha256(payload).digest(), at=from_micros(at), nonce=nonce,
    )  # fmt: skip
    return options_pb2.StepUp(
        person_id=who.row.id, signed_at_us=at, nonce=nonce, signature=who.sign(CHANGE_NAMESPACE, record)
    )


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


async def test_a_recording_is_played_and_fetched_by_name_and_reason(house: House) -> None:
    """I-33: the reader is in the log before the first byte; the sealed file verifies without a key."""
    grant = await granted(house)
    async with house.channel(house.people["agent"]) as agent:
        seen = await run(agent, start(grant, "seq 1 50000"))
    session = seen.finished.session_id
    async with house.channel(house.people["manager"]) as channel:
        stub = SessionServiceStub(channel)
        listed = await stub.ListSessions(session_pb2.ListSessionsRequest())
        assert [row.id for row in listed.sessions] == [session]
        assert listed.sessions[0].command == b"seq 1 50000"
        told = (await stub.GetSession(session_pb2.GetSessionRequest(session_id=session))).session
        assert (told.state, told.recording_state, told.identity_name) == ("closed", "final", "agent")
        play = session_pb2.PlayRecordingRequest(session_id=session, reason="review")
        events = [event async for event in stub.PlayRecording(play)]
        assert b"".join(e.payload for e in events if e.kind == 1) == seen.out
        play.with_outline = play.with_screen = True
        play.from_us = events[-1].t_us
        outline, screen, *rest = [told async for told in stub.PlayRecording(play)]
        assert (outline.outline.duration_us, outline.outline.terminal) == (events[-1].t_us, False)
        assert [marker.label.split("  ")[-1] for marker in outline.outline.markers] == ["seq 1 50000"]
        before = b"".join(e.payload for e in events if e.kind == 1 and e.t_us < play.from_us)
        assert screen.screen.drawing == before[-64 * 1024 :]
        assert rest == [event for event in events if event.t_us >= play.from_us]
        fetch = session_pb2.FetchRecordingRequest(session_id=session, reason="keep")
        pieces = [piece async for piece in stub.FetchRecording(fetch)]
        assert {piece.part for piece in pieces} == {0}
        assert max(len(piece.data) for piece in pieces) <= 256 * 1024
        form = session_pb2.EXPORT_FORM_CAST_V3
        export = session_pb2.ExportRecordingRequest(session_id=session, reason="show", form=form)
        cast = b"".join([piece.data async for piece in stub.ExportRecording(export)])
        lines = [json.loads(line) for line in cast.decode().splitlines()]
        assert "".join(text for _, code, text in lines[1:] if code == "o").replace("\r", "").encode() == seen.out
        assert f"({house.people['manager'].row.id})" in lines[0]["grantd"]["exported by"]
        export.form = session_pb2.EXPORT_FORM_HTML
        assert b"".join([piece.data async for piece in stub.ExportRecording(export)]).startswith(b"<!DOCTYPE html>")
        export.form = session_pb2.EXPORT_FORM_UNSPECIFIED
        assert await refusal_of(anext(aiter(stub.ExportRecording(export)))) == ("INVALID_ARGUMENT", "bad_field")
        await stub.TerminateSession(session_pb2.TerminateSessionRequest(session_id=session, reason="late"))
    names = await house.events()
    assert names.count("recording.exported") == 3
    assert names.index("recording.viewed") > names.index("session.closed")
    assert "recording.exported" in names


async def test_recordings_are_searched_by_those_who_may_see_them(house: House) -> None:
    """I-33: the word and the searcher are in the log before an answer, each recording shown from as a reading."""
    grant = await granted(house)
    async with house.channel(house.people["agent"]) as agent:
        one = await run(agent, start(grant, "echo a Needle in it"))
        await run(agent, start(grant, "echo nothing"))
    request = session_pb2.SearchRecordingsRequest(word="needle", reason="incident")
    async with house.channel(house.people["manager"]) as channel:
        stub = SessionServiceStub(channel)
        for filters in (False, True):
            if filters:
                assert await house.cases.search.index(
                    house.people["agent"].row.tenant, SessionId(one.finished.session_id)
                )
                assert not await house.cases.search.index(
                    house.people["agent"].row.tenant, SessionId(one.finished.session_id)
                )
            found, looked = [answer async for answer in stub.SearchRecordings(request)]
            assert found.session.id == one.finished.session_id
            assert [hit.line for hit in found.hits] == ["echo a Needle in it", "a Needle in it"]
            assert (looked.looked.recordings, looked.looked.unreadable) == (2, 0)
        nothing = session_pb2.SearchRecordingsRequest(word="--")
        assert await refusal_of(anext(aiter(stub.SearchRecordings(nothing)))) == ("INVALID_ARGUMENT", "bad_word")
    names = await house.events()
    assert names.count("recording.searched") == names.count("recording.viewed") == 2
    assert names.index("recording.searched") < names.index("recording.viewed")
    async with house.channel(house.people["agent"]) as channel:
        refused = SessionServiceStub(channel).SearchRecordings(request)
        assert await refusal_of(anext(aiter(refused))) == ("PERMISSION_DENIED", "not_permitted")


async def test_the_log_is_read_and_proved_over_the_wire(house: House) -> None:
    """Heads, proofs, pages and a bundle; each read of entries is an entry itself."""
    await granted(house)
    names = await house.events()
    async with house.channel(house.people["admin"]) as channel:
        stub = AuditServiceStub(channel)
        page = await stub.ListEvents(audit_pb2.ListEventsRequest(page_size=2, reason="look"))
        assert [event.name for event in page.events] == names[:2]
        assert page.next_seq == 2
        head = await stub.GetCheckpoint(audit_pb2.GetCheckpointRequest())
        assert head.vkey.encode().split(b"+")[0] in head.note
        proof = await stub.ProveInclusion(audit_pb2.ProveInclusionRequest(seq=0))
        assert proof.size == len(names)
        assert (await stub.ProveConsistency(audit_pb2.ProveConsistencyRequest(from_size=1))).to_size == len(names)
        missing = stub.ProveInclusion(audit_pb2.ProveInclusionRequest(seq=10_000))
        assert await refusal_of(missing) == ("NOT_FOUND", "no_such_leaf")
        pieces = [piece async for piece in stub.ExportBundle(audit_pb2.ExportBundleRequest(reason="keep"))]
        assert pieces
        assert max(len(piece.data) for piece in pieces) <= 256 * 1024
    assert (await house.events())[-2:] == ["audit.viewed", "audit.exported"]


async def test_an_agent_is_added_enrols_renews_and_is_suspended(house: House) -> None:
    """The join address needs no certificate and the token works once; the new certificate works on the main one."""
    assert house.rpc is not None
    async with house.channel(house.people["manager"]) as channel:
        admin = AdminServiceStub(channel)
        added = await admin.AddAgent(
            admin_pb2.AddAgentRequest(idempotency_key="k1", name="bot", teams=["web"], join_for=Duration(seconds=600))
        )
        assert (added.identity.status, list(added.identity.teams)) == ("invited", ["web"])
        assert added.join.ca_certificate.encode() == house.ca_pem()
        key = ec.generate_private_key(ec.SECP256R1())
        bot = Somebody(row=house.people["agent"].row, key=key, certificate=b"", approval=house.people["agent"].approval)
        enrol = identity_pb2.EnrollAgentRequest(tenant="t1", join_secret=added.join_secret, csr=bot.csr())
        async with house.channel(None, port=house.rpc.join_port) as join:
            made = await IdentityServiceStub(join).EnrollAgent(enrol)
            again = await refusal_of(IdentityServiceStub(join).EnrollAgent(enrol))
        assert again == ("UNAUTHENTICATED", "bad_join_token")
        bot = replace(bot, certificate=made.certificate.encode())
        async with house.channel(bot) as own:
            identity = IdentityServiceStub(own)
            assert (await identity.WhoAmI(identity_pb2.WhoAmIRequest())).name == "bot"
            renewed = await identity.RenewCertificate(identity_pb2.RenewCertificateRequest(csr=bot.csr()))
            fresh = x509.load_pem_x509_certificate(renewed.certificate.encode())
            assert fresh.public_key() == key.public_key()
            gone = admin_pb2.SuspendIdentityRequest(identity_id=made.identity_id, reason="done")
            assert (await admin.SuspendIdentity(gone)).identity.status == "suspended"
            refused = await refusal_of(identity.WhoAmI(identity_pb2.WhoAmIRequest()))
        assert refused == ("UNAUTHENTICATED", "unknown_identity")


async def test_a_person_signs_in_with_the_approval_key(house: House) -> None:
    """RedeemSignIn on the join address: a new key, an old approval key, a nonce that works once."""
    assert house.rpc is not None
    viewer = house.people["viewer"]
    fresh = replace(viewer, key=ec.generate_private_key(ec.SECP256R1()))
    at, nonce = micros(datetime.now(UTC)), os.urandom(16)
    record = sign_in_record(
        tenant="t1", person="viewer", key_sha256=spki_sha256(fresh.key), at=from_micros(at), nonce=nonce
    )
    request = identity_pb2.RedeemSignInRequest(
        tenant="t1", name="viewer", csr=fresh.csr(), signed_at_us=at, nonce=nonce,
        signature=viewer.sign(SIGN_IN_NAMESPACE, record),
    )  # fmt: skip
    async with house.channel(None, port=house.rpc.join_port) as join:
        made = await IdentityServiceStub(join).RedeemSignIn(request)
        assert await refusal_of(IdentityServiceStub(join).RedeemSignIn(request)) == ("UNAUTHENTICATED", "bad_sign_in")
    async with house.channel(replace(fresh, certificate=made.certificate.encode())) as own:
        assert (await IdentityServiceStub(own).WhoAmI(identity_pb2.WhoAmIRequest())).name == "viewer"
    async with house.channel(viewer) as old:
        refused = await refusal_of(IdentityServiceStub(old).WhoAmI(identity_pb2.WhoAmIRequest()))
    assert refused == ("UNAUTHENTICATED", "unknown_identity")


async def test_changes_that_raise_power_need_a_signature_over_exactly_them(house: House) -> None:
    """AddPerson, PutTarget: a signature over one request is worth nothing for another; keys belong to one person."""
    owner = house.people["owner"]
    async with house.channel(owner) as channel:
        admin = AdminServiceStub(channel)
        taken = house.people["admin"].row.approval_keys[0]
        fresh = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        line = parse_blob(ed25519_blob(fresh)).line()
        person = admin_pb2.AddPersonRequest(
            idempotency_key="k2", name="newcomer", role="viewer", teams=["web"], approval_keys=[line]
        )
        assert await refusal_of(admin.AddPerson(person)) == ("PERMISSION_DENIED", "step_up_needed")
        signed = copy.deepcopy(person)
        signed.step_ups.append(step_up(owner, person, "AddPerson"))
        stolen = copy.deepcopy(signed)
        stolen.role = "owner"
        assert (await refusal_of(admin.AddPerson(stolen)))[0] == "PERMISSION_DENIED"
        assert (await admin.AddPerson(signed)).identity.name == "newcomer"
        second = admin_pb2.AddPersonRequest(idempotency_key="k9", name="twin", role="viewer", approval_keys=[taken])
        second.step_ups.append(step_up(owner, second, "AddPerson"))
        assert await refusal_of(admin.AddPerson(second)) == ("FAILED_PRECONDITION", "key_taken")
        target = admin_pb2.PutTargetRequest(
            idempotency_key="k3",
            target=admin_pb2.Target(
                name="db1", host="192.0.2.9", port=22, host_key=web1(house.team).host_key,
                tier=options_pb2.AUTONOMY_TIER_APPROVAL, teams=["web"], labels={"env": "prod"},
                logins=[admin_pb2.TargetLogin(name="deploy")],
            ),
        )  # fmt: skip
        target.step_ups.append(step_up(owner, target, "PutTarget"))
        put = await admin.PutTarget(target)
        assert put.target.name == "db1"
        assert put.sshd_lines
        assert {row.name for row in (await admin.ListTargets(admin_pb2.ListTargetsRequest())).targets} == {
            "web1",
            "db1",
        }
        bad = copy.deepcopy(target)
        bad.target.host_key = "ssh-rsa AAAA"
        assert (await refusal_of(admin.PutTarget(bad))) == ("INVALID_ARGUMENT", "bad_public_key")


async def test_the_rest_of_administration_answers(house: House) -> None:
    """Teams, lists, policy, host keys, checks, and the kill switch with its lifting."""
    owner, admin_person = house.people["owner"], house.people["admin"]
    async with house.channel(owner) as channel:
        admin = AdminServiceStub(channel)
        team = (await admin.AddTeam(admin_pb2.AddTeamRequest(idempotency_key="k4", name="data"))).team
        teams = (await admin.ListTeams(admin_pb2.ListTeamsRequest())).teams
        assert [(t.id, t.name) for t in teams] == [(team.id, "data"), (house.team, "web")]
        people = (await admin.ListIdentities(admin_pb2.ListIdentitiesRequest(kind="person"))).identities
        assert [p.name for p in people] == ["admin", "manager", "owner", "viewer"]
        assert all(key.startswith("SHA256:") for p in people for key in p.approval_keys)
        policy = (await admin.GetPolicy(admin_pb2.GetPolicyRequest())).policy
        same = admin_pb2.PutPolicyRequest(idempotency_key="k5", sources=policy.sources, replaces=policy.version)
        assert (await admin.PutPolicy(same)).policy.version == policy.version
        scanned = await admin.ScanHostKey(admin_pb2.ScanHostKeyRequest(host="192.0.2.9", port=22))
        assert scanned.fingerprint.startswith("SHA256:")
        checked = await admin.CheckTarget(admin_pb2.CheckTargetRequest(target="web1"))
        assert checked.findings[0].ok
        assert (await admin.Freeze(admin_pb2.FreezeRequest(reason="incident"))).sessions_cut == 0
        async with house.channel(house.people["agent"]) as agent:
            asked = await refusal_of(AccessServiceStub(agent).RequestAccess(wish()))
        assert asked == ("UNAVAILABLE", "frozen")
        lift = admin_pb2.UnfreezeRequest(reason="over")
        lift.step_ups.append(step_up(owner, lift, "Unfreeze"))
        assert await refusal_of(admin.Unfreeze(lift)) == ("PERMISSION_DENIED", "second_person_needed")
        bare = admin_pb2.UnfreezeRequest(reason="over")
        both = [step_up(owner, bare, "Unfreeze"), step_up(admin_person, bare, "Unfreeze")]
        await admin.Unfreeze(admin_pb2.UnfreezeRequest(reason="over", step_ups=both))


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
