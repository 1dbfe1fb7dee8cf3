"""Break-glass (I-62): making a sealed credential, the one use of it, its yes to an action, and the review afterwards.

A path of its own beside policy and approvals: what it opens is a grant like any other, which ends, is recorded, is cut
and is frozen as all are. Each step is an event of the log; its use is told to every Owner at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from broker.core import action as actions
from broker.core import ids, records
from broker.core.action import APPROVAL_FOR, Action, ActionEvent
from broker.core.approval import Approval, Subject, Verdict
from broker.core.errors import Refusal, SignerRefused, conflict, expired, forbidden, invalid, not_found
from broker.core.events import AuditEvent
from broker.core.glass import (
    AHEAD,
    FRESH,
    GLASS_NAMESPACE,
    OPEN_FOR,
    UNUSED,
    BreakGlass,
    GlassId,
    GlassUse,
    NotAUse,
    read_use,
)
from broker.core.grant import LIVE, Grant, first_use
from broker.core.identity import Caller, Identity, IdentityKind, IdentityStatus, Target
from broker.core.ids import PREFIXES, ActionId, ApprovalId, IdentityId, TargetId, is_id
from broker.core.kinds import TargetKind, must_fit
from broker.core.request import MAX_REASON_BYTES, PENDING_FOR, AccessRequest, RequestState, checked_text
from broker.core.roles import Permission, holds
from broker.core.sshsig import verify
from broker.core.statement import Glass
from broker.core.trust import SEALED_FOR
from broker.service import lookup, story
from broker.service.access import approve
from broker.service.ports import Tx
from broker.service.stepup import Change, signed_by
from broker.service.trust import believe, tried
from broker.service.wake import PENDING
from broker.service.world import World

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A sealed credential with the names that people read, and what its use made."""

    glass: BreakGlass
    person: str
    target: str
    request: AccessRequest | None


class GlassService:
    """MakeBreakGlass, ListBreakGlass, UseBreakGlass, SignBreakGlass, ReviewBreakGlass."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def make(self, caller: Caller, wanted: BreakGlass, change: Change) -> Shown:
        """Keeps the public half of a credential that an Owner sealed for somebody, and tells the signer.

        Raises:
            Refusal: `own_break_glass`, `break_glass_unreviewed`, `step_up_needed`, `second_person_needed`, unusable.
        """
        now = self._world.ready(caller.tenant).wall
        made = replace(wanted, tenant=caller.tenant, made_by=caller.identity, made_at=now)

        def unit(tx: Tx) -> Shown:
            lookup.not_frozen(tx)
            _must_be_reviewed(tx)
            _must_be_makeable(tx, made, now)
            others = _other_owners(tx, made.person)
            if others and made.person == caller.identity:
                message = "nobody makes a sealed credential for themselves"
                raise forbidden("own_break_glass", message, "ask another owner")
            signed_by(
                tx, caller, change, permission=Permission.PERSON_WRITE, second=True, now=now,
                besides=made.person if others else None,
            )  # fmt: skip
            tx.glasses.put(made)
            tx.audit.append(_told("glass.made", made, actor=caller.identity), now)
            return _shown(tx, made)

        await tried(self._world, caller.tenant, unit)
        if not change.trust:
            raise invalid("bad_statement", "a sealed credential needs its statement for the signer", "use grantctl")
        content = Glass(
            person=made.person, target=made.target_id, login=made.login, ceiling=made.ceiling, key=made.key,
            until=made.until,
        )  # fmt: skip
        await believe(self._world, change, tenant=caller.tenant, subject=made.id, content=content)
        return await self._world.store.run(caller.tenant, unit)

    async def all(self, caller: Caller) -> Sequence[Shown]:
        """All of the tenant, oldest first."""
        return await self._world.store.read(caller.tenant, lambda tx: [_shown(tx, one) for one in tx.glasses.all()])

    async def use(self, caller: Caller, record: bytes, signature: bytes, reason: str) -> Shown:
        """Opens the caller's own sealed credential: a grant of at most an hour, made and spent in one transaction.

        Raises:
            Refusal: `break_glass_used`, `break_glass_expired`, `break_glass_unreviewed`, bad or old signature, frozen,
                `break_glass_refused` by the signer.
            SignerFault: it could not be spent there, so nothing was opened.
        """
        checked_text("reason", reason, MAX_REASON_BYTES)
        if not reason.strip():
            raise invalid("reason_needed", "breaking the glass needs a reason", "say what happened")
        now = self._world.ready(caller.tenant).wall
        opening = _Opening(world=self._world, caller=caller, record=record, signature=signature, reason=reason, now=now)
        await tried(self._world, caller.tenant, opening.unit)
        # first where no restored database brings it back: what is spent there and fails here is lost, not free again
        await self._spend(record, signature)
        shown = await self._world.store.run(caller.tenant, opening.unit)
        self._world.meter.count("break_glass_used")
        log.error("glass.used", tenant=caller.tenant, glass=shown.glass.id, request=shown.glass.request_id)
        self._world.bell.ring(caller.tenant, PENDING, shown.glass.id)
        return shown

    async def _spend(self, record: bytes, signature: bytes) -> None:
        try:
            await self._world.signer.open_glass(record, signature)
        except SignerRefused as refused:
            if refused.what.endswith(UNUSED):
                raise _used() from refused
            raise conflict("break_glass_refused", refused.what, "look at grantctl trust list") from refused

    async def sign(self, caller: Caller, action_id: ActionId, signature: bytes) -> Action:
        """The sealed key's yes to an action that waits under the grant it opened. The signer verifies it again."""
        now = self._world.ready(caller.tenant).wall

        def unit(tx: Tx) -> Action:
            lookup.not_frozen(tx)
            person = lookup.active(tx, caller.identity)
            action = tx.actions.get(action_id)
            if action is None or action.identity != caller.identity or action.identity_key != caller.key:
                raise not_found("action")
            actions.must_be_open(action, now)
            glass = tx.glasses.of_request(action.request_id)
            if glass is None:
                message = "this action is not under a sealed credential"
                raise forbidden("not_break_glass", message, "ask an approver")
            key = verify(signature, action.record().encoded(), GLASS_NAMESPACE, (glass.key,))
            tx.approvals.add(_yes(self._world, person, action, signature, key, now))
            allowed = actions.advance(action, ActionEvent.PERMIT, expires_at=min(now + APPROVAL_FOR, action.not_after))
            tx.actions.put(allowed)
            tx.audit.append(_told("glass.signed", glass, actor=caller.identity, action=action.id), now)
            tx.audit.append(story.of_action("action.allowed", allowed, actor=caller.identity), now)
            return allowed

        allowed = await self._world.store.run(caller.tenant, unit)
        self._world.bell.ring(caller.tenant, PENDING, action_id)
        return allowed

    async def review(self, caller: Caller, glass_id: GlassId, reason: str, change: Change) -> Shown:
        """Says that an Owner looked at a use: another than who used it where there is one.

        Repeating it is harmless.

        Raises:
            Refusal: `own_break_glass`, `break_glass_unused`, `break_glass_open`, `step_up_needed`.
        """
        checked_text("reason", reason, MAX_REASON_BYTES)
        now = self._world.clock.now()

        def unit(tx: Tx) -> Shown:
            glass = tx.glasses.get(glass_id)
            if glass is None:
                raise not_found("sealed credential")
            if glass.used_at is None:
                raise conflict("break_glass_unused", "this sealed credential was never used", "nothing to review")
            if glass.person == caller.identity and _other_owners(tx, glass.person):
                message = "who used a sealed credential does not review it"
                raise forbidden("own_break_glass", message, "ask another owner")
            signed_by(tx, caller, change, permission=Permission.PERSON_WRITE, second=False, now=now)
            if glass.reviewed_at is not None:
                return _shown(tx, glass)
            _must_be_over(tx, glass, now)
            reviewed = replace(glass, reviewed_by=caller.identity, reviewed_at=now)
            tx.glasses.put(reviewed)
            tx.audit.append(_told("glass.reviewed", reviewed, actor=caller.identity, reason=reason), now)
            return _shown(tx, reviewed)

        shown = await self._world.store.run(caller.tenant, unit)
        self._world.bell.ring(caller.tenant, PENDING, glass_id)
        return shown

    async def alarms(self, caller: Caller) -> Sequence[Shown]:
        """What an Owner is told as long as nobody looked at it; nothing for anybody else."""
        if not holds(caller.role, Permission.PERSON_WRITE):
            return ()
        return await self._world.store.read(
            caller.tenant, lambda tx: [_shown(tx, one) for one in tx.glasses.owing_review()]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opening:
    """The use of a sealed credential on its way into the store."""

    world: World
    caller: Caller
    record: bytes
    signature: bytes
    reason: str
    now: datetime

    def unit(self, tx: Tx) -> Shown:
        """Checks in the order of who, whether, what; writes request, grant and the credential's end together."""
        lookup.not_frozen(tx)
        person, use = lookup.active(tx, self.caller.identity), self._read()
        glass = tx.glasses.get(GlassId(use.glass))
        if glass is None or (glass.person, use.person, use.tenant) != (person.id, person.id, self.caller.tenant):
            raise not_found("sealed credential")
        if glass.used_at is not None:
            raise _used()
        _must_be_reviewed(tx)
        if self.now >= glass.until:
            raise expired("break_glass_expired", "this sealed credential has run out", "an owner makes another")
        verify(self.signature, self.record, GLASS_NAMESPACE, (glass.key,))
        if not -AHEAD <= self.now - use.at() <= FRESH or tx.requests.get(ids.RequestId(use.request_id)) is not None:
            raise expired("break_glass_late", "this use was signed too long ago", "look at the clock, and use it again")
        target = tx.targets.get(glass.target_id)
        if target is None or glass.login not in {login.name for login in target.logins}:
            raise not_found("target")
        return self._open(tx, glass, person, target, use)

    def _open(self, tx: Tx, glass: BreakGlass, person: Identity, target: Target, use: GlassUse) -> Shown:
        asked = self._request(tx, glass, person, target, use)
        tx.audit.append(story.of_request("access.requested", asked, actor=person.id), self.now)
        granted = approve(self.world, tx, asked, now=self.now, actor="")
        self._begin(tx, granted, use)
        spent = replace(
            glass, used_at=self.now, request_id=granted.id, use=self.record, signature=self.signature
        )  # fmt: skip
        tx.glasses.put(spent)
        tx.audit.append(_told("glass.used", spent, actor=person.id, reason=self.reason), self.now)
        return _shown(tx, spent)

    def _begin(self, tx: Tx, granted: AccessRequest, use: GlassUse) -> None:
        """The hour runs at once, from the moment that was signed: the signer counts from there as well."""
        grant = tx.grants.get(granted.grant_id) if granted.grant_id else None
        assert grant is not None  # noqa: S101  made a line above
        end = min(self.now, use.at()) + OPEN_FOR
        begun: Grant = replace(first_use(grant, self.now), not_after=end)
        tx.grants.put(begun)
        tx.audit.append(story.of_grant("grant.activated", begun, actor=self.caller.identity), self.now)
        self.world.ends.expect(begun.tenant, end, begun.id)

    def _request(self, tx: Tx, glass: BreakGlass, person: Identity, target: Target, use: GlassUse) -> AccessRequest:
        return AccessRequest(
            tenant=person.tenant,
            id=ids.RequestId(use.request_id),
            requester=person.id,
            identity=person.id,
            identity_key=self.caller.key,
            target_id=target.id,
            host_key=lookup.host_key_sha256(target),
            login=glass.login,
            ceiling=glass.ceiling,
            flags=frozenset(),
            ttl=OPEN_FOR,
            reason=self.reason,
            ticket="",
            evidence="",
            policy_version=self.world.policies.in_force(tx).version,
            nonce=records.timed_nonce(self.now, self.world.entropy.token(12)),
            quorum=0,
            approver_roles=frozenset(),
            state=RequestState.PENDING,
            created_at=self.now,
            expires_at=self.now + PENDING_FOR,
            grant_id=None,
            note="",
        )

    def _read(self) -> GlassUse:
        try:
            return read_use(self.record)
        except NotAUse as error:
            raise invalid("bad_break_glass", "this opens no sealed credential", "use grantctl") from error


def _used() -> Refusal:
    return conflict("break_glass_used", "this sealed credential was used already", "an owner makes another")


def _must_be_over(tx: Tx, glass: BreakGlass, now: datetime) -> None:
    """A review is of all that was done: not while more can be."""
    request = tx.requests.get(glass.request_id) if glass.request_id else None
    grant = tx.grants.get(request.grant_id) if request and request.grant_id else None
    if grant is not None and grant.state in LIVE and now < grant.deadline():
        message = "its hour is not over: what is done in it was not seen yet"
        raise conflict("break_glass_open", message, f"wait, or grantctl grants revoke {grant.id}")


def _must_be_makeable(tx: Tx, made: BreakGlass, now: datetime) -> None:
    person, target = tx.identities.get(made.person), tx.targets.get(made.target_id)
    if person is None or person.kind is not IdentityKind.PERSON or person.status is IdentityStatus.SUSPENDED:
        raise not_found("person")
    if target is None or target.kind is not TargetKind.SSH or made.login not in {one.name for one in target.logins}:
        raise not_found("target")
    must_fit(target.settings, login=made.login, ceiling=made.ceiling, flags=frozenset())
    named = is_id(made.id) and made.id.startswith(f"{PREFIXES['glass']}_")
    keys = {line for row in tx.identities.people() for line in row.approval_keys}
    if not named or made.key in keys or not now < made.until <= now + SEALED_FOR:
        raise invalid("bad_break_glass", "a sealed credential has an id, a key and an end of its own", "use grantctl")
    if tx.glasses.get(made.id) is not None:
        raise conflict("name_taken", "a sealed credential of this id exists", "make it anew")


def _must_be_reviewed(tx: Tx) -> None:
    if tx.glasses.owing_review():
        message = "a sealed credential was used, and no owner looked at it yet"
        raise conflict("break_glass_unreviewed", message, "grantctl break-glass list, then review")


def _other_owners(tx: Tx, person: IdentityId) -> bool:
    """Whether somebody else could make or review it."""
    able = (row for row in tx.identities.people() if row.status is IdentityStatus.ACTIVE and row.id != person)
    return any(holds(row.role, Permission.PERSON_WRITE) for row in able)


def _yes(
    world: World, person: Identity, action: Action, signature: bytes, fingerprint: str, now: datetime
) -> Approval:  # fmt: skip
    return Approval(
        tenant=person.tenant,
        id=ApprovalId(ids.render("approval", world.entropy.token(16))),
        subject=Subject.ACTION,
        subject_id=action.id,
        digest=action.digest(),
        person=person.id,
        role=person.role,
        verdict=Verdict.APPROVE,
        signature=signature,
        key_fingerprint=fingerprint,
        at=now,
        note="",
    )


def _shown(tx: Tx, glass: BreakGlass) -> Shown:
    person, target = tx.identities.get(glass.person), tx.targets.get(TargetId(glass.target_id))
    return Shown(
        glass=glass,
        person=person.name if person else "",
        target=target.name if target else "",
        request=tx.requests.get(glass.request_id) if glass.request_id else None,
    )


def _told(name: str, glass: BreakGlass, *, actor: IdentityId, action: str = "", reason: str = "") -> AuditEvent:
    facts: dict[str, str | int] = {
        "glass": glass.id,
        "person": glass.person,
        "target": glass.target_id,
        "ceiling": glass.ceiling.word,
        **({"request": glass.request_id} if glass.request_id else {}),
        **({"action": action} if action else {}),
    }
    personal = story.personal(actor, reason=reason, login=glass.login)
    return AuditEvent(tenant=glass.tenant, name=name, actor=actor, facts=facts, personal=personal)
