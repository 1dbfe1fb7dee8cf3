# ruff: noqa: N802  methods are named as the protos name them
"""The fake broker's other doors: joining, access, actions, approvals, recordings, audit. Tests script what they say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc

from broker.core import records
from broker.core.clock import from_micros
from broker.rpc.convert.action import classification_out
from broker.rpc.convert.session import outline_out, screen_out
from grantd.v1 import (
    access_pb2,
    access_pb2_grpc,
    action_pb2,
    action_pb2_grpc,
    approval_pb2,
    approval_pb2_grpc,
    audit_pb2,
    audit_pb2_grpc,
    identity_pb2,
    identity_pb2_grpc,
    options_pb2,
    session_pb2,
    session_pb2_grpc,
)
from policy.advice import advise
from policy.catalog import shipped_alone
from policy.shell import classify
from recorder.events import Event
from recorder.outline import outline_of
from recorder.screen import screen_of
from tests.agents.fake_admin import JOIN_SECRET
from tests.agents.items import is_signed, stamp
from tests.agents.pki import spki_sha256
from tests.agents.refusal import Context, refuse

if TYPE_CHECKING:
    from tests.agents.fake_broker import FakeBroker


class Identity(identity_pb2_grpc.IdentityServiceServicer):
    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    def EnrollAgent(
        self, request: identity_pb2.EnrollAgentRequest, context: Context
    ) -> identity_pb2.EnrollAgentResponse:
        if request.join_secret != JOIN_SECRET:
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "bad_join_token", "the join token does not work")
        broker = self._broker
        certificate = broker.authority.client(request.csr, broker.me, life=broker.life)
        return identity_pb2.EnrollAgentResponse(
            identity_id=broker.me,
            certificate=certificate.decode(),
            ca_certificate=broker.authority.pem.decode(),
            address=broker.address,
        )

    def RenewCertificate(
        self, request: identity_pb2.RenewCertificateRequest, context: Context
    ) -> identity_pb2.RenewCertificateResponse:
        broker = self._broker
        broker.renewals += 1
        certificate = broker.authority.client(request.csr, broker.me, life=timedelta(hours=24))
        return identity_pb2.RenewCertificateResponse(
            certificate=certificate.decode(), ca_certificate=broker.authority.pem.decode()
        )

    def RedeemSignIn(
        self, request: identity_pb2.RedeemSignInRequest, context: Context
    ) -> identity_pb2.RedeemSignInResponse:
        broker = self._broker
        broker.sign_ins.append(request)
        record = records.sign_in_record(
            tenant=request.tenant,
            person=request.name,
            key_sha256=spki_sha256(request.csr),
            at=from_micros(request.signed_at_us),
            nonce=request.nonce,
        )
        if not is_signed(record, request.signature, records.SIGN_IN_NAMESPACE, broker.approval_key):
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "bad_signature", "the signature does not hold")
        certificate = broker.authority.client(request.csr, broker.me, life=broker.life)
        return identity_pb2.RedeemSignInResponse(
            identity_id=broker.me,
            certificate=certificate.decode(),
            ca_certificate=broker.authority.pem.decode(),
            address=broker.address,
        )

    def WhoAmI(self, request: identity_pb2.WhoAmIRequest, context: Context) -> identity_pb2.WhoAmIResponse:
        return identity_pb2.WhoAmIResponse(
            tenant="t1",
            identity_id=self._broker.me,
            name="approver",
            kind="person",
            role="owner",
            server_time=stamp(datetime.now(UTC)),
            server_version="0.1.0",
        )


class Access(access_pb2_grpc.AccessServiceServicer):
    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    def _request(self) -> access_pb2.AccessRequest:
        states = self._broker.request_states
        state = states.pop(0) if len(states) > 1 else states[0]
        approved = state == access_pb2.REQUEST_STATE_APPROVED
        return access_pb2.AccessRequest(
            id="rq_1",
            state=access_pb2.RequestState.ValueType(state),
            grant_id="gr_1" if approved else "",
            note="not today" if state == access_pb2.REQUEST_STATE_DENIED else "",
            target_name="web1",
            login="deploy",
            ceiling=options_pb2.COMMAND_CLASS_WRITE,
        )

    def RequestAccess(
        self, request: access_pb2.RequestAccessRequest, context: Context
    ) -> access_pb2.RequestAccessResponse:
        self._broker.requests.append(request)
        if request.target == "nowhere":
            refuse(context, grpc.StatusCode.NOT_FOUND, "not_found", "no such target", way_out="check the name")
        if request.target == "forbidden":
            refuse(context, grpc.StatusCode.PERMISSION_DENIED, "policy_denied", "policy says no")
        return access_pb2.RequestAccessResponse(request=self._request())

    def GetRequest(self, request: access_pb2.GetRequestRequest, context: Context) -> access_pb2.GetRequestResponse:
        return access_pb2.GetRequestResponse(request=self._request())

    def CancelRequest(
        self, request: access_pb2.CancelRequestRequest, context: Context
    ) -> access_pb2.CancelRequestResponse:
        self._broker.request_states = [access_pb2.REQUEST_STATE_CANCELLED]
        return access_pb2.CancelRequestResponse(request=self._request())

    def WatchRequest(
        self, request: access_pb2.WatchRequestRequest, context: Context
    ) -> Iterator[access_pb2.WatchRequestResponse]:
        while context.is_active():
            told = self._request()
            yield access_pb2.WatchRequestResponse(request=told)
            if told.state != access_pb2.REQUEST_STATE_PENDING:
                return
            time.sleep(0.02)

    def IssueCredential(
        self, request: access_pb2.IssueCredentialRequest, context: Context
    ) -> access_pb2.IssueCredentialResponse:
        blob = request.ssh_public_key
        assert blob[:15] == b"\x00\x00\x00\x0bssh-ed25519"
        return access_pb2.IssueCredentialResponse(
            credential_id="cr_1",
            ssh_certificate="ssh-ed25519-cert-v01@openssh.com AAAA",
            gateway_user="deploy+web1",
            gateway_address="127.0.0.1:2222",
            gateway_known_hosts="@cert-authority * ssh-ed25519 AAAA",
            not_after=stamp(datetime.now(UTC) + timedelta(minutes=5)),
        )

    def GetGrant(self, request: access_pb2.GetGrantRequest, context: Context) -> access_pb2.GetGrantResponse:
        return access_pb2.GetGrantResponse(
            grant=access_pb2.Grant(id=request.grant_id, login="deploy", target_name="web1")
        )

    def ListGrants(self, request: access_pb2.ListGrantsRequest, context: Context) -> access_pb2.ListGrantsResponse:
        at = int(request.page_token or 0)
        more = at + 1 < len(self._broker.grants)
        return access_pb2.ListGrantsResponse(
            grants=self._broker.grants[at : at + 1], next_page_token=str(at + 1) if more else ""
        )

    def RevokeGrant(self, request: access_pb2.RevokeGrantRequest, context: Context) -> access_pb2.RevokeGrantResponse:
        grant = access_pb2.Grant(id=request.grant_id, state=access_pb2.GRANT_STATE_REVOKED)
        return access_pb2.RevokeGrantResponse(grant=grant, sessions_cut=1)

    def ListStuckGrants(
        self, request: access_pb2.ListStuckGrantsRequest, context: Context
    ) -> access_pb2.ListStuckGrantsResponse:
        return access_pb2.ListStuckGrantsResponse(grants=[_stuck("gr_9")])

    def RetryStuckGrant(
        self, request: access_pb2.RetryStuckGrantRequest, context: Context
    ) -> access_pb2.RetryStuckGrantResponse:
        assert request.reason == "the host is back"
        return access_pb2.RetryStuckGrantResponse(grant=_stuck(request.grant_id))


def _stuck(grant: str) -> access_pb2.StuckGrant:
    return access_pb2.StuckGrant(
        grant_id=grant, target_name="web1", state=access_pb2.GRANT_STATE_STUCK, why="no \x1b answer", tries=4
    )


class Action(action_pb2_grpc.ActionServiceServicer):
    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    def Classify(self, request: action_pb2.ClassifyRequest, context: Context) -> action_pb2.ClassifyResponse:
        """As the daemon does, with the same classifier."""
        verdict = classify(request.line)
        told = classification_out(verdict, advise(shipped_alone(), request.line, verdict))
        return action_pb2.ClassifyResponse(classification=told)

    def Preview(self, request: action_pb2.PreviewRequest, context: Context) -> action_pb2.PreviewResponse:
        """The classification, beside a decision that the test chose."""
        self._broker.preview.classification.CopyFrom(
            self.Classify(action_pb2.ClassifyRequest(line=request.command.line), context).classification
        )
        return self._broker.preview

    def Execute(
        self, request_iterator: Iterator[action_pb2.ExecuteRequest], context: Context
    ) -> Iterator[action_pb2.ExecuteResponse]:
        first = next(request_iterator)
        self._broker.started.append(first)
        assert self._broker.execute is not None
        yield from self._broker.execute(first, context)

    def WaitAction(self, request: action_pb2.WaitActionRequest, context: Context) -> action_pb2.WaitActionResponse:
        deadline = time.monotonic() + min(request.timeout.ToTimedelta().total_seconds(), 2)
        while self._broker.action.state == request.unless and time.monotonic() < deadline and context.is_active():
            time.sleep(0.01)
        return action_pb2.WaitActionResponse(action=self._broker.action)


class Approval(approval_pb2_grpc.ApprovalServiceServicer):
    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    def ListPending(
        self, request: approval_pb2.ListPendingRequest, context: Context
    ) -> approval_pb2.ListPendingResponse:
        return approval_pb2.ListPendingResponse(items=self._broker.pending.values())

    def WatchPending(
        self, request: approval_pb2.WatchPendingRequest, context: Context
    ) -> Iterator[approval_pb2.WatchPendingResponse]:
        yield from self._broker.watch(context)

    def GetPending(self, request: approval_pb2.GetPendingRequest, context: Context) -> approval_pb2.GetPendingResponse:
        if request.id not in self._broker.pending:
            refuse(context, grpc.StatusCode.NOT_FOUND, "not_found", "no such item")
        return approval_pb2.GetPendingResponse(item=self._broker.pending[request.id])

    def Decide(self, request: approval_pb2.DecideRequest, context: Context) -> approval_pb2.DecideResponse:
        if self._broker.refuse_decisions:
            refuse(context, grpc.StatusCode.PERMISSION_DENIED, self._broker.refuse_decisions, "not by you")
        self._broker.decisions.append(request)
        time.sleep(self._broker.decide_seconds)
        yes = request.verdict == options_pb2.VERDICT_APPROVE
        self._broker.take(request.id, "allowed" if yes else "denied")
        return approval_pb2.DecideResponse(state="allowed" if yes else "denied")


class Session(session_pb2_grpc.SessionServiceServicer):
    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    def PlayRecording(
        self, request: session_pb2.PlayRecordingRequest, context: Context
    ) -> Iterator[session_pb2.PlayRecordingResponse]:
        moments = [Event(event.t_us, event.kind, event.channel, event.payload) for event in self._broker.played]
        self._broker.openings.append(request.from_us)
        if request.with_outline:
            yield outline_out(outline_of(moments, {}))
        if request.with_screen:
            yield screen_out(screen_of(event for event in moments if event.t_us < request.from_us))
        yield from (event for event in self._broker.played if event.t_us >= request.from_us)

    def FetchRecording(
        self, request: session_pb2.FetchRecordingRequest, context: Context
    ) -> Iterator[session_pb2.FetchRecordingResponse]:
        for part, data in ((0, b"one"), (0, b"two"), (1, b"three")):
            yield session_pb2.FetchRecordingResponse(part=part, data=data)

    def SearchRecordings(
        self, request: session_pb2.SearchRecordingsRequest, context: Context
    ) -> Iterator[session_pb2.SearchRecordingsResponse]:
        if request.word == "needle":
            hit = session_pb2.RecordingHit(t_us=3_723_000_000, line="a Needle \x1b]0;x\x07in it")
            session = session_pb2.Session(id="se_1", identity_name="deployer", login="root", target_name="web1")
            yield session_pb2.SearchRecordingsResponse(session=session, hits=[hit])
        yield session_pb2.SearchRecordingsResponse(
            looked=session_pb2.SearchedRecordings(recordings=7, unreadable=request.reason.count("broken"))
        )

    def ExportRecording(
        self, request: session_pb2.ExportRecordingRequest, context: Context
    ) -> Iterator[session_pb2.ExportRecordingResponse]:
        yield session_pb2.ExportRecordingResponse(data=f"{request.form} {request.with_input} ".encode())
        if request.reason == "break":
            refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "recording_too_long", "too long", way_out="--cast")
        yield session_pb2.ExportRecordingResponse(data=request.reason.encode())


class Audit(audit_pb2_grpc.AuditServiceServicer):
    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    def ExportBundle(
        self, request: audit_pb2.ExportBundleRequest, context: Context
    ) -> Iterator[audit_pb2.ExportBundleResponse]:
        yield from self._broker.bundle
