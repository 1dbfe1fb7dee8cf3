"""The broker for an asyncio program: the verbs of `grantd.client.Client`, awaited.

One client belongs to one running loop. Renewal runs in a thread, so that a lock held by another process never stops
the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar, assert_never

import grpc
import grpc.aio

from grantd import asking, database, execution, keys, renewal
from grantd.channel import open_aio_channel
from grantd.client import WAIT_SECONDS, Result
from grantd.connection import CALL_SECONDS, utc_now
from grantd.database import Database
from grantd.errors import GrantdError, Unreachable, from_rpc
from grantd.execution import Conversation, Done, Event, Finished, Poll, Resume, Retry, Stderr, Stdout
from grantd.profile import Profile
from grantd.v1 import access_pb2, access_pb2_grpc, action_pb2, action_pb2_grpc, identity_pb2, identity_pb2_grpc
from grantd.v1.action_pb2 import ActionState

if TYPE_CHECKING:
    from grantd.v1.access_pb2_grpc import AccessServiceAsyncStub
    from grantd.v1.action_pb2_grpc import ActionServiceAsyncStub
    from grantd.v1.identity_pb2_grpc import IdentityServiceAsyncStub

_RECONNECT_SECONDS: Final = 1.0
_WATCH_SECONDS: Final = 600.0

Q = TypeVar("Q")
A = TypeVar("A")


class _Stubs:
    """The services that a program uses, on one channel."""

    def __init__(self, channel: grpc.aio.Channel, validity: keys.Validity) -> None:
        self.validity = validity
        self.channel = channel
        self.access: AccessServiceAsyncStub = access_pb2_grpc.AccessServiceStub(channel)
        self.actions: ActionServiceAsyncStub = action_pb2_grpc.ActionServiceStub(channel)
        self.identity: IdentityServiceAsyncStub = identity_pb2_grpc.IdentityServiceStub(channel)


class AsyncClient:
    """One identity at one broker, for one event loop; renews its certificate by itself.

    Args:
        profile: a loaded profile, its name or path; None takes $GRANTCTL_PROFILE, else `default`.
        now: the wall clock; decides when a certificate is renewed.
    """

    def __init__(self, profile: Profile | str | Path | None = None, *, now: Callable[[], datetime] = utc_now) -> None:
        self.profile = profile if isinstance(profile, Profile) else Profile.load(profile)
        self._now = now
        self._lock = asyncio.Lock()
        self._stubs: _Stubs | None = None
        self._previous: _Stubs | None = None
        self._look_again: datetime | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End every call and connection. May be called twice."""
        for stubs in (self._stubs, self._previous):
            if stubs is not None:
                await stubs.channel.close(None)
        self._stubs = self._previous = None

    async def access(self) -> AccessServiceAsyncStub:
        """The stub of AccessService, for `call`."""
        return (await self._current()).access

    async def actions(self) -> ActionServiceAsyncStub:
        """The stub of ActionService, for `call`."""
        return (await self._current()).actions

    async def call(
        self, method: grpc.aio.UnaryUnaryMultiCallable[Q, A], request: Q, *, within: float = CALL_SECONDS
    ) -> A:
        """One call, `within` seconds. Raises GrantdError and nothing else."""
        try:
            return await method(request, timeout=within)
        except grpc.aio.AioRpcError as failed:
            raise from_rpc(failed) from failed

    async def whoami(self) -> identity_pb2.WhoAmIResponse:
        """Who the broker takes the caller for."""
        stubs = await self._current()
        return await self.call(stubs.identity.WhoAmI, identity_pb2.WhoAmIRequest())

    async def request_access(
        self,
        target: str,
        login: str,
        *,
        ceiling: str,
        ttl: timedelta,
        reason: str,
        ticket: str = "",
        evidence: str = "",
        flags: Iterable[str] = (),
        idempotency_key: str | None = None,
    ) -> access_pb2.AccessRequest:
        """As Client.request_access."""
        message = asking.access_request(
            target=target,
            login=login,
            ceiling=ceiling,
            ttl=ttl,
            reason=reason,
            ticket=ticket,
            evidence=evidence,
            flags=flags,
            key=idempotency_key,
        )
        return (await self.call((await self.access()).RequestAccess, message)).request

    async def get_request(self, request_id: str) -> access_pb2.AccessRequest:
        """As Client.get_request."""
        message = access_pb2.GetRequestRequest(request_id=request_id)
        return (await self.call((await self.access()).GetRequest, message)).request

    async def cancel_request(self, request_id: str) -> access_pb2.AccessRequest:
        """As Client.cancel_request."""
        message = access_pb2.CancelRequestRequest(request_id=request_id)
        return (await self.call((await self.access()).CancelRequest, message)).request

    async def wait_request(self, request_id: str) -> access_pb2.AccessRequest:
        """The request once it is decided; bound it with asyncio.timeout. Survives a broker's restart."""
        request = access_pb2.WatchRequestRequest(request_id=request_id)
        while True:
            call = (await self.access()).WatchRequest(request, timeout=_WATCH_SECONDS)
            try:
                async for answer in call:
                    if asking.is_decided(answer.request):
                        return answer.request
            except grpc.aio.AioRpcError as failed:
                if not isinstance(error := from_rpc(failed), Unreachable):
                    raise error from failed
            finally:
                call.cancel()
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def obtain(
        self, target: str, login: str, *, ceiling: str, ttl: timedelta, reason: str, flags: Iterable[str] = ()
    ) -> str:
        """Ask and wait: the grant id. Raises AccessDenied or Expired."""
        request = await self.request_access(target, login, ceiling=ceiling, ttl=ttl, reason=reason, flags=flags)
        if not asking.is_decided(request):
            request = await self.wait_request(request.id)
        return asking.require_grant(request)

    async def issue_database(self, grant_id: str) -> Database:
        """As Client.issue_database."""
        password = database.new_password()
        made = await self.call((await self.access()).IssueCredential, database.wish(grant_id, password))
        return database.opened(made, password)

    async def grant(self, grant_id: str) -> access_pb2.Grant:
        """As Client.grant."""
        message = access_pb2.GetGrantRequest(grant_id=grant_id)
        return (await self.call((await self.access()).GetGrant, message)).grant

    async def grants(self) -> AsyncGenerator[access_pb2.Grant, None]:
        """As Client.grants."""
        token = ""
        while True:
            message = access_pb2.ListGrantsRequest(page_token=token)
            page = await self.call((await self.access()).ListGrants, message)
            for grant in page.grants:
                yield grant
            token = page.next_page_token
            if not token:
                return

    async def revoke(self, grant_id: str, reason: str) -> access_pb2.RevokeGrantResponse:
        """End a grant now. Repeating it is harmless."""
        message = access_pb2.RevokeGrantRequest(grant_id=grant_id, reason=reason)
        return await self.call((await self.access()).RevokeGrant, message)

    def execute(
        self,
        grant_id: str,
        line: bytes | str,
        *,
        stdin: bytes | None = None,
        cwd: str = "",
        env: dict[str, str] | None = None,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """As Client.execute. Close the iterator (contextlib.aclosing) to end a command that runs."""
        start = action_pb2.ExecuteStart(
            idempotency_key=idempotency_key or asking.new_key(),
            grant_id=grant_id,
            command=execution.command(line, cwd=cwd, env=env, stdin=stdin),
            reason=reason,
        )
        return self._converse(action_pb2.ExecuteRequest(start=start), stdin or b"")

    def resume(self, action_id: str, *, stdin: bytes = b"") -> AsyncGenerator[Event, None]:
        """Go on with an action that waits or is allowed; declared stdin is given again."""
        return self._converse(execution.resume_request(action_id, stdin), stdin)

    async def run(
        self,
        grant_id: str,
        line: bytes | str,
        *,
        stdin: bytes | None = None,
        cwd: str = "",
        env: dict[str, str] | None = None,
        reason: str = "",
    ) -> Result:
        """`execute` to its end, with all output in memory."""
        stdout, stderr = bytearray(), bytearray()
        async for event in self.execute(grant_id, line, stdin=stdin, cwd=cwd, env=env, reason=reason):
            match event:
                case Stdout(data):
                    stdout += data
                case Stderr(data):
                    stderr += data
                case Finished(action):
                    return Result(action=action, stdout=bytes(stdout), stderr=bytes(stderr))
                case _:
                    pass
        raise Unreachable("stream_ended", "the command's stream ended without a result")

    async def wait_action(
        self,
        action_id: str,
        *,
        unless: ActionState.ValueType = action_pb2.ACTION_STATE_UNSPECIFIED,
        timeout: timedelta | None = None,  # noqa: ASYNC109  the broker is told how long to hold its answer
    ) -> action_pb2.Action:
        """As Client.wait_action."""
        deadline = None if timeout is None else time.monotonic() + timeout.total_seconds()
        while True:
            left = WAIT_SECONDS if deadline is None else min(WAIT_SECONDS, max(0.0, deadline - time.monotonic()))
            message = action_pb2.WaitActionRequest(
                action_id=action_id, unless=unless, timeout=asking.duration(timedelta(seconds=left))
            )
            try:
                answer = await self.call((await self.actions()).WaitAction, message, within=left + CALL_SECONDS)
            except Unreachable:
                if deadline is not None and time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(_RECONNECT_SECONDS)
                continue
            over = deadline is not None and time.monotonic() >= deadline
            if execution.left_state(answer.action, unless) or over:
                return answer.action

    async def _converse(self, first: action_pb2.ExecuteRequest, stdin: bytes) -> AsyncGenerator[Event, None]:
        conversation = Conversation(stdin=stdin)
        while True:
            async with contextlib.aclosing(self._listen(conversation, first)) as events:
                async for event in events:
                    yield event
            step = conversation.after()
            match step:
                case Done():
                    return
                case Retry(delay):
                    await asyncio.sleep(delay.total_seconds())
                case Resume(request):
                    first = request
                case Poll(action):
                    yield conversation.learn(await self.wait_action(action.id, unless=action.state))
                    if conversation.finished:
                        return
                    first = execution.resume_request(action.id, stdin)
                case _:
                    assert_never(step)

    async def _listen(
        self, conversation: Conversation, first: action_pb2.ExecuteRequest
    ) -> AsyncGenerator[Event, None]:
        """One stream's events. How it ended is told to the conversation."""
        call = (await self.actions()).Execute(iter([first]))
        try:
            async for response in call:
                if (event := conversation.observe(response)) is not None:
                    yield event
        except grpc.aio.AioRpcError as failed:
            conversation.broke(from_rpc(failed))
        finally:
            call.cancel()

    async def _current(self) -> _Stubs:
        now = self._now()
        async with self._lock:
            if self._stubs is not None and self._look_again is not None and now < self._look_again:
                return self._stubs
            validity = keys.validity_of(self.profile.certificate)
            renewal.require_valid(validity, now)
            if now >= renewal.due_at(validity):
                validity = await self._renewed(validity, now)
            self._look_again = renewal.next_look(validity, now)
            if self._stubs is None or self._stubs.validity != validity:
                if self._previous is not None:
                    await self._previous.channel.close(None)
                self._previous, self._stubs = self._stubs, _Stubs(open_aio_channel(self.profile), validity)
            return self._stubs

    async def _renewed(self, validity: keys.Validity, now: datetime) -> keys.Validity:
        try:
            await asyncio.to_thread(renewal.renew, self.profile, now)
        except GrantdError:
            return validity  # what we have still works; tried again in a minute
        return keys.validity_of(self.profile.certificate)
