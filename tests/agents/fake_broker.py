# ruff: noqa: N802  methods are named as the protos name them
"""A fake of the wire: the generated servicers behind real mTLS, with scripts instead of a broker.

It proves what the client sends and what it does with answers; it decides nothing by rules of its own. Records and
digests come from the daemon's implementation, so each digest the client accepts was computed twice.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn, TypeAlias, cast

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from broker.core import records, sshsig
from broker.core.clock import from_micros
from broker.rpc.convert.action import classification_out
from broker.rpc.convert.session import outline_out, screen_out
from grantd.stepup import Change
from grantd.v1 import (
    access_pb2,
    access_pb2_grpc,
    action_pb2,
    action_pb2_grpc,
    admin_pb2,
    admin_pb2_grpc,
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
from tests.agents.pki import Authority, spki_sha256

JOIN_SECRET = b"j" * 32
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


def stamp(moment: datetime) -> Timestamp:
    """The wire's form."""
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def action_item(
    command: bytes,
    *,
    number: int = 1,
    command_class: str = "write",
    opaque: bool = False,
    egress: bool = False,
    outlives: bool = False,
    login: str = "deploy",
    reason: str = "",
    lives: timedelta = timedelta(minutes=5),
    parts: list[options_pb2.CommandPart] | None = None,
) -> approval_pb2.PendingItem:
    """A pending command; its digest is the daemon's own."""
    now = datetime.now(UTC)
    ends_us = int((now + timedelta(minutes=15)).timestamp() * 1_000_000)
    fields = approval_pb2.ActionRecord(
        tenant="t1",
        request_id=f"rq_{number:026d}",
        action_id=f"ac_{number:026d}",
        requester="pe_requester",
        agent_id="ag_deployer",
        agent_key=hashlib.sha256(b"agent").digest(),
        target_id="tg_web1",
        host_key=hashlib.sha256(b"host").digest(),
        login=login,
        command=command,
        stdin_mode="none",
        command_class=command_class,
        opaque=opaque,
        egress=egress,
        tier="approval",
        not_after_us=ends_us,
        policy_version="p" * 64,
        nonce=int(time.time()).to_bytes(4, "big") + bytes([number % 256]) * 12,
        outlives=outlives,
    )
    value = options_pb2.CommandClass.Value(f"COMMAND_CLASS_{command_class.upper()}")
    part = options_pb2.CommandPart(
        start=0,
        end=len(command),
        argv=command.decode(errors="replace").split(" "),
        command_class=value,
        opaque=opaque,
        rule="test.rule",
        reason="as the test says",
    )
    return approval_pb2.PendingItem(
        id=fields.action_id,
        action=fields,
        digest=records.digest_of(daemon_record(fields)),
        proposed_at=stamp(now + timedelta(milliseconds=number)),
        expires_at=stamp(now + lives),
        quorum=1,
        identity_name="deployer",
        target_name="web1",
        untrusted_reason=reason,
        classification=options_pb2.Classification(
            command_class=value, opaque=opaque, parts=[part] if parts is None else parts
        ),
        policy_reasons=["tiers.approval.write"],
    )


def access_item(*, ceiling: str, number: int = 1, flags: tuple[str, ...] = ()) -> approval_pb2.PendingItem:
    """A pending access request; its digest is the daemon's own."""
    now = datetime.now(UTC)
    record = records.AccessRecord(
        tenant="t1",
        request_id=f"rq_{number:026d}",
        requester="pe_requester",
        agent_id="ag_deployer",
        agent_key=b"k" * 32,
        target_id="tg_web1",
        host_key=b"h" * 32,
        login="deploy",
        ceiling=ceiling,
        flags=frozenset(flags),
        ttl=timedelta(minutes=15),
        policy_version="p" * 64,
        nonce=int(time.time()).to_bytes(4, "big") + b"n" * 12,
    )
    return approval_pb2.PendingItem(
        id=record.request_id,
        access=approval_pb2.AccessRecord(
            tenant=record.tenant,
            request_id=record.request_id,
            requester=record.requester,
            agent_id=record.agent_id,
            agent_key=record.agent_key,
            target_id=record.target_id,
            host_key=record.host_key,
            login=record.login,
            ceiling=record.ceiling,
            flags=sorted(record.flags),
            ttl_seconds=900,
            policy_version=record.policy_version,
            nonce=record.nonce,
        ),
        digest=records.digest_of(record.encoded()),
        proposed_at=stamp(now),
        expires_at=stamp(now + timedelta(minutes=5)),
        quorum=1,
        identity_name="deployer",
        target_name="web1",
    )


def daemon_record(fields: approval_pb2.ActionRecord) -> bytes:
    """The record's bytes as the daemon makes them."""
    return records.ActionRecord(
        tenant=fields.tenant,
        request_id=fields.request_id,
        action_id=fields.action_id,
        requester=fields.requester,
        agent_id=fields.agent_id,
        agent_key=fields.agent_key,
        target_id=fields.target_id,
        host_key=fields.host_key,
        login=fields.login,
        command=fields.command,
        cwd=fields.cwd,
        env=dict(fields.env),
        stdin_mode=fields.stdin_mode,
        stdin_sha256=fields.stdin_sha256,
        pty=fields.pty,
        command_class=fields.command_class,
        opaque=fields.opaque,
        egress=fields.egress,
        tier=fields.tier,
        verification=records.Verification(
            command=fields.verification.command,
            expectation=fields.verification.expectation,
            attempts=fields.verification.attempts,
            deadline=fields.verification.deadline.ToTimedelta(),
        )
        if fields.HasField("verification")
        else None,
        rollback=tuple(fields.rollback),
        not_after=from_micros(fields.not_after_us),
        policy_version=fields.policy_version,
        nonce=fields.nonce,
    ).encoded()


ExecuteScript: TypeAlias = "Callable[[action_pb2.ExecuteRequest, Context], Iterator[action_pb2.ExecuteResponse]]"


@dataclass
class FakeBroker:
    """What the broker holds and was told. Tests fill it before, and read it after."""

    authority: Authority = field(default_factory=Authority)
    life: timedelta = timedelta(hours=24)
    me: str = "pe_approver"
    pending: dict[str, approval_pb2.PendingItem] = field(default_factory=dict)
    decisions: list[approval_pb2.DecideRequest] = field(default_factory=list)
    refuse_decisions: str = ""
    decide_seconds: float = 0.0
    started: list[action_pb2.ExecuteRequest] = field(default_factory=list)
    renewals: int = 0
    sign_ins: list[identity_pb2.RedeemSignInRequest] = field(default_factory=list)
    approval_key: str = ""
    execute: ExecuteScript | None = None
    action: action_pb2.Action = field(default_factory=action_pb2.Action)
    requests: list[access_pb2.RequestAccessRequest] = field(default_factory=list)
    request_states: list[int] = field(default_factory=lambda: [access_pb2.REQUEST_STATE_APPROVED])
    grants: list[access_pb2.Grant] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    simulated: list[admin_pb2.SimulatePolicyRequest] = field(default_factory=list)
    second_person: bool = False
    played: list[session_pb2.PlayRecordingResponse] = field(default_factory=list)
    openings: list[int] = field(default_factory=list)
    """Where players have begun to read."""
    bundle: list[audit_pb2.ExportBundleResponse] = field(default_factory=list)
    preview: action_pb2.PreviewResponse = field(default_factory=action_pb2.PreviewResponse)
    cancelled: threading.Event = field(default_factory=threading.Event)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _log: list[approval_pb2.WatchPendingResponse] = field(default_factory=list)
    _server: grpc.Server | None = None

    def start(self) -> None:
        """Listen on two loopback ports: by client certificate, and for joining."""
        server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        identity_pb2_grpc.add_IdentityServiceServicer_to_server(cast("Any", _Identity)(self), server)
        access_pb2_grpc.add_AccessServiceServicer_to_server(cast("Any", _Access)(self), server)
        action_pb2_grpc.add_ActionServiceServicer_to_server(cast("Any", _Action)(self), server)
        approval_pb2_grpc.add_ApprovalServiceServicer_to_server(cast("Any", _Approval)(self), server)
        admin_pb2_grpc.add_AdminServiceServicer_to_server(cast("Any", _Admin)(self), server)
        session_pb2_grpc.add_SessionServiceServicer_to_server(cast("Any", _Session)(self), server)
        audit_pb2_grpc.add_AuditServiceServicer_to_server(cast("Any", _Audit)(self), server)
        pair = self.authority.server()
        mutual = grpc.ssl_server_credentials([pair], self.authority.pem, require_client_auth=True)
        self.port = server.add_secure_port("127.0.0.1:0", mutual)
        self.join_port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        server.start()
        self._server = server

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(0).wait()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def join_address(self) -> str:
        return f"127.0.0.1:{self.join_port}"

    def add(self, item: approval_pb2.PendingItem) -> None:
        """Something waits now, or changed."""
        with self._changed:
            self.pending[item.id] = item
            self._log.append(approval_pb2.WatchPendingResponse(added=item))
            self._changed.notify_all()

    def take(self, item_id: str, state: str) -> None:
        """Something waits no longer."""
        with self._changed:
            self.pending.pop(item_id, None)
            gone = approval_pb2.PendingGone(id=item_id, state=state)
            self._log.append(approval_pb2.WatchPendingResponse(gone=gone))
            self._changed.notify_all()

    def watch(self, context: Context) -> Iterator[approval_pb2.WatchPendingResponse]:
        """A snapshot, then each change."""
        with self._changed:
            at = len(self._log)
            first = list(self.pending.values())
        for item in first:
            yield approval_pb2.WatchPendingResponse(added=item)
        yield approval_pb2.WatchPendingResponse(in_step=True)
        while context.is_active():
            with self._changed:
                self._changed.wait_for(lambda seen=at: len(self._log) > seen, timeout=0.05)  # type: ignore[misc]
                fresh, at = self._log[at:], len(self._log)
            yield from fresh

    def settle(self, seconds: float = 5.0) -> approval_pb2.DecideRequest:
        """The first decision, waited for."""
        deadline = time.monotonic() + seconds
        while not self.decisions and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self.decisions, "no decision arrived"
        return self.decisions[0]


class _Identity(identity_pb2_grpc.IdentityServiceServicer):
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


class _Access(access_pb2_grpc.AccessServiceServicer):
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


class _Action(action_pb2_grpc.ActionServiceServicer):
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


class _Approval(approval_pb2_grpc.ApprovalServiceServicer):
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


_PERMIT: Final = admin_pb2.PolicyAnswer(
    decision="permit", rules=["tier.read"], command_class=options_pb2.COMMAND_CLASS_READ
)
_ASKS: Final = admin_pb2.PolicyAnswer(
    decision="needs_approval", quorum=2, roles=["owner"], rules=["x", "y\x1b"],
    command_class=options_pb2.COMMAND_CLASS_WRITE, opaque=True,
)  # fmt: skip


class _Admin(admin_pb2_grpc.AdminServiceServicer):
    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    def ListTargets(self, request: admin_pb2.ListTargetsRequest, context: Context) -> admin_pb2.ListTargetsResponse:
        return admin_pb2.ListTargetsResponse(targets=[admin_pb2.Target(name=name) for name in self._broker.targets])

    def GetTrust(self, request: admin_pb2.GetTrustRequest, context: Context) -> admin_pb2.GetTrustResponse:
        return admin_pb2.GetTrustResponse(entries=[admin_pb2.TrustEntry(subject=one) for one in request.subjects])

    def _join(self) -> admin_pb2.JoinInfo:
        broker = self._broker
        return admin_pb2.JoinInfo(
            join_address=broker.join_address, ca_certificate=broker.authority.pem.decode(), tenant="t1"
        )

    def _change(self, request: Change, context: Context) -> None:
        signers = {step.person_id for step in request.step_ups}
        if self._broker.second_person and len(signers) < 2:
            refuse(context, grpc.StatusCode.PERMISSION_DENIED, "second_person_needed", "a second person has to sign")
        self._broker.changes.append(request)

    def AddAgent(self, request: admin_pb2.AddAgentRequest, context: Context) -> admin_pb2.AddAgentResponse:
        identity = admin_pb2.Identity(id="ag_new", name=request.name, kind="agent")
        return admin_pb2.AddAgentResponse(identity=identity, join_secret=JOIN_SECRET, join=self._join())

    def AddPerson(self, request: admin_pb2.AddPersonRequest, context: Context) -> admin_pb2.AddPersonResponse:
        self._change(request, context)
        identity = admin_pb2.Identity(id="pe_new", name=request.name, kind="person")
        return admin_pb2.AddPersonResponse(identity=identity, join_secret=JOIN_SECRET, join=self._join())

    def ListIdentities(
        self, request: admin_pb2.ListIdentitiesRequest, context: Context
    ) -> admin_pb2.ListIdentitiesResponse:
        hostile = admin_pb2.Identity(id="ag_1", name="web\x1b]52;c;eA==\x07", kind="agent", role="agent")
        return admin_pb2.ListIdentitiesResponse(identities=[hostile])

    def PutTarget(self, request: admin_pb2.PutTargetRequest, context: Context) -> admin_pb2.PutTargetResponse:
        self._change(request, context)
        return admin_pb2.PutTargetResponse(target=request.target, sshd_lines="TrustedUserCAKeys /etc/ssh/grantd\n")

    def ScanHostKey(self, request: admin_pb2.ScanHostKeyRequest, context: Context) -> admin_pb2.ScanHostKeyResponse:
        return admin_pb2.ScanHostKeyResponse(host_key="ssh-ed25519 AAAA", fingerprint="SHA256:abc")

    def CheckTarget(self, request: admin_pb2.CheckTargetRequest, context: Context) -> admin_pb2.CheckTargetResponse:
        bad = admin_pb2.TargetFinding(ok=False, what="TrustedUserCAKeys", advice="add the line")
        note = admin_pb2.TargetFinding(ok=True, what="home\x1b", advice="give it another")
        return admin_pb2.CheckTargetResponse(findings=[admin_pb2.TargetFinding(ok=True, what="host key"), bad, note])

    def GetPolicy(self, request: admin_pb2.GetPolicyRequest, context: Context) -> admin_pb2.GetPolicyResponse:
        return admin_pb2.GetPolicyResponse(policy=admin_pb2.Policy(version="v1", sources={"tiers.cedar": "permit();"}))

    def PutPolicy(self, request: admin_pb2.PutPolicyRequest, context: Context) -> admin_pb2.PutPolicyResponse:
        self._change(request, context)
        return admin_pb2.PutPolicyResponse(policy=admin_pb2.Policy(version="v2", sources=request.sources))

    def ValidatePolicy(
        self, request: admin_pb2.ValidatePolicyRequest, context: Context
    ) -> admin_pb2.ValidatePolicyResponse:
        where = {"file": "a\x1b[2J.cedar", "line": 3, "column": 7}
        problem = admin_pb2.PolicyProblem(**where, policy="x", message="no `levl`", warning="ok" in request.sources)  # type: ignore[arg-type]
        return admin_pb2.ValidatePolicyResponse(version="v3" if "ok" in request.sources else "", problems=[problem])

    def SimulatePolicy(
        self, request: admin_pb2.SimulatePolicyRequest, context: Context
    ) -> admin_pb2.SimulatePolicyResponse:
        self._broker.simulated.append(request)
        change = admin_pb2.SimulatedChange(
            action_id="ac_1", identity="deployer", target="web1", command=b"touch \x1b[2J", before=_PERMIT, after=_ASKS
        )
        count = admin_pb2.SimulatedCount(before="permit", after="needs_approval", actions=2)
        return admin_pb2.SimulatePolicyResponse(counts=[count], changes=[change], changed=2, replayed=9, drifted=1)

    def ExplainPolicy(
        self, request: admin_pb2.ExplainPolicyRequest, context: Context
    ) -> admin_pb2.ExplainPolicyResponse:
        if request.subject == "tier.read":
            rule = admin_pb2.PolicyRule(id="tier.read", position="a.cedar:1:1", text="permit\x1b;", says=["Permits."])
            return admin_pb2.ExplainPolicyResponse(rule=rule)
        told = admin_pb2.ActionDecision(
            action_id=request.subject, state="denied", identity="deployer", target="web1", command=b"id\x1b",
            decided=_PERMIT, policy_version="v1", note="no\x1b", replayed=_ASKS if request.subject == "ac_1" else None,
        )  # fmt: skip
        return admin_pb2.ExplainPolicyResponse(action=told)

    def Freeze(self, request: admin_pb2.FreezeRequest, context: Context) -> admin_pb2.FreezeResponse:
        return admin_pb2.FreezeResponse(sessions_cut=3)

    def Unfreeze(self, request: admin_pb2.UnfreezeRequest, context: Context) -> admin_pb2.UnfreezeResponse:
        self._change(request, context)
        return admin_pb2.UnfreezeResponse()


class _Session(session_pb2_grpc.SessionServiceServicer):
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


class _Audit(audit_pb2_grpc.AuditServiceServicer):
    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    def ExportBundle(
        self, request: audit_pb2.ExportBundleRequest, context: Context
    ) -> Iterator[audit_pb2.ExportBundleResponse]:
        yield from self._broker.bundle


def is_signed(record: bytes, signature: bytes, namespace: str, key_line: str) -> bool:
    """Whether an SSHSIG blob holds, by the daemon's own verifier."""
    try:
        sshsig.verify(signature, record, namespace, [key_line])
    except sshsig.BadSignature:
        return False
    return True
