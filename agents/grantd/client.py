"""The broker for a program: `Client` here, `AsyncClient` in grantd.aio; the same verbs in both.

    with Client() as client:
        grant_id = client.obtain("web1", "deploy", ceiling="write", ttl=timedelta(minutes=15), reason="release 14")
        print(client.run(grant_id, "systemctl --user restart app").stdout)

The stubs of every service are at hand too (`client.admin`, ...), for `client.call`. Never holds a credential that a
target accepts, and never decides: an approval is made with `grantctl approve` or signed by a person's own tool.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, assert_never

from grantd import asking, execution, secrets
from grantd.connection import CALL_SECONDS, Connected, drained
from grantd.errors import GrantdError, Unreachable
from grantd.execution import Conversation, Done, Event, Finished, Poll, Resume, Retry, Stderr, Stdout
from grantd.v1 import access_pb2, action_pb2, identity_pb2, options_pb2, session_pb2, vault_pb2
from grantd.v1.action_pb2 import ActionState
from grantd.watching import SessionWatch

if TYPE_CHECKING:
    from grantd.database import Database

WAIT_SECONDS: Final = 50
"""One WaitAction; the broker allows 55 s."""
_WATCH_SECONDS: Final = 600.0
_RECONNECT_SECONDS: Final = 1.0


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


class Client(Connected):
    """One identity at one broker. Thread-safe; renews its certificate by itself.

    Args:
        profile: a loaded profile, its name or path; None takes $GRANTCTL_PROFILE, else `default`.
        now: the wall clock; decides when a certificate is renewed.
    """

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

    def get_request(self, request_id: str) -> access_pb2.AccessRequest:
        """The request as it stands."""
        return self.call(self.access.GetRequest, access_pb2.GetRequestRequest(request_id=request_id)).request

    def cancel_request(self, request_id: str) -> access_pb2.AccessRequest:
        """Take back one's own request that waits. Repeating it is harmless."""
        return self.call(self.access.CancelRequest, access_pb2.CancelRequestRequest(request_id=request_id)).request

    def wait_request(self, request_id: str, timeout: timedelta | None = None) -> access_pb2.AccessRequest:
        """The request once it is decided, or as it stands when `timeout` is over. Survives a broker's restart."""
        deadline = None if timeout is None else time.monotonic() + timeout.total_seconds()
        request = access_pb2.WatchRequestRequest(request_id=request_id)
        while True:
            left = _WATCH_SECONDS if deadline is None else min(_WATCH_SECONDS, deadline - time.monotonic())
            if left <= 0:
                return self.get_request(request_id)
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

    def issue_database(self, grant_id: str) -> Database:
        """A role of its own in the grant's database, until the grant ends. Its password is made here and never sent."""
        from grantd import database  # noqa: PLC0415  whoever only runs commands does not wait for it

        password = database.new_password()
        return database.opened(self.call(self.access.IssueCredential, database.wish(grant_id, password)), password)

    def checkout(self, grant_id: str) -> bytearray:
        """The value of the secret that a grant is on, once: `secrets.zero` it after use."""
        opening = secrets.Opening(tenant=self.whoami().tenant, grant_id=grant_id)
        return opening.open(self.call(self.access.IssueCredential, opening.request()))

    def put_secret(self, name: str, value: bytearray, *, replaces: int) -> vault_pb2.PutSecretResponse:
        """Keep a value under a name: the first (`replaces` 0), or the next after the version that it replaces."""
        me = self.whoami()

        def attempt() -> vault_pb2.PutSecretResponse:
            upload = self.call(self.vault.GetUploadKey, vault_pb2.GetUploadKeyRequest())
            message = secrets.sealed(
                value, upload, tenant=me.tenant, person_id=me.identity_id, name=name, replaces=replaces
            )
            return self.call(self.vault.PutSecret, message)

        return secrets.again_if_gone(attempt)

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

    # --- sessions

    def watch_session(self, session_id: str, *, reason: str, only_look: bool = False) -> SessionWatch:
        """Watch an open session: what it shows now, then everything as it is recorded.

        Args:
            session_id: the session.
            reason: why; kept in the audit log.
            only_look: input must not flow because of this watcher, where a session must be watched.
        """
        start = session_pb2.WatchStart(session_id=session_id, reason=reason, only_look=only_look)
        return SessionWatch(self.sessions.WatchSession, start)

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
                for response in drained(self.actions.Execute(_messages(first, stdin_stream))):
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
