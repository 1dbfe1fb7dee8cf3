"""Requests, grants and credentials, both ways."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from types import MappingProxyType

from broker.core.grant import Grant, GrantState
from broker.core.request import AccessRequest, RequestState
from broker.core.sshcert import CERT_KIND
from broker.rpc.convert.scalars import class_of, class_value, duration, moment, moment_or_none, span
from broker.service.access import Wish
from broker.service.issue import SshCredential, TokenCredential
from broker.service.names import Names
from broker.service.stuck import Failing
from grantd.v1 import access_pb2 as pb

REQUEST_STATES: Mapping[RequestState, pb.RequestState.ValueType] = MappingProxyType(
    {state: pb.RequestState.Value(f"REQUEST_STATE_{state.name}") for state in RequestState}
)
GRANT_STATES: Mapping[GrantState, pb.GrantState.ValueType] = MappingProxyType(
    {state: pb.GrantState.Value(f"GRANT_STATE_{state.name}") for state in GrantState}
)


def wish_of(request: pb.RequestAccessRequest) -> Wish:
    """What a caller asks for. Raises Refusal for a TTL that is no duration."""
    return Wish(
        idempotency_key=request.idempotency_key,
        target=request.target,
        login=request.login,
        ceiling=class_of(request.ceiling),
        flags=frozenset(request.flags),
        ttl=span("ttl", request.ttl),
        reason=request.reason,
        ticket=request.ticket,
        evidence=request.evidence,
    )


def request_out(request: AccessRequest, names: Names) -> pb.AccessRequest:
    """An access request as it stands."""
    return pb.AccessRequest(
        id=request.id,
        requester_id=request.requester,
        identity_id=request.identity,
        identity_name=names.identity(request.identity),
        target_id=request.target_id,
        target_name=names.target(request.target_id),
        login=request.login,
        ceiling=class_value(request.ceiling),
        flags=sorted(request.flags),
        ttl=duration(request.ttl),
        reason=request.reason,
        ticket=request.ticket,
        evidence=request.evidence,
        state=REQUEST_STATES[request.state],
        created_at=moment(request.created_at),
        expires_at=moment(request.expires_at),
        grant_id=request.grant_id or "",
        note=request.note,
        quorum=request.quorum,
    )


def grant_out(grant: Grant, names: Names) -> pb.Grant:
    """A grant as it stands."""
    return pb.Grant(
        id=grant.id,
        request_id=grant.request_id,
        identity_id=grant.identity,
        identity_name=names.identity(grant.identity),
        target_id=grant.target_id,
        target_name=names.target(grant.target_id),
        login=grant.login,
        ceiling=class_value(grant.ceiling),
        flags=sorted(grant.flags),
        ttl=duration(grant.ttl),
        state=GRANT_STATES[grant.state],
        approved_at=moment(grant.approved_at),
        must_start_by=moment(grant.must_start_by),
        not_after=moment_or_none(grant.not_after),
        ended_at=moment_or_none(grant.ended_at),
        end_reason=grant.end_reason or "",
    )


def ssh_out(made: SshCredential) -> pb.IssueCredentialResponse:
    """A certificate for the gateway, as an OpenSSH line."""
    return pb.IssueCredentialResponse(
        credential_id=made.credential,
        ssh_certificate=f"{CERT_KIND.decode()} {base64.b64encode(made.certificate).decode()}",
        gateway_user=made.user,
        gateway_address=made.address,
        gateway_known_hosts=made.known_hosts,
        not_after=moment(made.not_after),
    )


def token_out(made: TokenCredential) -> pb.IssueCredentialResponse:
    """A grant token."""
    return pb.IssueCredentialResponse(credential_id=made.credential, token=made.token, not_after=moment(made.not_after))


def stuck_out(one: Failing) -> pb.StuckGrant:
    """An end that fails."""
    return pb.StuckGrant(
        grant_id=one.grant.id,
        target_name=one.target,
        state=GRANT_STATES[one.grant.state],
        why=one.effect.why,
        tries=one.effect.attempts,
        since=moment_or_none(one.effect.failing_since),
        next_try=moment(one.effect.due_at),
    )
