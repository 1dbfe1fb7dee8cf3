# ruff: noqa: N802  methods are named as the protos name them
"""The fake broker's door for administrators: answers are fixed, changes are kept for the test to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grpc

from grantd.stepup import Change
from grantd.v1 import admin_pb2, admin_pb2_grpc, options_pb2
from tests.agents.refusal import Context, refuse

if TYPE_CHECKING:
    from tests.agents.fake_broker import FakeBroker

JOIN_SECRET = b"j" * 32
_PERMIT: Final = admin_pb2.PolicyAnswer(
    decision="permit", rules=["tier.read"], command_class=options_pb2.COMMAND_CLASS_READ
)
_ASKS: Final = admin_pb2.PolicyAnswer(
    decision="needs_approval", quorum=2, roles=["owner"], rules=["x", "y\x1b"],
    command_class=options_pb2.COMMAND_CLASS_WRITE, opaque=True,
)  # fmt: skip


class Admin(admin_pb2_grpc.AdminServiceServicer):
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
