"""Values to store: valid, complete, with text that is easy to spoil. Tenant and id are what a test chooses."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from broker.core.action import Action, ActionState, Outcome, StdinMode
from broker.core.approval import Approval, Subject, Verdict
from broker.core.credential import CredentialState
from broker.core.glass import BreakGlass, GlassId
from broker.core.grant import EndReason, Grant, GrantState
from broker.core.identity import Identity, IdentityKind, IdentityStatus, Login, Target, Team
from broker.core.ids import (
    ActionId,
    ApprovalId,
    CredentialId,
    GrantId,
    IdentityId,
    RecordingId,
    RequestId,
    SessionId,
    TargetId,
    TeamId,
    TenantId,
    render,
)
from broker.core.kinds import SshSettings
from broker.core.records import Verification
from broker.core.request import AccessRequest, RequestState
from broker.core.roles import Role
from broker.service.ports import Credential, Session, SessionState, Tx
from policy.classes import CommandClass, Tier
from tests.broker.adapters.store.fixtures import NOW, TENANT

HOSTILE: Final = "a\u202eb\x1b[31m'; DROP TABLE identity;--\u2028é\U0001f512\n\t\\\""
"""Text that must come back as it was."""
RAW: Final = bytes(range(256))


def made(kind: str, number: int | str) -> str:
    """The id of the `number`th object of a kind; the same in every tenant, so that only the tenant tells them apart."""
    return render(kind, hashlib.sha256(f"{kind}{number}".encode()).digest()[:16])


def team(number: int = 1, *, tenant: TenantId = TENANT) -> Team:
    """No rules, only a name."""
    return Team(tenant=tenant, id=TeamId(made("team", number)), name=f"team-{number}")


def person(number: int = 1, *, tenant: TenantId = TENANT) -> Identity:
    """An approver in two teams, with two keys."""
    return Identity(
        tenant=tenant,
        id=IdentityId(made("person", number)),
        kind=IdentityKind.PERSON,
        name=f"approver-{number}",
        role=Role.MANAGER,
        owner=None,
        teams=frozenset({team(1).id, team(2).id}),
        status=IdentityStatus.ACTIVE,
        key=hashlib.sha256(f"person{number}".encode()).digest(),
        approval_keys=("ssh-ed25519 AAAA1", "ssh-ed25519 AAAA2"),
        created_at=NOW,
    )


def agent(number: int = 1, *, tenant: TenantId = TENANT) -> Identity:
    """Owned by the first person."""
    return Identity(
        tenant=tenant,
        id=IdentityId(made("agent", number)),
        kind=IdentityKind.AGENT,
        name=f"deployer-{number}",
        role=Role.AGENT,
        owner=person().id,
        teams=frozenset(),
        status=IdentityStatus.ACTIVE,
        key=hashlib.sha256(f"agent{number}".encode()).digest(),
        approval_keys=(),
        created_at=NOW + timedelta(microseconds=number),
    )


def target(number: int = 1, *, tenant: TenantId = TENANT) -> Target:
    """Two logins, one team, hostile labels."""
    return Target(
        tenant=tenant,
        id=TargetId(made("target", number)),
        name=f"web{number}",
        host="192.0.2.1",
        port=22,
        host_key="ssh-ed25519 AAAA",
        tier=Tier.TRUSTED,
        teams=frozenset({team(1).id}),
        labels=MappingProxyType({"env": "prod", "note": HOSTILE}),
        logins=(Login(name="deploy", read_login="reader"), Login(name="root", read_login="")),
        seal_reads=True,
        source_address="192.0.2.0/24",
        settings=SshSettings(krl_login=""),
        created_at=NOW,
    )


def request(number: int = 1, *, tenant: TenantId = TENANT) -> AccessRequest:
    """Pending, with every text hostile."""
    return AccessRequest(
        tenant=tenant,
        id=RequestId(made("request", number)),
        requester=person().id,
        identity=agent().id,
        identity_key=agent().key,
        target_id=target().id,
        host_key=hashlib.sha256(b"host").digest(),
        login="deploy",
        ceiling=CommandClass.INSTALL,
        flags=frozenset({"stream_stdin"}),
        ttl=timedelta(minutes=30),
        reason=HOSTILE,
        ticket="OPS-1",
        evidence=HOSTILE,
        policy_version="ab" * 32,
        nonce=RAW[:16],
        quorum=2,
        approver_roles=frozenset({"manager", "admin"}),
        state=RequestState.PENDING,
        created_at=NOW + timedelta(seconds=number),
        expires_at=NOW + timedelta(minutes=10),
        grant_id=None,
        note=HOSTILE,
    )


def grant(number: int = 1, *, tenant: TenantId = TENANT) -> Grant:
    """Approved and not used yet."""
    return Grant(
        tenant=tenant,
        id=GrantId(made("grant", number)),
        request_id=request().id,
        requester=person().id,
        identity=agent().id,
        identity_key=agent().key,
        target_id=target().id,
        host_key=hashlib.sha256(b"host").digest(),
        login="deploy",
        ceiling=CommandClass.WRITE,
        flags=frozenset(),
        ttl=timedelta(minutes=30),
        tier=Tier.TRUSTED,
        state=GrantState.APPROVED,
        approved_at=NOW + timedelta(seconds=number),
        must_start_by=NOW + timedelta(minutes=15),
        not_after=None,
        ended_at=None,
        end_reason=None,
        ended_by="",
    )


def ended(value: Grant) -> Grant:
    """The grant with every optional field set."""
    return replace(
        value,
        state=GrantState.REVOKED,
        not_after=NOW + timedelta(minutes=45),
        ended_at=NOW + timedelta(minutes=20),
        end_reason=EndReason.REVOKED,
        ended_by=person().id,
    )


def action(number: int = 1, *, tenant: TenantId = TENANT) -> Action:
    """Awaiting a decision, every byte value in its command."""
    return Action(
        tenant=tenant,
        id=ActionId(made("action", number)),
        grant_id=grant().id,
        request_id=request().id,
        requester=person().id,
        identity=agent().id,
        identity_key=agent().key,
        target_id=target().id,
        host_key=hashlib.sha256(b"host").digest(),
        login="deploy",
        command=b"echo " + RAW,
        cwd="/srv",
        env=MappingProxyType({"LANG": "C", "TERM": "xterm"}),
        stdin_mode=StdinMode.DECLARED,
        stdin_sha256=hashlib.sha256(b"in").digest(),
        pty=False,
        command_class=CommandClass.EXECUTE,
        opaque=True,
        egress=False,
        outlives=True,
        tier=Tier.CLOSED_LOOP,
        verification=Verification(command=RAW, expectation=b"ok", attempts=3, deadline=timedelta(seconds=20)),
        rollback=(b"undo 1", RAW),
        not_after=NOW + timedelta(minutes=45),
        policy_version="ab" * 32,
        nonce=RAW[:16],
        reason=HOSTILE,
        quorum=1,
        approver_roles=frozenset({"manager"}),
        state=ActionState.AWAITING,
        proposed_at=NOW + timedelta(seconds=number),
        expires_at=NOW + timedelta(minutes=10),
        session_id=None,
        outcome=None,
        note="",
    )


def ran(value: Action) -> Action:
    """The action with every optional field set otherwise than in `action`."""
    return replace(
        value,
        state=ActionState.FAILED,
        verification=None,
        rollback=(),
        session_id=session().id,
        outcome=Outcome(exit_status=None, signal="KILL", reason=""),
    )


def approval(number: int = 1, *, tenant: TenantId = TENANT, subject_id: str = "") -> Approval:
    """A yes of the `number`th person."""
    return Approval(
        tenant=tenant,
        id=ApprovalId(made("approval", f"{number}{subject_id}")),
        subject=Subject.ACTION,
        subject_id=subject_id or action().id,
        digest=hashlib.sha256(b"digest").digest(),
        person=person(number).id,
        role="manager",
        verdict=Verdict.APPROVE,
        signature=RAW,
        key_fingerprint="SHA256:x",
        at=NOW + timedelta(seconds=number),
        note=HOSTILE,
    )


def session(number: int = 1, *, tenant: TenantId = TENANT) -> Session:
    """Open, under the first action."""
    return Session(
        tenant=tenant,
        id=SessionId(made("session", number)),
        grant_id=grant().id,
        action_id=action().id,
        identity=agent().id,
        target_id=target().id,
        login="deploy",
        kind="exec",
        door="grpc",
        recording=RecordingId(made("recording", number)),
        state=SessionState.OPEN,
        opened_at=NOW + timedelta(seconds=number),
        closed_at=None,
        end_reason="",
        recording_leaves=0,
        recording_root=b"",
        recording_state="open",
    )


def credential(number: int = 1, *, tenant: TenantId = TENANT) -> Credential:
    """A certificate under the first grant."""
    return Credential(
        tenant=tenant,
        id=CredentialId(made("credential", number)),
        grant_id=grant().id,
        kind="ssh",
        serial=str(2**64 - number),
        key=hashlib.sha256(b"key").digest(),
        state=CredentialState.SIGNED,
        issued_at=NOW,
        not_after=NOW + timedelta(minutes=5),
        ended_at=None,
    )


def glass(*, tenant: TenantId = TENANT) -> BreakGlass:
    """A sealed credential of the first person, never used."""
    return BreakGlass(
        tenant=tenant, id=GlassId(render("glass", bytes(16))), person=person(1).id,
        target_id=target(1).id, login="deploy",
        ceiling=CommandClass.WRITE, key="ssh-ed25519 AAAA", until=NOW, made_by=person(2).id, made_at=NOW,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """Two teams, three people, two agents, two targets, a request and a grant: what most rows refer to."""

    tenant: TenantId

    def __call__(self, tx: Tx) -> None:
        for number in (1, 2):
            tx.teams.put(team(number, tenant=self.tenant))
        for number in (1, 2, 3):
            tx.identities.put(person(number, tenant=self.tenant))
        for number in (1, 2):
            tx.identities.put(agent(number, tenant=self.tenant))
            tx.targets.put(target(number, tenant=self.tenant))
        tx.requests.put(request(tenant=self.tenant))
        tx.grants.put(grant(tenant=self.tenant))
