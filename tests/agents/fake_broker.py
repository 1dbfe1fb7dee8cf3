"""A fake of the wire: the generated servicers behind real mTLS, with scripts instead of a broker.

It proves what the client sends and what it does with answers; it decides nothing by rules of its own. Records and
digests come from the daemon's implementation, so each digest the client accepts was computed twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias, cast

import grpc

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
    session_pb2,
    session_pb2_grpc,
)
from tests.agents.fake_admin import Admin
from tests.agents.fake_services import Access, Action, Approval, Audit, Identity, Session
from tests.agents.pki import Authority
from tests.agents.refusal import Context

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
        identity_pb2_grpc.add_IdentityServiceServicer_to_server(cast("Any", Identity)(self), server)
        access_pb2_grpc.add_AccessServiceServicer_to_server(cast("Any", Access)(self), server)
        action_pb2_grpc.add_ActionServiceServicer_to_server(cast("Any", Action)(self), server)
        approval_pb2_grpc.add_ApprovalServiceServicer_to_server(cast("Any", Approval)(self), server)
        admin_pb2_grpc.add_AdminServiceServicer_to_server(cast("Any", Admin)(self), server)
        session_pb2_grpc.add_SessionServiceServicer_to_server(cast("Any", Session)(self), server)
        audit_pb2_grpc.add_AuditServiceServicer_to_server(cast("Any", Audit)(self), server)
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
