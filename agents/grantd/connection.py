"""The connection of `Client`: its channel, its stubs, and the certificate that is renewed in time.

Knows how to call, not what to ask: the verbs are in grantd.client.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar

import grpc

from grantd import keys, renewal
from grantd.channel import open_channel
from grantd.errors import GrantdError, from_rpc
from grantd.profile import Profile
from grantd.v1.access_pb2_grpc import AccessServiceStub
from grantd.v1.action_pb2_grpc import ActionServiceStub
from grantd.v1.admin_pb2_grpc import AdminServiceStub
from grantd.v1.approval_pb2_grpc import ApprovalServiceStub
from grantd.v1.audit_pb2_grpc import AuditServiceStub
from grantd.v1.identity_pb2_grpc import IdentityServiceStub
from grantd.v1.session_pb2_grpc import SessionServiceStub
from grantd.v1.vault_pb2_grpc import VaultServiceStub

CALL_SECONDS: Final = 30.0

Q = TypeVar("Q")
A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)


class Answers(Protocol[A_co]):
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
        self.vault = VaultServiceStub(channel)


def utc_now() -> datetime:
    """The machine's wall clock."""
    return datetime.now(UTC)


class Connected:
    """One identity at one broker: the services of every kind, and how a call is made. Thread-safe.

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

    @property
    def vault(self) -> VaultServiceStub:
        return self._current().vault

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
        return drained(method(request, timeout=timeout))

    # --- who am I

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


def drained(call: Answers[A]) -> Iterator[A]:
    """A stream's messages; its failure as a GrantdError, and its end whenever the reader leaves."""
    try:
        yield from call
    except grpc.RpcError as failed:
        raise from_rpc(failed) from failed
    finally:
        call.cancel()
