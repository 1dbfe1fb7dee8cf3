"""The broker for a program: `Client` here, `AsyncClient` in grantd.aio; the same verbs in both.

    with Client() as client:
        grant_id = client.obtain("web1", "deploy", ceiling="write", ttl=timedelta(minutes=15), reason="release 14")
        print(client.run(grant_id, "systemctl --user restart app").stdout)

The stubs of every service are at hand too (`client.admin`, ...), for `client.call`. Never holds a credential that a
target accepts, and never decides: an approval is made with `grantctl approve` or signed by a person's own tool.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar, assert_never

import grpc

from grantd import asking, execution, keys, renewal
from grantd.channel import open_channel
from grantd.errors import GrantdError, Unreachable, from_rpc
from grantd.execution import Conversation, Done, Event, Finished, Poll, Resume, Retry, Stderr, Stdout
from grantd.profile import Profile
from grantd.v1 import access_pb2, action_pb2, identity_pb2, options_pb2
from grantd.v1.access_pb2_grpc import AccessServiceStub
from grantd.v1.action_pb2 import ActionState
from grantd.v1.action_pb2_grpc import ActionServiceStub
from grantd.v1.admin_pb2_grpc import AdminServiceStub
from grantd.v1.approval_pb2_grpc import ApprovalServiceStub
from grantd.v1.audit_pb2_grpc import AuditServiceStub
from grantd.v1.identity_pb2_grpc import IdentityServiceStub
from grantd.v1.session_pb2_grpc import SessionServiceStub

CALL_SECONDS: Final = 30.0
WAIT_SECONDS: Final = 50
"""One WaitAction; the broker allows 55 s."""
_WATCH_SECONDS: Final = 600.0
_RECONNECT_SECONDS: Final = 1.0

Q = TypeVar("Q")
A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A finished command with all of its output."""

    action: action_pb2.Action
    stdout: bytes
    stderr: bytes

    @property
    def exit_status(self) -> int | None:
        """The remote exit status; None if it never ran or was ended by a signal or by the broker."""
        return self.action.exit_status if self.action.HasField("exit_status") else None


class _Answers(Protocol[A_co]):
    """What a streaming call returns."""

    def __iter__(self) -> Iterator[A_co]: ...

    def cancel(self) -> object: ...


class _Stubs:
    """The services on one channel."""

    def __init__(self, channel: grpc.Channel, validity: keys.Validity) -> None:
        self.validity = validity
        self.channel = channel
        self.access = AccessServiceStub(channel)
        self.actions = ActionServiceStub(channel)
        self.admin = AdminServiceStub(channel)
        self.approvals = ApprovalServiceStub(channel)
        self.audit = AuditServiceStub(channel)
        self.identity = IdentityServiceStub(channel)
        self.sessions = SessionServiceStub(channel)


def utc_now() -> datetime:
    """The machine's wall clock."""
    return datetime.now(UTC)


class Client:
    """One identity at one broker. Thread-safe; renews its certificate by itself.

    Args:
        profile: a loaded profile, its name or path; None takes $GRANTCTL_PROFILE, else `default`.
        now: the wall clock; decides when a certificate is renewed.
    """

    def __init__(self, profile: Profile | str | Path | None = None, *, now: Callable[[], datetime] = utc_now) -> None:
        self.profile = profile if isinstance(profile, Profile) else Profile.load(profile)
        self._now = now
        self._lock = threading.Lock()
        self._stubs: _Stubs | None = None
        self._previous: _Stubs | None = None
        self._look_again: datetime | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every call and connection. May be called twice."""
        with self._lock:
            for stubs in (self._stubs, self._previous):
                if stubs is not None:
                    stubs.channel.close()
            self._stubs = self._previous = None

    # --- the services, for call() and stream()

    @property
    def access(self) -> AccessServiceStub:
        return self._current().access

    @property
    def actions(self) -> ActionServiceStub:
        return self._current().actions

    @property
    def admin(self) -> AdminServiceStub:
        return self._current().admin

    @property
    def approvals(self) -> ApprovalServiceStub:
        return self._current().approvals

    @property
    def audit(self) -> AuditServiceStub:
        return self._current().audit

    @property
    def identity(self) -> IdentityServiceStub:
        return self._current().identity

    @property
    def sessions(self) -> SessionServiceStub:
        return self._current().sessions

    def call(self, method: grpc.UnaryUnaryMultiCallable[Q, A], request: Q, *, timeout: float = CALL_SECONDS) -> A:
        """One call, `timeout` in seconds. Raises GrantdError and nothing else."""
        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as failed:
            raise from_rpc(failed) from failed

    def stream(
        self, method: grpc.UnaryStreamMultiCallable[Q, A], request: Q, *, timeout: float | None = None
    ) -> Iterator[A]:
        """The answers of a streaming call; leaving the iterator ends the call. Raises GrantdError."""
        return _drain(method(request, timeout=timeout))

    # --- who am I

    def whoami(self) -> identity_pb2.WhoAmIResponse:
        """Who the broker takes the caller for."""
        return self.call(self.identity.WhoAmI, identity_pb2.WhoAmIRequest())

    # --- access

    def request_access(
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
        """Ask for a login on a target; `ceiling` is the highest class word. Answers at once, decided or PENDING."""
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
        return self.call(self.access.RequestAccess, message).request

    def wait_request(self, request_id: str, timeout: timedelta | None = None) -> access_pb2.AccessRequest:
        """The request once it is decided, or as it stands when `timeout` is over. Survives a broker's restart."""
        deadline = None if timeout is None else time.monotonic() + timeout.total_seconds()
        request = access_pb2.WatchRequestRequest(request_id=request_id)
        while True:
            left = _WATCH_SECONDS if deadline is None else min(_WATCH_SECONDS, deadline - time.monotonic())
            if left <= 0:
                message = access_pb2.GetRequestRequest(request_id=request_id)
                return self.call(self.access.GetRequest, message).request
            try:
                for answer in self.stream(self.access.WatchRequest, request, timeout=left):
                    if asking.is_decided(answer.request):
                        return answer.request
            except Unreachable:
                pass
            time.sleep(min(_RECONNECT_SECONDS, left))

    def obtain(
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
        timeout: timedelta | None = None,
    ) -> str:
        """Ask and wait: the grant id. Raises AccessDenied, Expired, or StillPending after `timeout`."""
        request = self.request_access(
            target,
            login,
            ceiling=ceiling,
            ttl=ttl,
            reason=reason,
            ticket=ticket,
            evidence=evidence,
            flags=flags,
        )
        if not asking.is_decided(request):
            request = self.wait_request(request.id, timeout)
        return asking.require_grant(request)

    def issue_ssh(self, grant_id: str, public_key: bytes) -> access_pb2.IssueCredentialResponse:
        """A certificate for the broker's SSH gateway over the caller's own Ed25519 key (SSH wire form)."""
        message = access_pb2.IssueCredentialRequest(
            grant_id=grant_id, kind=access_pb2.CREDENTIAL_KIND_SSH, ssh_public_key=public_key
        )
        return self.call(self.access.IssueCredential, message)

    def issue_token(self, grant_id: str) -> access_pb2.IssueCredentialResponse:
        """A grant token, for metadata `grantd-grant`."""
        message = access_pb2.IssueCredentialRequest(grant_id=grant_id, kind=access_pb2.CREDENTIAL_KIND_TOKEN)
        return self.call(self.access.IssueCredential, message)

    def grant(self, grant_id: str) -> access_pb2.Grant:
        """One grant."""
        return self.call(self.access.GetGrant, access_pb2.GetGrantRequest(grant_id=grant_id)).grant

    def grants(self) -> Iterator[access_pb2.Grant]:
        """Every grant the caller may see, newest first."""
        token = ""
        while True:
            page = self.call(self.access.ListGrants, access_pb2.ListGrantsRequest(page_token=token))
            yield from page.grants
            token = page.next_page_token
            if not token:
                return

    def revoke(self, grant_id: str, reason: str) -> access_pb2.RevokeGrantResponse:
        """End a grant now. Repeating it is harmless."""
        return self.call(self.access.RevokeGrant, access_pb2.RevokeGrantRequest(grant_id=grant_id, reason=reason))

    # --- commands

    def classify(self, line: bytes) -> options_pb2.Classification:
        """What the classifier says about a command line; runs nothing."""
        return self.call(self.actions.Classify, action_pb2.ClassifyRequest(line=line)).classification

    def preview(self, grant_id: str, command: action_pb2.Command) -> action_pb2.PreviewResponse:
        """What would happen to a command under a grant; runs nothing."""
        return self.call(self.actions.Preview, action_pb2.PreviewRequest(grant_id=grant_id, command=command))

    def execute(
        self,
        grant_id: str,
        line: bytes | str,
        *,
        stdin: bytes | None = None,
        stdin_stream: Iterable[bytes] | None = None,
        cwd: str = "",
        env: dict[str, str] | None = None,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> Iterator[Event]:
        """Run a command; its events as they come, `Finished` last. Leaving the iterator ends a command that runs.

        Args:
            grant_id: the grant.
            line: a command line for bash, at most 16 KiB.
            stdin: the whole of stdin, at most 64 KiB: part of what is approved.
            stdin_stream: stdin as it comes; above read only where the grant has `stream_stdin`.
            cwd: absolute path; empty = the login's home.
            env: TERM, LANG, LC_* only.
            reason: untrusted text for the approver.
            idempotency_key: the same key and content names the same action again.
        """
        start = action_pb2.ExecuteStart(
            idempotency_key=idempotency_key or asking.new_key(),
            grant_id=grant_id,
            command=execution.command(line, cwd=cwd, env=env, stdin=stdin, streams=stdin_stream is not None),
            reason=reason,
        )
        return self._converse(action_pb2.ExecuteRequest(start=start), stdin or b"", stdin_stream)

    def resume(self, action_id: str, *, stdin: bytes = b"") -> Iterator[Event]:
        """Go on with an action that waits or is allowed; declared stdin is given again."""
        return self._converse(execution.resume_request(action_id, stdin), stdin, None)

    def run(
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
        for event in self.execute(grant_id, line, stdin=stdin, cwd=cwd, env=env, reason=reason):
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

    def wait_action(
        self,
        action_id: str,
        *,
        unless: ActionState.ValueType = action_pb2.ACTION_STATE_UNSPECIFIED,
        timeout: timedelta | None = None,
    ) -> action_pb2.Action:
        """The action once it left the state `unless` (not given: is finished), or as it stands after `timeout`."""
        deadline = None if timeout is None else time.monotonic() + timeout.total_seconds()
        while True:
            left = WAIT_SECONDS if deadline is None else min(WAIT_SECONDS, max(0.0, deadline - time.monotonic()))
            message = action_pb2.WaitActionRequest(
                action_id=action_id, unless=unless, timeout=asking.duration(timedelta(seconds=left))
            )
            try:
                action = self.call(self.actions.WaitAction, message, timeout=left + CALL_SECONDS).action
            except Unreachable:
                if deadline is not None and time.monotonic() >= deadline:
                    raise
                time.sleep(_RECONNECT_SECONDS)
                continue
            if execution.left_state(action, unless) or (deadline is not None and time.monotonic() >= deadline):
                return action

    def cancel_action(self, action_id: str) -> action_pb2.Action:
        """Take back an action that waits, or end one that runs."""
        return self.call(self.actions.CancelAction, action_pb2.CancelActionRequest(action_id=action_id)).action

    # --- inside

    def _converse(
        self, first: action_pb2.ExecuteRequest, stdin: bytes, stdin_stream: Iterable[bytes] | None
    ) -> Iterator[Event]:
        conversation = Conversation(stdin=stdin)
        while True:
            try:
                for response in _drain(self.actions.Execute(_messages(first, stdin_stream))):
                    if (event := conversation.observe(response)) is not None:
                        yield event
            except GrantdError as failed:
                conversation.broke(failed)
            step = conversation.after()
            match step:
                case Done():
                    return
                case Retry(delay):
                    time.sleep(delay.total_seconds())
                case Resume(request):
                    first = request
                case Poll(action):
                    yield conversation.learn(self.wait_action(action.id, unless=action.state))
                    if conversation.finished:
                        return
                    first = execution.resume_request(action.id, stdin)
                case _:
                    assert_never(step)

    def _current(self) -> _Stubs:
        """The stubs on a channel whose certificate is in order. Renews and reconnects when it is time."""
        now = self._now()
        with self._lock:
            if self._stubs is not None and self._look_again is not None and now < self._look_again:
                return self._stubs
            validity = keys.validity_of(self.profile.certificate)
            renewal.require_valid(validity, now)
            if now >= renewal.due_at(validity):
                validity = self._renewed(validity, now)
            return self._reconnected(validity, now)

    def _renewed(self, validity: keys.Validity, now: datetime) -> keys.Validity:
        try:
            renewal.renew(self.profile, now)
        except GrantdError:
            return validity  # what we have still works; tried again in a minute
        return keys.validity_of(self.profile.certificate)

    def _reconnected(self, validity: keys.Validity, now: datetime) -> _Stubs:
        self._look_again = renewal.next_look(validity, now)
        if self._stubs is not None and self._stubs.validity == validity:
            return self._stubs
        stubs = _Stubs(open_channel(self.profile), validity)
        # streams of the channel before go on; a whole certificate's life later nothing is left of them
        if self._previous is not None:
            self._previous.channel.close()
        self._previous, self._stubs = self._stubs, stubs
        return stubs


def _messages(
    first: action_pb2.ExecuteRequest, stdin_stream: Iterable[bytes] | None
) -> Iterator[action_pb2.ExecuteRequest]:
    yield first
    if stdin_stream is None or first.HasField("resume"):
        return
    for chunk in stdin_stream:
        for at in range(0, len(chunk), execution.MAX_STDIN_BYTES):
            yield action_pb2.ExecuteRequest(stdin=chunk[at : at + execution.MAX_STDIN_BYTES])
    yield action_pb2.ExecuteRequest(stdin_eof=True)


def _drain(call: _Answers[A]) -> Iterator[A]:
    try:
        yield from call
    except grpc.RpcError as failed:
        raise from_rpc(failed) from failed
    finally:
        call.cancel()
