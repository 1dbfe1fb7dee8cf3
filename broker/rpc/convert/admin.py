"""Agents, people, teams, targets and policies, both ways; and the signed part of a change."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeAlias

from google.protobuf.duration_pb2 import Duration

from broker.core.identity import Identity, IdentityKind, Login, Target
from broker.core.ids import IdentityId, TargetId
from broker.core.roles import Role
from broker.core.sshwire import parse_line
from broker.rpc.convert.kinds import settings_into, settings_of
from broker.rpc.convert.scalars import moment, span, tier_of, tier_value
from broker.service.freeze import Pulled
from broker.service.people import Newcomer
from broker.service.ports import Finding, PolicyVersion
from broker.service.stepup import Change, StepUp
from broker.service.target_input import TargetInput
from broker.service.trust import Belief
from grantd.v1 import admin_pb2 as pb
from grantd.v1 import ca_pb2, glass_pb2, vault_pb2

Signed: TypeAlias = (
    pb.AddPersonRequest
    | pb.PutPolicyRequest
    | pb.PutTargetRequest
    | pb.PutTrustRequest
    | pb.SetTargetPasswordRequest
    | pb.SetTeamsRequest
    | pb.SuspendIdentityRequest
    | pb.UnfreezeRequest
    | ca_pb2.RotateCaRequest
    | glass_pb2.MakeBreakGlassRequest
    | glass_pb2.ReviewBreakGlassRequest
    | vault_pb2.RotateKeyRequest
)
"""Requests that carry `step_ups`."""


def change_of(request: Signed) -> Change:
    """What was signed: the request without its signatures, serialised deterministically (options.proto, StepUp)."""
    payload = copy.deepcopy(request)
    payload.ClearField("step_ups")
    return Change(
        method=_method_of(request),
        payload=payload.SerializeToString(deterministic=True),
        step_ups=[
            StepUp(
                person=IdentityId(given.person_id), signed_at_us=given.signed_at_us, nonce=given.nonce,
                signature=given.signature, trust_signature=given.trust_signature,
            )
            for given in request.step_ups
        ],
        trust=getattr(request, "trust", b""),
    )  # fmt: skip


def _method_of(request: Signed) -> str:
    """The RPC that takes it."""
    service = "VaultService" if request.DESCRIPTOR.file is vault_pb2.DESCRIPTOR else "AdminService"
    return f"grantd.v1.{service}/{request.DESCRIPTOR.name.removesuffix('Request')}"


def agent_of(request: pb.AddAgentRequest) -> Newcomer:
    """An agent to add."""
    return Newcomer(
        idempotency_key=request.idempotency_key,
        kind=IdentityKind.AGENT,
        name=request.name,
        role=Role.AGENT,
        teams=frozenset(request.teams),
        owner=request.owner,
        approval_keys=(),
        join_for=_join_for(request.join_for) if request.HasField("join_for") else None,
    )


def person_of(request: pb.AddPersonRequest) -> Newcomer:
    """A person to add."""
    return Newcomer(
        idempotency_key=request.idempotency_key,
        kind=IdentityKind.PERSON,
        name=request.name,
        role=Role(request.role),
        teams=frozenset(request.teams),
        owner="",
        approval_keys=tuple(request.approval_keys),
        id=IdentityId(request.identity_id) if request.identity_id else None,
        join_for=_join_for(request.join_for) if request.HasField("join_for") else None,
    )


def identity_out(row: Identity, team_names: Sequence[str]) -> pb.Identity:
    """An agent or a person, without keys: fingerprints are enough to recognise one."""
    return pb.Identity(
        id=row.id,
        kind=row.kind,
        name=row.name,
        role=row.role,
        owner_id=row.owner or "",
        teams=team_names,
        status=row.status,
        approval_keys=[parse_line(line).fingerprint() for line in row.approval_keys],
        created_at=moment(row.created_at),
    )


def target_of(given: pb.Target) -> TargetInput:
    """A target as it came in."""
    return TargetInput(
        id=TargetId(given.id) if given.id else None,
        name=given.name,
        host=given.host,
        port=given.port,
        host_key=given.host_key,
        tier=tier_of(given.tier),
        teams=frozenset(given.teams),
        labels=dict(given.labels),
        logins=tuple(Login(name=login.name, read_login=login.read_login) for login in given.logins),
        seal_reads=given.seal_reads,
        source_address=given.source_address,
        settings=settings_of(given),
    )


def target_out(row: Target, team_names: Sequence[str]) -> pb.Target:
    """A target as it stands."""
    made = pb.Target(
        id=row.id,
        name=row.name,
        host=row.host,
        port=row.port,
        host_key=row.host_key,
        tier=tier_value(row.tier),
        teams=team_names,
        labels=row.labels,
        logins=[pb.TargetLogin(name=login.name, read_login=login.read_login) for login in row.logins],
        seal_reads=row.seal_reads,
        source_address=row.source_address,
    )
    return settings_into(made, row.settings)


def finding_out(finding: Finding) -> pb.TargetFinding:
    """One line of a check."""
    return pb.TargetFinding(ok=finding.ok, what=finding.what, advice=finding.advice)


def policy_out(version: PolicyVersion) -> pb.Policy:
    """A policy in force."""
    return pb.Policy(version=version.version, sources=version.sources, put_by=version.put_by)


def belief_out(belief: Belief) -> pb.TrustEntry:
    """One subject on both sides."""
    return pb.TrustEntry(
        subject=belief.subject, name=belief.name, statement=belief.statement, same=belief.same, content=belief.content
    )


def _join_for(given: Duration) -> timedelta:
    return span("join_for", given)


def pulled_out(pulled: Pulled) -> pb.FreezeResponse:
    """What a pull of the kill switch did."""
    return pb.FreezeResponse(sessions_cut=pulled.sessions, sessions_late=pulled.late, recorded=pulled.recorded)
