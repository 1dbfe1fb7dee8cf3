"""AccessService: asking for access, using it, ending it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from broker.core.errors import invalid
from broker.core.grant import Grant
from broker.core.ids import GrantId, RequestId, TenantId
from broker.core.request import AccessRequest
from broker.rpc.call import Call
from broker.rpc.convert.access import grant_out, request_out, ssh_out, stuck_out, token_out, wish_of
from broker.rpc.convert.kinds import outside_out
from broker.rpc.convert.kinds import wish_of as outside_wish_of
from broker.service.access import AccessService
from broker.service.issue import IssueService
from broker.service.issue_outside import OutsideIssueService
from broker.service.names import NamesService
from broker.service.revoke import RevokeService, Whose
from broker.service.stuck import StuckService
from grantd.v1 import access_pb2 as pb

_PAGE = 50


class AccessServicer:
    """Translates; broker.service.access and broker.service.issue do the work."""

    def __init__(
        self, access: AccessService, issue: IssueService, outside: OutsideIssueService, names: NamesService,
        revoke: RevokeService, stuck: StuckService,
    ) -> None:  # fmt: skip
        self._access, self._issue, self._outside, self._names = access, issue, outside, names
        self._revoke, self._stuck = revoke, stuck

    async def RequestAccess(self, request: pb.RequestAccessRequest, call: Call) -> pb.RequestAccessResponse:
        made = await self._access.request(call.caller, wish_of(request))
        call.ids.note(request_id=made.id, grant_id=made.grant_id)
        return pb.RequestAccessResponse(request=await self._request(call, made))

    async def GetRequest(self, request: pb.GetRequestRequest, call: Call) -> pb.GetRequestResponse:
        found = await self._access.get(call.caller, RequestId(request.request_id))
        return pb.GetRequestResponse(request=await self._request(call, found))

    async def WatchRequest(self, request: pb.WatchRequestRequest, call: Call) -> AsyncIterator[pb.WatchRequestResponse]:
        async for seen in self._access.watch(call.caller, RequestId(request.request_id)):
            yield pb.WatchRequestResponse(request=await self._request(call, seen))

    async def CancelRequest(self, request: pb.CancelRequestRequest, call: Call) -> pb.CancelRequestResponse:
        cancelled = await self._access.cancel(call.caller, RequestId(request.request_id))
        return pb.CancelRequestResponse(request=await self._request(call, cancelled))

    async def IssueCredential(self, request: pb.IssueCredentialRequest, call: Call) -> pb.IssueCredentialResponse:
        grant = GrantId(request.grant_id)
        if request.kind == pb.CREDENTIAL_KIND_SSH:
            answer = ssh_out(await self._issue.ssh(call.caller, grant, request.ssh_public_key))
        elif request.kind == pb.CREDENTIAL_KIND_TOKEN:
            answer = token_out(await self._issue.token(call.caller, grant))
        else:
            answer = outside_out(await self._outside.issue(call.caller, grant, *outside_wish_of(request)))
        call.ids.note(credential_id=answer.credential_id)
        return answer

    async def GetGrant(self, request: pb.GetGrantRequest, call: Call) -> pb.GetGrantResponse:
        found = await self._access.get_grant(call.caller, GrantId(request.grant_id))
        return pb.GetGrantResponse(grant=await self._grant(call.caller.tenant, found))

    async def ListGrants(self, request: pb.ListGrantsRequest, call: Call) -> pb.ListGrantsResponse:
        size = request.page_size or _PAGE
        after = GrantId(request.page_token) if request.page_token else None
        found = await self._access.list_grants(call.caller, after=after, limit=size)
        names = await self._names.of(call.caller.tenant, [(g.identity, g.target_id) for g in found.rows])
        return pb.ListGrantsResponse(
            grants=[grant_out(grant, names) for grant in found.rows],
            next_page_token=found.next,
        )

    async def RevokeGrant(self, request: pb.RevokeGrantRequest, call: Call) -> pb.RevokeGrantResponse:
        grant, cut = await self._access.revoke(call.caller, GrantId(request.grant_id), request.reason)
        return pb.RevokeGrantResponse(grant=await self._grant(call.caller.tenant, grant), sessions_cut=cut)

    async def Revoke(self, request: pb.RevokeRequest, call: Call) -> pb.RevokeResponse:
        scope = request.WhichOneof("scope")
        if scope is None:
            raise invalid("bad_scope", "a revocation names what it is about", "say whose grants are to end")
        done = await self._revoke.revoke(call.caller, Whose(scope), getattr(request, scope), request.reason)
        return pb.RevokeResponse(
            grants_ended=len(done.grants), requests_cancelled=done.requests, sessions_cut=done.sessions,
            sessions_late=done.late,
        )  # fmt: skip

    async def ListStuckGrants(self, request: pb.ListStuckGrantsRequest, call: Call) -> pb.ListStuckGrantsResponse:
        del request
        return pb.ListStuckGrantsResponse(grants=map(stuck_out, await self._stuck.list(call.caller)))

    async def RetryStuckGrant(self, request: pb.RetryStuckGrantRequest, call: Call) -> pb.RetryStuckGrantResponse:
        call.ids.note(grant_id=request.grant_id)
        tried = await self._stuck.retry(call.caller, GrantId(request.grant_id), request.reason)
        return pb.RetryStuckGrantResponse(grant=stuck_out(tried))

    async def _request(self, call: Call, request: AccessRequest) -> pb.AccessRequest:
        names = await self._names.of(request.tenant, [(request.identity, request.target_id)])
        return request_out(request, names)

    async def _grant(self, tenant: TenantId, grant: Grant) -> pb.Grant:
        return grant_out(grant, await self._names.of(tenant, [(grant.identity, grant.target_id)]))
