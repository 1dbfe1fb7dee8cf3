"""Proposing a command: classify, decide, write it down. What may run at once also starts in the same transaction.

Every route to a target comes through here (I-18): gRPC, SSH, retries. Nothing is asked of the target before the
decision (I-23).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from broker.core import action as actions
from broker.core import ids, records, sftp
from broker.core.action import (
    APPROVAL_FOR,
    MAX_DECLARED_STDIN_BYTES,
    Action,
    ActionEvent,
    ActionState,
    StdinMode,
    checked_command,
    checked_cwd,
    checked_env,
)
from broker.core.clock import Instant
from broker.core.errors import exhausted, forbidden, invalid, not_found
from broker.core.events import AuditEvent
from broker.core.grant import Grant, GrantState, first_use
from broker.core.identity import Caller, Identity, Target
from broker.core.ids import ActionId, GrantId
from broker.core.request import MAX_REASON_BYTES, checked_text
from broker.service import lookup, story
from broker.service.closing import Closing
from broker.service.ending import Ending
from broker.service.forecast import Forecast, Outlook, advice_on, foreseen
from broker.service.policies import ask_action, owner_or_self
from broker.service.ports import Tx
from broker.service.shield import settled, to_the_end
from broker.service.sight import classify, look
from broker.service.start import Start, Ticket
from broker.service.unseen import may_stream, must_be_granted, must_name_destination, must_stream, reads
from broker.service.wake import PENDING
from broker.service.world import World
from policy.classes import CommandClass, stricter
from policy.engine import CEILING, Decision, Deny, NeedsApproval, Permit
from policy.ruleset import Ruleset
from policy.shell import Classified, Refused

_METHOD = "Execute"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandInput:
    """A command as a door received it."""

    line: bytes
    cwd: str
    env: Mapping[str, str]
    stdin_mode: StdinMode
    stdin: bytes
    """The whole of it for DECLARED, else empty."""
    pty: bool

    def stdin_sha256(self) -> bytes:
        """Of declared stdin; empty otherwise."""
        return hashlib.sha256(self.stdin).digest() if self.stdin_mode is StdinMode.DECLARED else b""

    def content(self) -> bytes:
        """What makes two commands the same, for idempotency."""
        env = [part.encode() for name in sorted(self.env) for part in (name, self.env[name])]
        head = [self.line, self.cwd.encode(), self.stdin_mode.encode(), self.stdin_sha256(), b"1" if self.pty else b"0"]
        return records.pae([*head, *env])


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """An action as decided. `ticket` only where it was started at once."""

    action: Action
    ticket: Ticket | None


class ProposeService:
    """Classify, preview, propose."""

    def __init__(self, world: World, start: Start, ending: Ending, closing: Closing) -> None:
        self._world, self._start, self._ending, self._closing = world, start, ending, closing

    async def explain(self, caller: Caller, line: bytes) -> Forecast:
        """The classifier and what would lower the class, by the tenant's rules; writes nothing."""
        checked_command(line)
        rules = await self._world.store.read(caller.tenant, self._world.policies.in_force)
        await foreseen(rules, line)
        return Forecast(verdict=classify(rules, line), advice=advice_on(rules, line))

    async def stdin_of(self, caller: Caller, flags: frozenset[str], line: bytes, *, pty: bool) -> StdinMode:
        """How a door that cannot know stdin beforehand gives it to a command: streamed, or not at all.

        By the rules last seen: a door asks how to begin, `propose` decides.
        """
        seen = await look(await self._rules(caller), line)
        streams = isinstance(seen, Classified) and may_stream(seen, flags, pty=pty)
        return StdinMode.STREAM if streams else StdinMode.NONE

    async def preview(self, caller: Caller, grant_id: GrantId, command: CommandInput) -> Forecast:
        """What would happen; writes nothing, starts no TTL."""
        checked_command(command.line)
        now = self._world.instant().wall
        await foreseen(await self._rules(caller), command.line)

        def unit(tx: Tx) -> Forecast:
            policies = self._world.policies.in_force(tx)
            seen = classify(policies, command.line)
            if isinstance(seen, Refused):
                return Forecast(verdict=seen)
            return Outlook(
                policies=policies, caller=caller, grant_id=grant_id, line=command.line, seen=seen, now=now
            ).forecast(tx)

        return await self._world.store.read(caller.tenant, unit)

    async def propose(
        self, caller: Caller, grant_id: GrantId, command: CommandInput, *, idempotency_key: str, reason: str, door: str
    ) -> Proposal:
        """Writes the action down as decided.

        Where it may run at once, it is RUNNING and carries a ticket for `RunService.run`.

        Raises:
            Refusal: not a command (`command_refused`), not allowed (`policy_denied`), cooling down, too much waiting,
            over.
        """
        checked_text("reason", reason, MAX_REASON_BYTES)
        checked_command(command.line)
        checked_cwd(command.cwd)
        checked_env(command.env)
        if len(command.stdin) > MAX_DECLARED_STDIN_BYTES:
            raise invalid("stdin_too_long", "declared stdin is longer than 64 KiB", "stream it, or put it in a file")
        instant = self._world.ready(caller.tenant)
        if self._ending.is_ended(grant_id):
            raise not_found("grant")
        # outside the transaction, by the rules last seen: what it decides by is looked up again inside, and remembered
        seen = await look(await self._rules(caller), command.line)
        if isinstance(seen, Refused):
            await self._tell_refused(caller, grant_id, command, seen, instant.wall)
            raise invalid("command_refused", f"not a command that can be decided: {seen.reason}", "send plain bash")
        draft = _Draft(self._world, self._start, caller, grant_id, command, idempotency_key, reason, door, instant)
        proposal, cancelled = await settled(self._world.store.run(caller.tenant, draft.unit))
        if cancelled is not None:
            if proposal.ticket is not None:
                await to_the_end(self._closing.abandon(proposal.ticket))
            raise cancelled
        self._tell(proposal.action)
        return proposal

    async def _rules(self, caller: Caller) -> Ruleset:
        return await self._world.policies.current(self._world.store, caller.tenant)

    def _tell(self, action: Action) -> None:
        if action.state is ActionState.AWAITING:  # whoever watches what waits reads it all anew
            self._world.bell.ring(action.tenant, PENDING, action.id)
        self._world.meter.count("actions", command_class=action.command_class.word, state=_after(action))
        if action.state is ActionState.DENIED:
            raise forbidden("policy_denied", f"policy does not allow this: {_why(action)}", _way_out(action))

    async def _tell_refused(
        self, caller: Caller, grant_id: GrantId, command: CommandInput, seen: Refused, now: datetime
    ) -> None:
        event = AuditEvent(
            tenant=caller.tenant,
            name="action.denied",
            actor=caller.identity,
            facts={"grant": grant_id, "rule": seen.rule, "reason_code": "command_refused",
                   "digest": hashlib.sha256(command.line).hexdigest()},
            personal=story.personal(caller.identity, command=story.shown(command.line)),
        )  # fmt: skip

        def unit(tx: Tx) -> None:
            lookup.own_grant(tx, caller, grant_id)
            tx.audit.append(event, now)

        await self._world.store.run(caller.tenant, unit)
        self._world.meter.count("actions", command_class="refused", state="denied")


@dataclass(frozen=True, slots=True)
class _Draft:
    """One command on its way into the store."""

    world: World
    start: Start
    caller: Caller
    grant_id: GrantId
    command: CommandInput
    idempotency_key: str
    reason: str
    door: str
    instant: Instant

    def unit(self, tx: Tx) -> Proposal:
        """Decides and writes; runs in one transaction."""
        lookup.not_frozen(tx)
        identity = lookup.active(tx, self.caller.identity)
        grant = lookup.own_grant(tx, self.caller, self.grant_id)
        content = records.pae([self.grant_id.encode(), self.command.content()])
        earlier = lookup.once(
            tx, self.caller, method=_METHOD, key=self.idempotency_key, content=content,
            find=lambda made: tx.actions.get(ActionId(made)),
        )  # fmt: skip
        if isinstance(earlier, Action):
            return Proposal(action=earlier, ticket=None)
        target = lookup.target_of(tx, grant)
        grant = self._use(tx, grant)
        policies = self.world.policies.in_force(tx)
        seen = classify(policies, self.command.line)
        if isinstance(seen, Refused):
            raise invalid("command_refused", f"not a command that can be decided: {seen.reason}", "send plain bash")
        must_name_destination(self.command.line, seen, grant)
        if self._streams_unseen():
            must_stream(seen, grant.flags, pty=self.command.pty)
        decision = ask_action(policies, tx, identity, target, grant, seen, verified=False, now=self.instant.wall)
        action = self._action(grant, target, identity, seen, decision, policies.version)
        proposal = self._decide(tx, action, grant, target, decision)
        sha = hashlib.sha256(content).digest()
        tx.idempotency.put(
            self.caller.identity, _METHOD, self.idempotency_key, request_sha256=sha, made=proposal.action.id,
            now=self.instant.wall,
        )  # fmt: skip
        return proposal

    def _streams_unseen(self) -> bool:
        """What a file session is sent is looked at operation by operation; everything else that streams is not."""
        return self.command.stdin_mode is StdinMode.STREAM and not sftp.is_session(self.command.line)

    def _use(self, tx: Tx, grant: Grant) -> Grant:
        used = first_use(grant, self.instant.wall)
        if grant.state is GrantState.APPROVED:
            tx.grants.put(used)
            self.world.ends.expect(used.tenant, used.deadline(), used.id)
            tx.audit.append(story.of_grant("grant.activated", used, actor=self.caller.identity), self.instant.wall)
        self.world.leases.must_last(used, self.instant)
        return used

    def _action(
        self, grant: Grant, target: Target, identity: Identity, seen: Classified, decision: Decision, version: str
    ) -> Action:
        needs = decision if isinstance(decision, NeedsApproval) else None
        if grant.not_after is None:
            raise not_found("grant")
        return Action(
            tenant=grant.tenant,
            id=ActionId(ids.render("action", self.world.entropy.token(16))),
            grant_id=grant.id,
            request_id=grant.request_id,
            requester=owner_or_self(identity),
            identity=identity.id,
            identity_key=self.caller.key,
            target_id=target.id,
            host_key=grant.host_key,
            login=lookup.effective_login(target, grant.login, reads=reads(seen)),
            command=self.command.line,
            cwd=self.command.cwd,
            env=self.command.env,
            stdin_mode=self.command.stdin_mode,
            stdin_sha256=self.command.stdin_sha256(),
            pty=self.command.pty,
            command_class=seen.command_class,
            opaque=seen.opaque,
            egress=seen.egress,
            outlives=seen.outlives,
            tier=stricter(target.tier, grant.tier),
            verification=None,
            rollback=(),
            not_after=grant.not_after,
            policy_version=version,
            nonce=records.timed_nonce(self.instant.wall, self.world.entropy.token(12)),
            reason=self.reason,
            quorum=needs.quorum if needs else 0,
            approver_roles=needs.roles if needs else frozenset(),
            state=ActionState.PROPOSED,
            proposed_at=self.instant.wall,
            expires_at=min(self.instant.wall + APPROVAL_FOR, grant.not_after),
            session_id=None,
            outcome=None,
            note="",
        )

    def _decide(self, tx: Tx, action: Action, grant: Grant, target: Target, decision: Decision) -> Proposal:
        now, actor = self.instant.wall, self.caller.identity
        must_be_granted(action, grant)
        match decision:
            case Permit(reasons=reasons, watchers=watchers):
                tx.audit.append(story.of_action("action.proposed", action, actor=actor), now)
                allowed = actions.advance(action, ActionEvent.PERMIT)
                tx.audit.append(story.of_action("action.allowed", allowed, actor="", policies=reasons), now)
                ticket = self.start.begin(
                    tx, allowed, grant, target, watchers=watchers, door=self.door, instant=self.instant
                )
                return Proposal(action=ticket.action, ticket=ticket)
            case NeedsApproval(reasons=reasons):
                return Proposal(action=self._ask(tx, action, reasons), ticket=None)
            case Deny(reasons=reasons):
                tx.audit.append(story.of_action("action.proposed", action, actor=actor), now)
                denied = actions.advance(action, ActionEvent.DENY, note=", ".join(reasons))
                tx.actions.put(denied)
                tx.audit.append(story.of_action("action.denied", denied, actor="", policies=reasons), now)
                return Proposal(action=denied, ticket=None)
            case _:
                assert_never(decision)

    def _ask(self, tx: Tx, action: Action, reasons: Sequence[str]) -> Action:
        """AWAITING; a retry of what already waits merges into it, a retry of what was just denied is refused (I-19)."""
        waiting = tx.actions.awaiting_with_key(action.key(), action.grant_id)
        if waiting is not None:
            if _same_ground(waiting, action):
                return waiting
            self._withdraw(tx, waiting)
        since = self.instant.wall - self.world.limits.denial_cools_for
        if tx.actions.denied_since(action.key(), action.identity, since) is not None:
            raise forbidden(
                "recently_denied",
                "a person denied this very action a moment ago",
                "do something else, or wait 10 minutes",
            )
        self._within_limits(tx)
        asked = actions.advance(action, ActionEvent.ASK)
        tx.actions.put(asked)
        self.world.ends.expect(asked.tenant, asked.expires_at)
        now, actor = self.instant.wall, self.caller.identity
        tx.audit.append(story.of_action("action.proposed", asked, actor=actor), now)
        tx.audit.append(story.of_action("action.awaiting", asked, actor="", policies=reasons), now)
        return asked

    def _withdraw(self, tx: Tx, waiting: Action) -> None:
        """A question that nobody can say yes to any more makes room for the same one, asked anew (I-14)."""
        withdrawn = actions.advance(waiting, ActionEvent.CANCEL, note="asked again after a change of policy or tier")
        tx.actions.put(withdrawn)
        event = story.of_action("action.cancelled", withdrawn, actor=self.caller.identity)
        tx.audit.append(event, self.instant.wall)

    def _within_limits(self, tx: Tx) -> None:
        limits = self.world.limits
        if tx.actions.count_awaiting(self.caller.identity) >= limits.pending_per_identity:
            raise exhausted(
                "too_many_pending", "too many of your actions wait already", "wait for a decision, or cancel one"
            )
        if tx.actions.count_awaiting(None) >= limits.pending_per_tenant:
            raise exhausted("too_many_pending", "too many actions wait already", "try again later")


def _same_ground(waiting: Action, action: Action) -> bool:
    return (waiting.tier, waiting.policy_version) == (action.tier, action.policy_version)


def _after(action: Action) -> str:
    states = {ActionState.AWAITING: "awaiting", ActionState.DENIED: "denied"}
    return states.get(action.state, "allowed")


def _why(action: Action) -> str:
    """The ids of the rules that said no; that of the ceiling means nothing to whoever typed the command."""
    if action.note != CEILING:
        return action.note
    return f"{_level(action)} is above what the grant allows"


def _way_out(action: Action) -> str:
    return f"ask for one up to {_level(action)}" if action.note == CEILING else "ask for a grant that allows it"


def _level(action: Action) -> str:
    level = max(action.command_class, CommandClass.EXECUTE) if action.opaque else action.command_class
    return level.word
