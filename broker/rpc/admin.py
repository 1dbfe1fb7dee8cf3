"""AdminService: agents, people, teams, targets, policy, the kill switch."""

from __future__ import annotations

from dataclasses import dataclass

from broker.core.cert import Ca
from broker.core.generation import Step
from broker.core.glass import GlassId
from broker.core.identity import IdentityKind
from broker.core.ids import ActionId, IdentityId
from broker.core.secret import Secret
from broker.core.sshwire import parse_line
from broker.rpc.call import Call
from broker.rpc.convert.admin import (
    agent_of,
    belief_out,
    change_of,
    finding_out,
    identity_out,
    person_of,
    policy_out,
    pulled_out,
    target_of,
    target_out,
)
from broker.rpc.convert.ca import ca_out
from broker.rpc.convert.glass import glass_out, wanted_glass
from broker.rpc.convert.policy import explanation_out, simulation_out, validation_out
from broker.rpc.convert.scalars import moment, span
from broker.rpc.identity import pem
from broker.service.cas import CaService
from broker.service.enrol import EnrolService
from broker.service.explain import ExplainService
from broker.service.freeze import FreezeService
from broker.service.glass import GlassService
from broker.service.inventory import InventoryService
from broker.service.people import Invitation, PeopleService, Rotation
from broker.service.rules import RulesService
from broker.service.simulate import SimulateService
from broker.service.trust import TrustService
from broker.service.validate import ValidateService
from broker.service.world import Places
from grantd.v1 import admin_pb2 as pb
from grantd.v1 import ca_pb2, glass_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyAdvice:
    """What looks at policies and at the signer's trust."""

    validate: ValidateService
    simulate: SimulateService
    explain: ExplainService
    trust: TrustService


class AdminServicer:
    """Translates; broker.service.people, inventory, rules, freeze and those of PolicyAdvice do the work."""

    def __init__(
        self, people: PeopleService, inventory: InventoryService, rules: RulesService, freeze: FreezeService,
        enrol: EnrolService, places: Places, policy: PolicyAdvice, cas: CaService,
        glass: GlassService,
    ) -> None:  # fmt: skip
        self._people, self._inventory, self._rules, self._freeze = people, inventory, rules, freeze
        self._enrol, self._places, self._policy, self._cas, self._glass = enrol, places, policy, cas, glass

    async def AddAgent(self, request: pb.AddAgentRequest, call: Call) -> pb.AddAgentResponse:
        invited = await self._people.add_agent(call.caller, agent_of(request))
        return pb.AddAgentResponse(
            identity=identity_out(invited.identity, sorted(request.teams)),
            join_secret=invited.secret,
            join_expires_at=moment(invited.expires_at),
            join=await self._join(invited),
        )

    async def AddPerson(self, request: pb.AddPersonRequest, call: Call) -> pb.AddPersonResponse:
        invited = await self._people.add_person(call.caller, person_of(request), change_of(request))
        return pb.AddPersonResponse(
            identity=identity_out(invited.identity, sorted(request.teams)),
            join_secret=invited.secret,
            join_expires_at=moment(invited.expires_at),
            join=await self._join(invited),
        )

    async def SuspendIdentity(self, request: pb.SuspendIdentityRequest, call: Call) -> pb.SuspendIdentityResponse:
        row = await self._people.suspend(
            call.caller, IdentityId(request.identity_id), request.reason, change_of(request)
        )
        names = [team.name for team in await self._people.teams(call.caller) if team.id in row.teams]
        return pb.SuspendIdentityResponse(identity=identity_out(row, names))

    async def SetTeams(self, request: pb.SetTeamsRequest, call: Call) -> pb.SetTeamsResponse:
        wanted = Rotation(
            identity=IdentityId(request.identity_id), teams=frozenset(request.teams), reason=request.reason
        )
        row, teams = await self._people.set_teams(call.caller, wanted, change_of(request))
        return pb.SetTeamsResponse(identity=identity_out(row, teams))

    async def ListIdentities(self, request: pb.ListIdentitiesRequest, call: Call) -> pb.ListIdentitiesResponse:
        kind = IdentityKind(request.kind) if request.kind else None
        found = await self._people.identities(call.caller, kind)
        return pb.ListIdentitiesResponse(identities=[identity_out(row, teams) for row, teams in found])

    async def AddTeam(self, request: pb.AddTeamRequest, call: Call) -> pb.AddTeamResponse:
        team = await self._people.add_team(call.caller, request.name, idempotency_key=request.idempotency_key)
        return pb.AddTeamResponse(team=pb.Team(id=team.id, name=team.name))

    async def ListTeams(self, request: pb.ListTeamsRequest, call: Call) -> pb.ListTeamsResponse:
        found = await self._people.teams(call.caller)
        return pb.ListTeamsResponse(teams=[pb.Team(id=team.id, name=team.name) for team in found])

    async def PutTarget(self, request: pb.PutTargetRequest, call: Call) -> pb.PutTargetResponse:
        target, lines = await self._inventory.put(
            call.caller, target_of(request.target), change_of(request), idempotency_key=request.idempotency_key
        )
        call.ids.note(target_id=target.id)
        return pb.PutTargetResponse(target=target_out(target, sorted(request.target.teams)), sshd_lines=lines)

    async def SetTargetPassword(self, request: pb.SetTargetPasswordRequest, call: Call) -> pb.SetTargetPasswordResponse:
        await self._inventory.set_password(call.caller, request.target, Secret(request.password), change_of(request))
        return pb.SetTargetPasswordResponse()

    async def ListTargets(self, request: pb.ListTargetsRequest, call: Call) -> pb.ListTargetsResponse:
        found = await self._inventory.all(call.caller)
        return pb.ListTargetsResponse(targets=[target_out(row, teams) for row, teams in found])

    async def ScanHostKey(self, request: pb.ScanHostKeyRequest, call: Call) -> pb.ScanHostKeyResponse:
        line = await self._inventory.scan(request.host, request.port)
        return pb.ScanHostKeyResponse(host_key=line, fingerprint=parse_line(line).fingerprint())

    async def CheckTarget(self, request: pb.CheckTargetRequest, call: Call) -> pb.CheckTargetResponse:
        findings = await self._inventory.check(call.caller, request.target, request.login)
        return pb.CheckTargetResponse(findings=[finding_out(finding) for finding in findings])

    async def GetTrust(self, request: pb.GetTrustRequest, call: Call) -> pb.GetTrustResponse:
        beliefs = await self._policy.trust.beliefs(call.caller, request.subjects)
        return pb.GetTrustResponse(entries=[belief_out(belief) for belief in beliefs])

    async def PutTrust(self, request: pb.PutTrustRequest, call: Call) -> pb.PutTrustResponse:
        return pb.PutTrustResponse(sha256=await self._policy.trust.put(call.caller, change_of(request)))

    async def GetPolicy(self, request: pb.GetPolicyRequest, call: Call) -> pb.GetPolicyResponse:
        return pb.GetPolicyResponse(policy=policy_out(await self._rules.get(call.caller)))

    async def PutPolicy(self, request: pb.PutPolicyRequest, call: Call) -> pb.PutPolicyResponse:
        put = await self._rules.put(
            call.caller,
            dict(request.sources),
            change_of(request),
            replaces=request.replaces,
            idempotency_key=request.idempotency_key,
        )
        return pb.PutPolicyResponse(policy=policy_out(put))

    async def ValidatePolicy(self, request: pb.ValidatePolicyRequest, call: Call) -> pb.ValidatePolicyResponse:
        return validation_out(await self._policy.validate.validate(call.caller, dict(request.sources)))

    async def SimulatePolicy(self, request: pb.SimulatePolicyRequest, call: Call) -> pb.SimulatePolicyResponse:
        period = span("period", request.period)
        return simulation_out(await self._policy.simulate.simulate(call.caller, dict(request.sources), period))

    async def ExplainPolicy(self, request: pb.ExplainPolicyRequest, call: Call) -> pb.ExplainPolicyResponse:
        return explanation_out(await self._policy.explain.explain(call.caller, request.subject))

    async def Freeze(self, request: pb.FreezeRequest, call: Call) -> pb.FreezeResponse:
        return pulled_out(await self._freeze.freeze(call.caller, request.reason))

    async def Unfreeze(self, request: pb.UnfreezeRequest, call: Call) -> pb.UnfreezeResponse:
        await self._freeze.unfreeze(call.caller, request.reason, change_of(request))
        return pb.UnfreezeResponse()

    async def ListCas(self, request: ca_pb2.ListCasRequest, call: Call) -> ca_pb2.ListCasResponse:
        told = await self._cas.all()
        return ca_pb2.ListCasResponse(cas=[ca_out(ca, told[ca]) for ca in sorted(told)])

    async def RotateCa(self, request: ca_pb2.RotateCaRequest, call: Call) -> ca_pb2.RotateCaResponse:
        ca, step = Ca(request.name), Step(request.step)
        after = await self._cas.rotate(call.caller, ca, step, change_of(request), force=request.force)
        return ca_pb2.RotateCaResponse(ca=ca_out(ca, after))

    async def MakeBreakGlass(
        self, request: glass_pb2.MakeBreakGlassRequest, call: Call
    ) -> glass_pb2.MakeBreakGlassResponse:
        made = await self._glass.make(call.caller, wanted_glass(request, call.caller), change_of(request))
        return glass_pb2.MakeBreakGlassResponse(glass=glass_out(made))

    async def ListBreakGlass(
        self, request: glass_pb2.ListBreakGlassRequest, call: Call
    ) -> glass_pb2.ListBreakGlassResponse:
        return glass_pb2.ListBreakGlassResponse(glasses=map(glass_out, await self._glass.all(call.caller)))

    async def UseBreakGlass(
        self, request: glass_pb2.UseBreakGlassRequest, call: Call
    ) -> glass_pb2.UseBreakGlassResponse:
        used = await self._glass.use(call.caller, request.record, request.signature, request.reason)
        return glass_pb2.UseBreakGlassResponse(glass=glass_out(used))

    async def SignBreakGlass(
        self, request: glass_pb2.SignBreakGlassRequest, call: Call
    ) -> glass_pb2.SignBreakGlassResponse:
        allowed = await self._glass.sign(call.caller, ActionId(request.action_id), request.signature)
        return glass_pb2.SignBreakGlassResponse(state=allowed.state)

    async def ReviewBreakGlass(
        self, request: glass_pb2.ReviewBreakGlassRequest, call: Call
    ) -> glass_pb2.ReviewBreakGlassResponse:
        seen = await self._glass.review(call.caller, GlassId(request.id), request.reason, change_of(request))
        return glass_pb2.ReviewBreakGlassResponse(glass=glass_out(seen))

    async def _join(self, invited: Invitation) -> pb.JoinInfo:
        return pb.JoinInfo(
            join_address=self._places.join,
            ca_certificate=pem(*await self._enrol.authorities()),
            tenant=invited.identity.tenant,
        )
