"""ALLOWED -> RUNNING: the last look before anything is opened.

Everything that could have changed since the decision is read again.

Runs inside a caller's transaction; the ticket that it makes is the only way into `RunService.run`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from broker.core import action as actions
from broker.core import ids, sftp
from broker.core.action import RAW_SHELL, Action, ActionEvent, ActionState
from broker.core.approval import Approval, Subject, Verdict, is_enough, must_be_fresh
from broker.core.clock import Instant
from broker.core.errors import conflict, expired, forbidden
from broker.core.forward import destination_in
from broker.core.grant import Grant, must_be_usable
from broker.core.identity import IdentityStatus, Target
from broker.core.ids import RecordingId, SessionId
from broker.service import lookup, story
from broker.service.ending import Ending
from broker.service.policies import ask_action
from broker.service.ports import Proof, RecordingKey, Session, SessionState, Tx
from broker.service.sealed_yes import sealed_proof, sealed_yes
from broker.service.sight import classify
from broker.service.world import World
from policy.classes import stricter
from policy.engine import Deny, NeedsApproval, Permit
from policy.shell import Refused
from recorder.grec import SALT_SIZE
from recorder.track import PartCheckpoint, RecordingMeta, opening


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A command that is RUNNING in the store and nowhere else yet."""

    action: Action
    grant: Grant
    target: Target
    session: Session
    meta: RecordingMeta
    """What the recording is opened with; its first commitment is in the log already."""
    proof: Proof
    watchers: frozenset[str]
    """Roles of whom one must watch while it runs; empty: nobody has to."""
    seconds_left: float
    instant: Instant


class Start:
    """Makes tickets."""

    def __init__(self, world: World, ending: Ending) -> None:
        self._world, self._ending = world, ending

    def begin(
        self, tx: Tx, action: Action, grant: Grant, target: Target, *, watchers: frozenset[str], door: str,
        instant: Instant,
    ) -> Ticket:  # fmt: skip
        """RUNNING, with its session, its recording key and their audit rows.

        For an action that a person approved, `recheck` must have passed in the same transaction.

        Raises:
            Refusal: the grant was ended, even where the store does not know yet (I-02).
        """
        if self._ending.is_ended(grant.id):
            raise conflict("grant_over", "the grant is over", "request access again")
        session_id = SessionId(ids.render("session", self._world.entropy.token(16)))
        recording = RecordingId(ids.render("recording", self._world.entropy.token(16)))
        running = replace(actions.advance(action, ActionEvent.START), session_id=session_id)
        key = tx.keys.new_recording_key(recording)
        meta = _meta(running, session_id, key, salt=self._world.entropy.token(SALT_SIZE), at=instant.wall)
        session = _opened(running, session_id, opening(meta), door=door, at=instant.wall)
        tx.actions.put(running)
        tx.sessions.put(session)
        for event in (
            story.of_action("action.running", running, actor=action.identity),
            story.of_session("session.opened", session, actor=action.identity, watched=bool(watchers)),
            story.of_recording(session, self._world.keeps_input),
        ):
            tx.audit.append(event, instant.wall)
        return Ticket(
            action=running,
            grant=grant,
            target=target,
            session=session,
            meta=meta,
            proof=_proof(tx, running, grant),
            watchers=watchers,
            seconds_left=self._world.leases.left(grant, instant),
            instant=instant,
        )

    def recheck(self, tx: Tx, action: Action, *, now: datetime) -> tuple[Grant, Target, frozenset[str]]:
        """Everything that a decided action depends on, read again at the moment of use (I-10, I-13, I-14, F06).

        Returns:
            Its grant, its target, and the roles of whom one must watch.

        Raises:
            Refusal: what changed, and what to do.
        """
        # (1) the tenant is not frozen, the identity may act, the action waits to be started and is not late
        lookup.not_frozen(tx)
        identity = lookup.active(tx, action.identity)
        if action.state is not ActionState.ALLOWED:
            raise conflict("not_allowed", f"the action is {action.state}", "propose it again")
        if now >= action.expires_at:
            raise expired("action_expired", "the action was not started in time", "propose it again")
        # (2) the grant still holds, for the same key, and the target is still pinned to the approved host key
        grant = tx.grants.get(action.grant_id)
        if grant is None or identity.key != action.identity_key:
            raise conflict("grant_over", "the grant is over", "request access again")
        must_be_usable(grant, now)
        target = lookup.target_of(tx, grant)
        if lookup.effective_login(target, grant.login, reads=lookup.only_reads(action)) != action.login:
            raise conflict("target_changed", "the target's logins changed since this was decided", "propose it again")
        # (3) the tier and the policy are the ones that were decided under
        policies = self._world.policies.in_force(tx)
        if stricter(target.tier, grant.tier) is not action.tier or policies.version != action.policy_version:
            raise conflict(
                "policy_changed", "the tier or the policy changed since this was decided", "propose it again"
            )
        # (4) the bytes classify as they did, and policy still lets them run; the stricter answer wins
        seen = classify(policies, action.command)
        if isinstance(seen, Refused) or seen.command_class != action.command_class or seen.opaque != action.opaque:
            raise forbidden("digest_mismatch", "what would run is not what was decided", "propose it again")
        answer = ask_action(policies, tx, identity, target, grant, seen, verified=False, now=now)
        if isinstance(answer, Deny):
            raise forbidden("policy_denied", f"policy no longer allows this: {', '.join(answer.reasons)}")
        # (5) enough distinct people said yes, over exactly this digest, a short while ago, and still may
        #     or the sealed key of the grant did, in their place
        if not isinstance(answer, Permit) and not sealed_yes(tx, action, now=now):
            _people_still_say_yes(tx, action, answer, now=now)
        # (6) once
        if not tx.approvals.spend(Subject.ACTION, action.id) and not isinstance(answer, Permit):
            raise conflict("approval_used", "this approval was used already", "propose it again")
        return grant, target, answer.watchers


def _people_still_say_yes(tx: Tx, action: Action, asked: NeedsApproval, *, now: datetime) -> None:
    """Enough for what was asked when it was proposed, and for what is asked now: the hour alone may ask for more."""
    approvals = tx.approvals.of(Subject.ACTION, action.id)
    must_be_fresh(approvals, digest=action.digest(), now=now)
    roles = action.approver_roles & asked.roles
    valid = [a for a in approvals if a.verdict is Verdict.APPROVE and still_decides(tx, a, roles)]
    if not is_enough(valid, quorum=max(action.quorum, asked.quorum)):
        raise forbidden(
            "approval_void", "an approver lost the role since, or more have to agree now", "propose it again"
        )


def still_decides(tx: Tx, approval: Approval, roles: frozenset[str]) -> bool:
    """Whether the person behind a vote is still active, in a role that decides (I-13)."""
    person = tx.identities.get(approval.person)
    return person is not None and person.status is IdentityStatus.ACTIVE and person.role in roles


def _proof(tx: Tx, action: Action, grant: Grant) -> Proof:
    """What the signer is shown: the action and its yeses, and where its grant says more than commands, the grant's."""
    votes = tx.approvals.of(Subject.ACTION, action.id)
    sealed = sealed_proof(tx, action, votes)
    if sealed is not None:
        return sealed
    asked = tx.requests.get(action.request_id) if rests_on_its_grant(action, grant) else None
    # of whom the signer knows no more it takes none, and nothing that comes with theirs
    standing = [vote for vote in votes if still_decides(tx, vote, action.approver_roles)]
    return Proof(
        record=action.record().encoded(),
        signatures=_yes(standing),
        access=asked.record().encoded() if asked else b"",
        access_signatures=_yes(tx.approvals.of(Subject.ACCESS, asked.id)) if asked else (),
    )


def rests_on_its_grant(action: Action, grant: Grant) -> bool:
    """Whether an action may be what it is because of a flag: a forward, or a keyboard."""
    return bool(grant.flags) and (action.pty or destination_in(action.command) is not None)


def _yes(approvals: Sequence[Approval]) -> tuple[bytes, ...]:
    return tuple(approval.signature for approval in approvals if approval.verdict is Verdict.APPROVE)


def _meta(action: Action, session: SessionId, key: RecordingKey, *, salt: bytes, at: datetime) -> RecordingMeta:
    return RecordingMeta(
        rec=key.recording,
        sid=session,
        ten=action.tenant,
        dek_id=key.key_id,
        dek=key.key.reveal(),
        salt=salt,
        start=at,
        part=0,
        prev=None,
    )


def _kind(command: bytes) -> str:
    if sftp.is_session(command):
        return "sftp"
    if destination_in(command) is not None:
        return "forward"
    return "raw_shell" if command == RAW_SHELL else "exec"


def _opened(action: Action, session: SessionId, opened: PartCheckpoint, *, door: str, at: datetime) -> Session:
    return Session(
        tenant=action.tenant,
        id=session,
        grant_id=action.grant_id,
        action_id=action.id,
        identity=action.identity,
        target_id=action.target_id,
        login=action.login,
        kind=_kind(action.command),
        door=door,
        recording=RecordingId(opened.rec),
        state=SessionState.OPEN,
        opened_at=at,
        closed_at=None,
        end_reason="",
        recording_leaves=opened.leaves,
        recording_root=opened.root,
        recording_state="open",
    )
