"""What the audit log is told, built from values: one function an aggregate.

Opaque ids and enumerations are facts; what names a person, a host or a command is a personal value (I-35, I-36).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from broker.core.action import Action
from broker.core.clock import micros
from broker.core.credential import CredentialState
from broker.core.events import AuditEvent, Personal
from broker.core.grant import Grant
from broker.core.ids import TenantId
from broker.core.request import AccessRequest
from broker.service.ports import Credential, Sealed, Session
from recorder.typed import InputPolicy

_PROPOSAL, _OPENING = "action.proposed", "session.opened"
_MAX_TEXT = 4_096
"""Characters of a command or reason kept in one disclosure; the digest in `facts` binds all of it."""


def of_request(name: str, request: AccessRequest, *, actor: str) -> AuditEvent:
    """An event about an access request."""
    return AuditEvent(
        tenant=request.tenant,
        name=name,
        actor=actor,
        facts={
            "request": request.id,
            "identity": request.identity,
            "target": request.target_id,
            "ceiling": request.ceiling.word,
            "ttl_s": int(request.ttl.total_seconds()),
            "digest": request.digest().hex(),
            "policy": request.policy_version,
            **({"grant": request.grant_id} if request.grant_id else {}),
        },
        personal=_texts(request.identity, login=request.login, reason=request.reason, ticket=request.ticket,
                        evidence=request.evidence, note=request.note),
    )  # fmt: skip


def of_grant(name: str, grant: Grant, *, actor: str, reason: str = "") -> AuditEvent:
    """An event about a grant; `reason`: in the words of whoever ended it."""
    return AuditEvent(
        tenant=grant.tenant,
        name=name,
        actor=actor,
        facts={
            "grant": grant.id,
            "request": grant.request_id,
            "identity": grant.identity,
            "target": grant.target_id,
            "state": grant.state,
            **({"reason_code": grant.end_reason} if grant.end_reason else {}),
        },
        personal=_texts(actor or grant.identity, reason=reason),
    )


def of_action(name: str, action: Action, *, actor: str, policies: Sequence[str] = ()) -> AuditEvent:
    """An event about an action: what was proposed, or what became of it (I-34).

    The text of the command stands in its proposal alone; the digest, which binds it, in every event. `policies`: ids
    of those that decided, which an operator chose and which therefore stand among the values that can be erased.
    """
    facts: dict[str, str | int] = {
        "action": action.id,
        "grant": action.grant_id,
        "identity": action.identity,
        "target": action.target_id,
        "class": action.command_class.word,
        "opaque": int(action.opaque),
        "tier": action.tier,
        "digest": action.digest().hex(),
        "policy": action.policy_version,
    }
    if action.session_id:
        facts["session"] = action.session_id
    if action.outcome and action.outcome.exit_status is not None:
        facts["exit_status"] = action.outcome.exit_status
    return AuditEvent(
        tenant=action.tenant,
        name=name,
        actor=actor,
        facts=facts,
        personal=(
            *_texts(action.identity, **(_proposed(action) if name == _PROPOSAL else {}), note=action.note),
            *_texts(action.tenant, policies=", ".join(policies)),
        ),
    )


def _proposed(action: Action) -> dict[str, str]:
    return {"command": shown(action.command), "reason": action.reason}


def of_recording(session: Session, keeps: InputPolicy) -> AuditEvent:
    """A recording begins. What is kept of input is said where it is more than usual."""
    opened = of_session("recording.opened", session, actor="")
    return opened if keeps is InputPolicy.OFF else replace(opened, facts={**opened.facts, "input": str(keeps)})


def of_session(name: str, session: Session, *, actor: str, watched: bool = False) -> AuditEvent:
    """An event about a session or its recording; `watched`: policy demands that somebody watches it."""
    facts: dict[str, str | int] = {
        "session": session.id,
        "grant": session.grant_id,
        "identity": session.identity,
        "target": session.target_id,
        "rec": session.recording,
        "door": session.door,
        "kind": session.kind,
    }
    if session.action_id:
        facts["action"] = session.action_id
    if session.recording_root:
        facts |= {"leaves": session.recording_leaves, "root": session.recording_root.hex(), "part": 0}
    if watched:
        facts["watched"] = 1
    if session.end_reason:
        facts["reason_code"] = session.end_reason
    opens = name == _OPENING
    return AuditEvent(
        tenant=session.tenant,
        name=name,
        actor=actor,
        facts=facts,
        personal=_texts(session.identity, login=session.login) if opens else (),
    )


def of_credential(credential: Credential, *, actor: str, action: str, name: str = "credential.issued") -> AuditEvent:
    """A certificate or token that is about to be signed, or what happens to what is made elsewhere.

    Its row and this entry are durable first.
    """
    facts: dict[str, str | int] = {
        "credential": credential.id,
        "grant": credential.grant_id,
        "kind": credential.kind,
        "not_after": micros(credential.not_after),
    }
    if credential.state is CredentialState.SIGNED:  # elsewhere its name follows from its id
        facts["serial"] = credential.serial
    if action:
        facts["action"] = action
    return AuditEvent(tenant=credential.tenant, name=name, actor=actor, facts=facts)


def with_facts(event: AuditEvent, facts: Mapping[str, str | int]) -> AuditEvent:
    """The same event, and more of what is opaque; what it said already stays."""
    return replace(event, facts={**facts, **event.facts})


def of_key(name: str, tenant: TenantId, *, actor: str, facts: Mapping[str, str | int]) -> AuditEvent:
    """An event about the keys of a tenant: ids, purposes and numbers; never a key."""
    return AuditEvent(tenant=tenant, name=name, actor=actor, facts=facts)


def of_secret(tenant: TenantId, sealed: Sealed, *, actor: str) -> AuditEvent:
    """A secret's row as it lies in the database from now on: whoever puts an older one back does not match it."""
    facts: dict[str, str | int] = {"secret": named(sealed.name), "version": sealed.version, "blob": sealed.sha256.hex()}
    return AuditEvent(tenant=tenant, name="secret.updated", actor=actor, facts=facts)


def named(secret: str) -> str:
    """The name of a secret's row, as entries that stand for ever tell it."""
    return hashlib.sha256(secret.encode()).hexdigest()


def shown(command: bytes) -> str:
    """A command as text for the log: escaped where it is not UTF-8, cut at a length (the digest binds the rest)."""
    return command.decode("utf-8", "backslashreplace")[:_MAX_TEXT]


def personal(subject: str, **values: str) -> tuple[Personal, ...]:
    """Values under one subject's key; empty ones are left out."""
    return _texts(subject, **values)


def _texts(subject: str, **values: str) -> tuple[Personal, ...]:
    return tuple(
        Personal(subject=subject, name=name, value=value[:_MAX_TEXT]) for name, value in values.items() if value
    )
