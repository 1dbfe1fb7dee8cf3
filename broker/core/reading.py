"""The records that people sign, taken apart again, for whoever must know what was signed. Strict: one spelling each."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar

from broker.core.clock import from_micros
from broker.core.records import ACCESS, ACTION, AccessRecord, ActionRecord, Verification, unpae
from broker.core.sshwire import WireError

R = TypeVar("R", ActionRecord, AccessRecord)


def read_action(data: bytes) -> ActionRecord:
    """The inverse of ActionRecord.encoded and of nothing else. Raises WireError."""
    try:
        return _same(_action(unpae(data)), data)
    except (ValueError, OverflowError) as error:
        raise WireError("not the record of an action") from error


def read_access(data: bytes) -> AccessRecord:
    """The inverse of AccessRecord.encoded and of nothing else. Raises WireError."""
    try:
        return _same(_access(unpae(data)), data)
    except (ValueError, OverflowError) as error:
        raise WireError("not the record of an access request") from error


def _same(made: R, data: bytes) -> R:
    # encoding again refuses at one stroke every second spelling of numbers, flags and empty lists
    if made.encoded() != data:
        raise WireError("not the one spelling of a record")
    return made


def _action(parts: tuple[bytes, ...]) -> ActionRecord:
    (head, tenant, request, action, requester, agent, agent_key, target, host_key, login, command, cwd, env, stdin,
     stdin_sha, pty, level, opaque, egress, tier, verifies, rollback, not_after, version, nonce) = parts  # fmt: skip
    if head != ACTION:
        raise WireError("not the record of an action")
    return ActionRecord(
        tenant=tenant.decode(), request_id=request.decode(), action_id=action.decode(), requester=requester.decode(),
        agent_id=agent.decode(), agent_key=agent_key, target_id=target.decode(), host_key=host_key,
        login=login.decode(), command=command, cwd=cwd.decode(), env=_env(env), stdin_mode=stdin.decode(),
        stdin_sha256=stdin_sha, pty=pty == b"1", command_class=level.decode(), opaque=opaque == b"1",
        egress=egress == b"1", tier=tier.decode(), verification=_verification(verifies),
        rollback=unpae(rollback) if rollback else (), not_after=from_micros(int(not_after)),
        policy_version=version.decode(), nonce=nonce,
    )  # fmt: skip


def _access(parts: tuple[bytes, ...]) -> AccessRecord:
    (head, tenant, request, requester, agent, agent_key, target, host_key, login, ceiling, flags, ttl, version,
     nonce) = parts  # fmt: skip
    if head != ACCESS:
        raise WireError("not the record of an access request")
    return AccessRecord(
        tenant=tenant.decode(), request_id=request.decode(), requester=requester.decode(), agent_id=agent.decode(),
        agent_key=agent_key, target_id=target.decode(), host_key=host_key, login=login.decode(),
        ceiling=ceiling.decode(), flags=frozenset(flag.decode() for flag in unpae(flags)) if flags else frozenset(),
        ttl=timedelta(seconds=int(ttl)), policy_version=version.decode(), nonce=nonce,
    )  # fmt: skip


def _env(packed: bytes) -> dict[str, str]:
    parts = unpae(packed) if packed else ()
    return {name.decode(): value.decode() for name, value in zip(parts[::2], parts[1::2], strict=True)}


def _verification(packed: bytes) -> Verification | None:
    if not packed:
        return None
    command, expectation, attempts, deadline = unpae(packed)
    return Verification(
        command=command, expectation=expectation, attempts=int(attempts), deadline=timedelta(seconds=int(deadline))
    )
