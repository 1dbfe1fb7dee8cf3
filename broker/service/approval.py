"""What waits for a person, and the person's signed decision over exactly one digest (I-10 to I-15)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from broker.core import action as actions
from broker.core import ids
from broker.core import request as requests
from broker.core.action import APPROVAL_FOR, Action, ActionEvent, ActionState
from broker.core.approval import Approval, Subject, Verdict, is_enough, must_be_another, must_be_fresh
from broker.core.errors import Refusal, conflict, forbidden, not_found
from broker.core.events import AuditEvent
from broker.core.identity import Caller, Identity, IdentityStatus, Target
from broker.core.ids import ActionId, ApprovalId, RequestId, TenantId
from broker.core.kinds import TargetKind
from broker.core.records import APPROVAL_NAMESPACE, denial_record
from broker.core.request import AccessRequest, RequestEvent, RequestState, checked_text
from broker.core.sshsig import presence, verify
from broker.service import lookup, story
from broker.service.access import approve as approve_access
from broker.service.early import NOTHING_SAID, Word, word_of
from broker.service.policies import ask_action, ask_approve
from broker.service.ports import Tx
from broker.service.sight import classify
from broker.service.start import still_decides
from broker.service.wake import PENDING, heard
from broker.service.world import World
from policy.classes import stricter
from policy.engine import NeedsApproval, Permit
from policy.shell import Refused
from policy.shell import Verdict as ShellVerdict

MAX_NOTE_BYTES = 512
SIGN_OF_LIFE_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """One thing that waits, with everything that its digest binds and what helps to judge it."""

    subject: Action | AccessRequest
    identity_name: str
    target_name: str
    approved_by: tuple[str, ...]
    seen: ShellVerdict | None
    """The classifier's parts, for a command."""
    policy_reasons: tuple[str, ...]

    @property
    def id(self) -> str:
        return self.subject.id

    def digest(self) -> bytes:
        return self.subject.digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """A decision as it came in."""

    id: str
    verdict: Verdict
    digest: bytes
    signature: bytes
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where the subject stands after a vote."""

    state: str
    missing: int


class ApprovalService:
    """Lists, watches and takes decisions."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def pending(self, caller: Caller) -> Sequence[Pending]:
        """What waits, oldest first, as far as the caller's role sees it."""
        return await self._world.store.read(caller.tenant, lambda tx: _pending(self._world, tx, caller))

    async def watch(self, caller: Caller) -> AsyncIterator[Mapping[str, Pending]]:
        """Everything that waits, now and after every change, at the latest every 20 s. By id, oldest first."""
        with self._world.bell.listen(caller.tenant, PENDING) as rung:
            while True:
                await heard(rung, SIGN_OF_LIFE_S)
                yield {item.id: item for item in await self.pending(caller)}

    async def get(self, caller: Caller, subject_id: str) -> Pending:
        """One thing that waits: as far as the caller's role sees it, or the caller's own."""
        now = self._world.clock.now()

        def unit(tx: Tx) -> Pending:
            subject = _subject(tx, subject_id)
            seen = subject is not None and (subject.identity == caller.identity or _shows(tx, caller, subject))
            if subject is None or not seen or not _waits(subject, now):
                raise not_found("pending request or action")
            return _item(self._world, tx, subject, now)

        return await self._world.store.read(caller.tenant, unit)

    async def decide(self, caller: Caller, vote: Vote) -> Standing:
        """Takes a signed yes or no.

        Raises:
            Refusal: own request, wrong digest, bad signature, role too small, late, already decided, a yes that the
            signer would not count (`approver_not_signed`). Each is audited.
        """
        checked_text("note", vote.note, MAX_NOTE_BYTES)
        now = self._world.ready(caller.tenant).wall
        # a no needs nobody's belief
        approves = vote.verdict is Verdict.APPROVE
        word = await word_of(self._world, caller.tenant, caller.identity) if approves else NOTHING_SAID
        unit = _Decision(world=self._world, caller=caller, vote=vote, now=now, signer=word)
        try:
            standing = await self._world.store.run(caller.tenant, unit.unit)
        except Refusal as refusal:
            await self._tell_refused(caller, vote, refusal, now)
            raise
        self._world.bell.ring(caller.tenant, PENDING, vote.id)
        self._world.meter.count("approvals", verdict=vote.verdict)
        return standing

    async def _tell_refused(self, caller: Caller, vote: Vote, refusal: Refusal, now: datetime) -> None:
        facts = {"reason_code": refusal.code, **({"subject": vote.id} if ids.is_id(vote.id) else {})}
        event = AuditEvent(tenant=caller.tenant, name="approval.refused", actor=caller.identity, facts=facts)
        await self._world.store.run(caller.tenant, lambda tx: tx.audit.append(event, now))
        self._world.meter.count("approvals", verdict="refused")

    async def state_of(self, tenant: TenantId, subject_id: str) -> str:
        """What became of something that waits no longer."""

        def unit(tx: Tx) -> str:
            subject = tx.actions.get(ActionId(subject_id)) or tx.requests.get(RequestId(subject_id))
            return subject.state if subject else "gone"

        return await self._world.store.read(tenant, unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decision:
    """One vote on its way into the store."""

    world: World
    caller: Caller
    vote: Vote
    now: datetime
    signer: Word
    """What the signer holds about the voter."""

    def unit(self, tx: Tx) -> Standing:
        """Numbered as the checks are: nothing is written before the last one passed."""
        # (1) the tenant is not frozen; the voter may act; the thing exists, for this voter's eyes, and waits (I-46)
        lookup.not_frozen(tx)
        person = lookup.active(tx, self.caller.identity)
        subject = _subject(tx, self.vote.id)
        target = None if subject is None else tx.targets.get(subject.target_id)
        if subject is None or target is None or not lookup.sees_target(self.caller, target):
            raise not_found("pending request or action")
        if isinstance(subject, Action):
            actions.must_be_open(subject, self.now)
        else:
            requests.must_be_open(subject, self.now)
        # (2) it is another's
        must_be_another(person.id, requester=subject.requester, identity=subject.identity)
        # (3) what was shown is what waits, and the target is still the one that was shown
        if self.vote.digest != subject.digest():
            raise conflict("digest_mismatch", "what waits is not what was shown", "look at it again")
        if self.vote.verdict is Verdict.APPROVE:
            self._must_stand(tx, subject, target)
        # (4) the person's own key signed exactly this
        record = subject.record().encoded()
        message = record if self.vote.verdict is Verdict.APPROVE else denial_record(record)
        key = verify(self.vote.signature, message, APPROVAL_NAMESPACE, person.approval_keys)
        # (5) the role may, by the table and by policy
        self._may_decide(tx, person, subject, target)
        # (6) and the signer would count it, where it is what the signer goes by
        if isinstance(subject, Action) or subject.flags:
            self._must_count(person, key, target)
        tx.approvals.add(self._approval(person, subject, key))
        return self._apply(tx, subject)

    def _must_stand(self, tx: Tx, subject: Action | AccessRequest, target: Target) -> None:
        """What a yes rests on is still as it was when it was asked (I-14). A no needs nothing."""
        if lookup.host_key_sha256(target) != subject.host_key:
            raise conflict(
                "target_changed", "the target's host key changed since this was asked", "the agent must ask again"
            )
        asker = tx.identities.get(subject.identity)
        if asker is None or asker.key != subject.identity_key:
            raise conflict("key_changed", "whoever asked has another key since", "the agent must ask again")
        tier = subject.tier if isinstance(subject, Action) else target.tier
        # an action's tier may be its grant's, which is stricter than the target's: only a stricter target voids it
        if (
            stricter(target.tier, tier) is not tier
            or self.world.policies.in_force(tx).version != subject.policy_version
        ):
            raise conflict(
                "policy_changed", "the tier or the policy changed since this was asked", "the agent must ask again"
            )

    def _may_decide(self, tx: Tx, person: Identity, subject: Action | AccessRequest, target: Target) -> None:
        requester = tx.identities.get(subject.identity)
        if requester is None or requester.status is not IdentityStatus.ACTIVE:
            raise conflict("requester_suspended", "whoever asked is suspended", "nothing: it will be taken back")
        wanted = subject.command_class if isinstance(subject, Action) else subject.ceiling
        kind: Literal["access", "action"] = "action" if isinstance(subject, Action) else "access"
        policies = self.world.policies.in_force(tx)
        answer = ask_approve(policies, tx, person, requester, target, subject=kind, level=wanted,
                             presence=presence(self.vote.signature), now=self.now)  # fmt: skip
        if person.role not in subject.approver_roles or not isinstance(answer, Permit):
            raise forbidden("may_not_decide", "your role does not decide this", f"ask one of: {_roles(subject)}")

    def _must_count(self, person: Identity, key: str, target: Target) -> None:
        if target.kind is TargetKind.SSH:  # elsewhere no certificate rests on it
            self.signer.must_have_approver(person.name, key)

    def _approval(self, person: Identity, subject: Action | AccessRequest, key: str) -> Approval:
        return Approval(
            tenant=person.tenant,
            id=ApprovalId(ids.render("approval", self.world.entropy.token(16))),
            subject=Subject.ACTION if isinstance(subject, Action) else Subject.ACCESS,
            subject_id=subject.id,
            digest=self.vote.digest,
            person=person.id,
            role=person.role,
            verdict=self.vote.verdict,
            signature=self.vote.signature,
            key_fingerprint=key,
            at=self.now,
            note=self.vote.note,
        )

    def _apply(self, tx: Tx, subject: Action | AccessRequest) -> Standing:
        kind = Subject.ACTION if isinstance(subject, Action) else Subject.ACCESS
        roles = subject.approver_roles
        votes = [vote for vote in tx.approvals.of(kind, subject.id) if still_decides(tx, vote, roles)]
        must_be_fresh(votes, digest=subject.digest(), now=self.now)
        tx.audit.append(self._told(subject), self.now)
        waited = self.now - (subject.proposed_at if isinstance(subject, Action) else subject.created_at)
        if self.vote.verdict is Verdict.DENY:
            state = self._deny(tx, subject)
        elif is_enough(votes, quorum=subject.quorum):
            state = self._allow(tx, subject)
        else:
            return Standing(state=subject.state, missing=subject.quorum - len({v.person for v in votes}))
        self.world.meter.observe("approval_wait_seconds", waited.total_seconds())
        return Standing(state=state, missing=0)

    def _deny(self, tx: Tx, subject: Action | AccessRequest) -> str:
        note = self.vote.note or "a person said no"
        if isinstance(subject, Action):
            denied = actions.advance(subject, ActionEvent.DENY, note=note)
            tx.actions.put(denied)
            tx.audit.append(story.of_action("action.denied", denied, actor=self.caller.identity), self.now)
            return denied.state
        request = requests.advance(subject, RequestEvent.DENY, note=note)
        tx.requests.put(request)
        tx.audit.append(story.of_request("access.denied", request, actor=self.caller.identity), self.now)
        return request.state

    def _allow(self, tx: Tx, subject: Action | AccessRequest) -> str:
        if isinstance(subject, Action):
            until = min(self.now + APPROVAL_FOR, subject.not_after)
            allowed = actions.advance(subject, ActionEvent.PERMIT, expires_at=until)
            tx.actions.put(allowed)
            tx.audit.append(story.of_action("action.allowed", allowed, actor=self.caller.identity), self.now)
            return allowed.state
        return approve_access(self.world, tx, subject, now=self.now, actor=self.caller.identity).state

    def _told(self, subject: Action | AccessRequest) -> AuditEvent:
        facts = {
            "subject": subject.id,
            "verdict": self.vote.verdict,
            "digest": self.vote.digest.hex(),
            "role": self.caller.role,
        }
        return AuditEvent(
            tenant=self.caller.tenant,
            name="approval.recorded",
            actor=self.caller.identity,
            facts=facts,
            personal=story.personal(self.caller.identity, note=self.vote.note),
        )


def _subject(tx: Tx, subject_id: str) -> Action | AccessRequest | None:
    return tx.actions.get(ActionId(subject_id)) or tx.requests.get(RequestId(subject_id))


def _roles(subject: Action | AccessRequest) -> str:
    return ", ".join(sorted(subject.approver_roles))


def _pending(world: World, tx: Tx, caller: Caller) -> Sequence[Pending]:
    now = world.clock.now()
    waiting: list[Action | AccessRequest] = [
        *tx.actions.in_states((ActionState.AWAITING,), grant=None),
        *tx.requests.pending(),
    ]
    seen = [_item(world, tx, s, now) for s in waiting if now < s.expires_at and _shows(tx, caller, s)]
    return sorted(seen, key=lambda item: item.subject.expires_at)


def _waits(subject: Action | AccessRequest, now: datetime) -> bool:
    return subject.state in (ActionState.AWAITING, RequestState.PENDING) and now < subject.expires_at


def _shows(tx: Tx, caller: Caller, subject: Action | AccessRequest) -> bool:
    return lookup.sees_target(caller, tx.targets.get(subject.target_id))


def _item(world: World, tx: Tx, subject: Action | AccessRequest, now: datetime) -> Pending:
    identity, target = tx.identities.get(subject.identity), tx.targets.get(subject.target_id)
    kind = Subject.ACTION if isinstance(subject, Action) else Subject.ACCESS
    return Pending(
        subject=subject,
        identity_name=identity.name if identity else "",
        target_name=target.name if target else "",
        approved_by=tuple(a.person for a in tx.approvals.of(kind, subject.id) if a.verdict is Verdict.APPROVE),
        seen=classify(world.policies.in_force(tx), subject.command) if isinstance(subject, Action) else None,
        policy_reasons=_reasons(world, tx, subject, now),
    )


def _reasons(world: World, tx: Tx, subject: Action | AccessRequest, now: datetime) -> tuple[str, ...]:
    """The rules that want a person, as they stand now."""
    if not isinstance(subject, Action):
        return ()
    grant, identity, target = (
        tx.grants.get(subject.grant_id),
        tx.identities.get(subject.identity),
        tx.targets.get(subject.target_id),
    )
    policies = world.policies.in_force(tx)
    seen = classify(policies, subject.command)
    if grant is None or identity is None or target is None or isinstance(seen, Refused):
        return ()
    answer = ask_action(policies, tx, identity, target, grant, seen, verified=False, now=now)
    return answer.reasons if isinstance(answer, NeedsApproval) else ()
