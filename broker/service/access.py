"""Asking for access, looking at it, taking it back, ending it. One transaction a use case."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from broker.core import ids, records
from broker.core.errors import StoreFault, exhausted, forbidden, not_found
from broker.core.flags import checked_flags
from broker.core.grant import EndReason, Grant, GrantState
from broker.core.identity import Caller, Identity, Target
from broker.core.ids import GrantId, RequestId
from broker.core.kinds import must_fit
from broker.core.request import (
    MAX_EVIDENCE_BYTES,
    MAX_REASON_BYTES,
    MAX_TICKET_BYTES,
    MUST_START_WITHIN,
    PENDING_FOR,
    AccessRequest,
    RequestEvent,
    RequestState,
    advance,
    checked_text,
    checked_ttl,
)
from broker.core.roles import Permission, Role, holds
from broker.service import lookup, story
from broker.service.early import NOTHING_SAID, Word, word_of
from broker.service.ending import Ending
from broker.service.paging import Page, eyes, seen_page
from broker.service.policies import ask_access, claims, owner_or_self
from broker.service.ports import Tx
from broker.service.wake import PENDING, heard
from broker.service.world import World
from policy.classes import CommandClass
from policy.engine import Decision, Deny, NeedsApproval, Permit

_METHOD = "RequestAccess"
_PAGE = 50
_MAX_PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a caller asks for, as it came in."""

    idempotency_key: str
    target: str
    login: str
    ceiling: CommandClass
    flags: frozenset[str]
    ttl: timedelta
    reason: str
    ticket: str
    evidence: str

    def content(self) -> bytes:
        """What makes two wishes the same, for idempotency."""
        words = [
            self.target,
            self.login,
            self.ceiling.word,
            *sorted(self.flags),
            str(self.ttl),
            self.reason,
            self.ticket,
        ]
        return records.pae([w.encode() for w in [*words, self.evidence]])


class AccessService:
    """Access requests and grants."""

    def __init__(self, world: World, ending: Ending) -> None:
        self._world = world
        self._ending = ending

    async def request(self, caller: Caller, wish: Wish) -> AccessRequest:
        """Makes a request: APPROVED with a grant where policy lets it, PENDING where a person must decide.

        Raises:
            Refusal: unusable wish, unknown target, one that the signer does not know (`target_not_signed`), denied by
            policy (`policy_denied`, audited), too much waiting.
        """
        checked_ttl(wish.ttl)
        checked_flags(wish.flags)
        for name, text, limit in (
            ("reason", wish.reason, MAX_REASON_BYTES),
            ("ticket", wish.ticket, MAX_TICKET_BYTES),
            ("evidence", wish.evidence, MAX_EVIDENCE_BYTES),
        ):
            checked_text(name, text, limit)
        instant = self._world.ready(caller.tenant)
        made = _Drafting(self._world, caller, wish, instant.wall, await self._word_of(caller, wish))
        request = await self._world.store.run(caller.tenant, made.unit)
        self._world.bell.ring(caller.tenant, PENDING, request.id)
        self._world.meter.count("requests", decision=_decision_word(request))
        if request.state is RequestState.DENIED and made.strangers:
            raise not_found("target")  # what an agent has nothing to do with does not exist for it (I-46)
        if request.state is RequestState.DENIED:
            raise forbidden(
                "policy_denied", f"policy does not allow this: {request.note}", "ask for less, or another target"
            )
        return request

    async def _word_of(self, caller: Caller, wish: Wish) -> Word:
        """What the signer holds about the target that is meant, where there is one."""
        target = await self._world.store.read(caller.tenant, lambda tx: tx.targets.by_name(wish.target))
        return await word_of(self._world, caller.tenant, target.id) if target else NOTHING_SAID

    async def get(self, caller: Caller, request_id: RequestId) -> AccessRequest:
        """One's own request, or one that the caller's role lets it see."""
        return await self._world.store.read(caller.tenant, lambda tx: _seen_request(tx, caller, request_id))

    async def watch(self, caller: Caller, request_id: RequestId) -> AsyncIterator[AccessRequest]:
        """The request now and after every change, until it is decided."""
        last: AccessRequest | None = None
        with self._world.bell.listen(caller.tenant, request_id) as rung:
            while last is None or last.state is RequestState.PENDING:
                await heard(rung, 20)
                request = await self.get(caller, request_id)
                if request != last:
                    yield request
                last = request

    async def cancel(self, caller: Caller, request_id: RequestId) -> AccessRequest:
        """Takes back one's own pending request."""
        self._world.instant()

        def unit(tx: Tx) -> AccessRequest:
            request = tx.requests.get(request_id)
            if request is None or request.identity != caller.identity:
                raise not_found("request")
            if request.state is RequestState.CANCELLED:
                return request
            cancelled = advance(request, RequestEvent.CANCEL, note="taken back by its requester")
            tx.requests.put(cancelled)
            tx.audit.append(
                story.of_request("access.cancelled", cancelled, actor=caller.identity), self._world.clock.now()
            )
            return cancelled

        request = await self._world.store.run(caller.tenant, unit)
        self._world.bell.ring(caller.tenant, PENDING, request_id)
        return request

    async def get_grant(self, caller: Caller, grant_id: GrantId) -> Grant:
        """One's own grant, or one that the caller's role lets it see."""
        return await self._world.store.read(caller.tenant, lambda tx: seen_grant(tx, caller, grant_id))

    async def list_grants(self, caller: Caller, *, after: GrantId | None, limit: int) -> Page[Grant]:
        """A page of grants, newest first, as far as the caller may see them."""
        size = min(limit or _PAGE, _MAX_PAGE)

        def unit(tx: Tx) -> Page[Grant]:
            return page_seen(tx, caller, after, size)

        return await self._world.store.read(caller.tenant, unit)

    async def revoke(self, caller: Caller, grant_id: GrantId, reason: str) -> tuple[Grant, int]:
        """Ends a grant now and cuts its sessions within a second (I-02). Repeating it is harmless.

        Returns:
            The grant, and how many sessions were cut.

        Raises:
            StoreFault: it is cut and nothing starts under it any more, but that is not written down yet: the sweep
                tries again, and so may the caller.
        """
        checked_text("reason", reason, MAX_REASON_BYTES)
        grant = await self._world.store.read(caller.tenant, lambda tx: _endable(tx, caller, grant_id))
        cut = await self._ending.end(grant.tenant, grant.id, EndReason.REVOKED, by=caller.identity, words=reason)
        if self._ending.is_ended(grant.id):
            raise StoreFault("the end of a grant could not be written")
        return await self._world.store.read(caller.tenant, lambda tx: tx.grants.get(grant_id)) or grant, cut


class _Drafting:
    """One access request on its way into the store."""

    def __init__(self, world: World, caller: Caller, wish: Wish, now: datetime, signer: Word) -> None:
        self._world, self._caller, self._wish, self._now, self._signer = world, caller, wish, now, signer
        self.strangers = False
        """Whether identity and target have no team in common."""

    def unit(self, tx: Tx) -> AccessRequest:
        """Decides and writes; runs in one transaction."""
        lookup.not_frozen(tx)
        caller, wish = self._caller, self._wish
        identity = lookup.active(tx, caller.identity)
        earlier = lookup.once(
            tx, caller, method=_METHOD, key=wish.idempotency_key, content=wish.content(),
            find=lambda made: tx.requests.get(RequestId(made)),
        )  # fmt: skip
        if isinstance(earlier, AccessRequest):
            return earlier
        target = tx.targets.by_name(wish.target)
        if target is None or wish.login not in {login.name for login in target.logins}:
            raise not_found("target")
        self.strangers = identity.role is Role.AGENT and not (identity.teams & target.teams)
        if not self.strangers:
            must_fit(target.settings, login=wish.login, ceiling=wish.ceiling, flags=wish.flags)
            self._signer.must_have_target(target, wish.login)
        policies = self._world.policies.in_force(tx)
        decision = ask_access(
            policies, tx, identity, target, login=wish.login, ceiling=wish.ceiling, flags=wish.flags,
            ttl=wish.ttl, claimed=claims(ticket=wish.ticket, reason=wish.reason, evidence=wish.evidence), now=self._now,
        )  # fmt: skip
        request = self._draft(identity, target, decision, policies.version)
        if isinstance(decision, NeedsApproval):
            self._within_limits(tx)
        return self._write(tx, request, decision)

    def _draft(self, identity: Identity, target: Target, decision: Decision, version: str) -> AccessRequest:
        wish = self._wish
        needs = decision if isinstance(decision, NeedsApproval) else None
        return AccessRequest(
            tenant=self._caller.tenant,
            id=RequestId(ids.render("request", self._world.entropy.token(16))),
            requester=owner_or_self(identity),
            identity=identity.id,
            identity_key=self._caller.key,
            target_id=target.id,
            host_key=lookup.host_key_sha256(target),
            login=wish.login,
            ceiling=wish.ceiling,
            flags=wish.flags,
            ttl=wish.ttl,
            reason=wish.reason,
            ticket=wish.ticket,
            evidence=wish.evidence,
            policy_version=version,
            nonce=records.timed_nonce(self._now, self._world.entropy.token(12)),
            quorum=needs.quorum if needs else 0,
            approver_roles=needs.roles if needs else frozenset(),
            state=RequestState.PENDING,
            created_at=self._now,
            expires_at=self._now + PENDING_FOR,
            grant_id=None,
            note="",
        )

    def _within_limits(self, tx: Tx) -> None:
        limits = self._world.limits
        if tx.requests.count_pending(self._caller.identity) >= limits.pending_per_identity:
            raise exhausted(
                "too_many_pending", "too many of your requests wait already", "wait for a decision, or take one back"
            )
        if tx.requests.count_pending(None) >= limits.pending_per_tenant:
            raise exhausted("too_many_pending", "too many requests wait already", "try again later")

    def _write(self, tx: Tx, request: AccessRequest, decision: Decision) -> AccessRequest:
        actor = self._caller.identity
        tx.audit.append(story.of_request("access.requested", request, actor=actor), self._now)
        match decision:
            case Permit():
                request = approve(self._world, tx, request, now=self._now, actor="")
            case Deny(reasons=reasons):
                request = advance(request, RequestEvent.DENY, note=", ".join(reasons))
                tx.requests.put(request)
                tx.audit.append(story.of_request("access.denied", request, actor=""), self._now)
            case NeedsApproval():
                tx.requests.put(request)
                self._world.ends.expect(request.tenant, request.expires_at)
            case _:
                assert_never(decision)
        sha = hashlib.sha256(self._wish.content()).digest()
        tx.idempotency.put(
            actor, _METHOD, self._wish.idempotency_key, request_sha256=sha, made=request.id, now=self._now
        )
        return request


def approve(world: World, tx: Tx, request: AccessRequest, *, now: datetime, actor: str) -> AccessRequest:
    """PENDING -> APPROVED: makes the grant, whose TTL runs from its first use."""
    target = tx.targets.get(request.target_id)
    if target is None:
        raise not_found("target")
    grant = Grant(
        tenant=request.tenant,
        id=GrantId(ids.render("grant", world.entropy.token(16))),
        request_id=request.id,
        requester=request.requester,
        identity=request.identity,
        identity_key=request.identity_key,
        target_id=request.target_id,
        host_key=request.host_key,
        login=request.login,
        ceiling=request.ceiling,
        flags=request.flags,
        ttl=request.ttl,
        tier=target.tier,
        state=GrantState.APPROVED,
        approved_at=now,
        must_start_by=now + MUST_START_WITHIN,
        not_after=None,
        ended_at=None,
        end_reason=None,
        ended_by="",
    )
    approved = replace(advance(request, RequestEvent.APPROVE, note=""), grant_id=grant.id)
    tx.requests.put(approved)
    tx.grants.put(grant)
    world.ends.expect(grant.tenant, grant.must_start_by, grant.id)
    tx.audit.append(story.of_request("access.approved", approved, actor=actor), now)
    return approved


def seen_grant(tx: Tx, caller: Caller, grant_id: GrantId) -> Grant:
    """A grant that is the caller's own, or that its role lets it see."""
    grant = tx.grants.get(grant_id)
    if grant is None or not _sees(tx, caller, grant):
        raise not_found("grant")
    return grant


def page_seen(tx: Tx, caller: Caller, after: GrantId | None, size: int) -> Page[Grant]:
    """At most `size` grants after `after` that the caller may see, newest first."""
    own = caller.identity if caller.role is Role.AGENT else None
    sees = eyes(tx, caller)
    return seen_page(
        lambda last, limit: tx.grants.page(identity=own, after=GrantId(last) if last else None, limit=limit),
        lambda grant: grant.identity == caller.identity or sees(grant.target_id),
        lambda grant: grant.id,
        after=after,
        size=size,
    )


def _sees(tx: Tx, caller: Caller, grant: Grant) -> bool:
    return grant.identity == caller.identity or lookup.sees_target(caller, tx.targets.get(grant.target_id))


def _seen_request(tx: Tx, caller: Caller, request_id: RequestId) -> AccessRequest:
    request = tx.requests.get(request_id)
    if request is None:
        raise not_found("request")
    if request.identity != caller.identity and not lookup.sees_target(caller, tx.targets.get(request.target_id)):
        raise not_found("request")
    return request


def _endable(tx: Tx, caller: Caller, grant_id: GrantId) -> Grant:
    """A grant that the caller may end: its own, its own agent's, or one whose sessions it may cut (I-02)."""
    grant = tx.grants.get(grant_id)
    if grant is None:
        raise not_found("grant")
    identity = tx.identities.get(grant.identity)
    if grant.identity == caller.identity or (identity is not None and identity.owner == caller.identity):
        return grant
    seen_grant(tx, caller, grant_id)
    if not holds(caller.role, Permission.SESSION_TERMINATE):
        raise forbidden(
            "not_permitted", "your role does not end the grants of others", "ask a manager of the target's team"
        )
    return grant


def _decision_word(request: AccessRequest) -> str:
    return {RequestState.APPROVED: "permit", RequestState.DENIED: "deny"}.get(request.state, "ask")
