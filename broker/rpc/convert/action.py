"""Commands, classifications and actions, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from broker.core.action import Action, ActionState, StdinMode
from broker.rpc.convert.scalars import class_value, moment
from broker.service.forecast import Forecast
from broker.service.propose import CommandInput
from grantd.v1 import action_pb2 as pb
from grantd.v1 import options_pb2 as options
from policy.advice import Advice
from policy.engine import Deny, NeedsApproval, Permit
from policy.shell import Part, Refused, Verdict

MAX_PARTS = 256
"""Parts listed of one command: with the words of each, a whole classification stays far below a message's limit."""
MAX_WORDS = 256
ACTION_STATES: Mapping[ActionState, pb.ActionState.ValueType] = MappingProxyType(
    {state: pb.ActionState.Value(f"ACTION_STATE_{state.name}") for state in ActionState}
)
STATES_OF: Mapping[int, ActionState] = MappingProxyType({value: state for state, value in ACTION_STATES.items()})
_STDIN: Mapping[int, StdinMode] = MappingProxyType(
    {
        pb.STDIN_MODE_UNSPECIFIED: StdinMode.NONE,
        pb.STDIN_MODE_NONE: StdinMode.NONE,
        pb.STDIN_MODE_DECLARED: StdinMode.DECLARED,
        pb.STDIN_MODE_STREAM: StdinMode.STREAM,
    }
)
_DECISIONS = {Permit: "permit", NeedsApproval: "needs_approval", Deny: "deny"}


def command_of(command: pb.Command) -> CommandInput:
    """A command as it came in; the services judge it."""
    return CommandInput(
        line=command.line,
        cwd=command.cwd,
        env=dict(command.env),
        stdin_mode=_STDIN[command.stdin_mode],
        stdin=command.stdin,
        pty=False,
    )


def action_out(action: Action) -> pb.Action:
    """An action as it stands. The digest is there from the start: what a person signs is final."""
    outcome = action.outcome
    return pb.Action(
        id=action.id,
        grant_id=action.grant_id,
        state=ACTION_STATES[action.state],
        command_class=class_value(action.command_class),
        opaque=action.opaque,
        digest=action.digest(),
        expires_at=moment(action.expires_at),
        session_id=action.session_id or "",
        exit_status=outcome.exit_status if outcome else None,
        signal=outcome.signal if outcome else "",
        note=(outcome.reason if outcome else "") or action.note,
    )


def classification_out(verdict: Verdict, advice: tuple[Advice, ...] = ()) -> options.Classification:
    """What the classifier saw, and what would lower the class."""
    if isinstance(verdict, Refused):
        return options.Classification(refused=True, rule=verdict.rule, reason=verdict.reason)
    return options.Classification(
        command_class=class_value(verdict.command_class),
        opaque=verdict.opaque,
        egress=verdict.egress,
        outlives=verdict.outlives,
        parts=[_part_out(part) for part in _listed(verdict.parts)],
        advice=[_advice_out(piece) for piece in advice],
    )


def preview_out(forecast: Forecast) -> pb.PreviewResponse:
    """A dry run."""
    answer = pb.PreviewResponse(
        classification=classification_out(forecast.verdict, forecast.advice),
        decision="deny",
        approvers=forecast.approvers,
        alternatives=[
            pb.Alternative(what=other.what, decision=_DECISIONS[type(other.decision)])
            for other in forecast.alternatives
        ],
    )
    decision = forecast.decision
    if decision is None:
        return answer
    answer.decision = _DECISIONS[type(decision)]
    answer.reasons.extend(decision.reasons)
    if not isinstance(decision, Deny):
        answer.watcher_roles.extend(sorted(decision.watchers))
    if isinstance(decision, NeedsApproval):
        answer.quorum = decision.quorum
        answer.approver_roles.extend(sorted(decision.roles))
    return answer


def _listed(parts: tuple[Part, ...]) -> list[Part]:
    """In order of appearance; of too many, those that matter most: opaque ones and the highest classes."""
    if len(parts) <= MAX_PARTS:
        return list(parts)
    weightiest = sorted(range(len(parts)), key=lambda i: (not parts[i].opaque, -parts[i].command_class, i))[:MAX_PARTS]
    return [parts[i] for i in sorted(weightiest)]


def _advice_out(piece: Advice) -> options.Advice:
    return options.Advice(
        start=piece.span[0],
        end=piece.span[1],
        put=piece.put,
        say=piece.say,
        command_class=class_value(piece.command_class),
        opaque=piece.opaque,
    )


def _part_out(part: Part) -> options.CommandPart:
    return options.CommandPart(
        start=part.span[0],
        end=part.span[1],
        argv=part.argv[:MAX_WORDS],
        command_class=class_value(part.command_class),
        opaque=part.opaque,
        egress=part.egress,
        rule=part.rule,
        reason=part.reason,
        outlives=part.outlives,
    )
