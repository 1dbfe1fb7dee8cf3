"""What is told about policies, for the wire: problems, simulations, explanations."""

from __future__ import annotations

from broker.rpc.convert.scalars import class_value, moment
from broker.service.explain import Decided
from broker.service.replay import Answer
from broker.service.simulate import Changed, Simulation
from broker.service.validate import Validation
from grantd.v1 import admin_pb2 as pb
from policy.reading import Problem, Rule
from policy.telling import told


def validation_out(validation: Validation) -> pb.ValidatePolicyResponse:
    """What reading a policy told."""
    return pb.ValidatePolicyResponse(
        version=validation.version, problems=[_problem_out(problem) for problem in validation.problems]
    )


def _problem_out(problem: Problem) -> pb.PolicyProblem:
    where = problem.where
    return pb.PolicyProblem(
        file=where.file, line=where.line, column=where.column, policy=problem.policy, message=problem.message,
        warning=problem.warning,
    )  # fmt: skip


def simulation_out(simulation: Simulation) -> pb.SimulatePolicyResponse:
    """What another policy would change."""
    return pb.SimulatePolicyResponse(
        version=simulation.version,
        compared_with=simulation.compared_with,
        counts=[
            pb.SimulatedCount(before=before, after=after, actions=number)
            for (before, after), number in sorted(simulation.counts.items())
        ],
        changes=[_change_out(changed) for changed in simulation.changes],
        changed=simulation.changed,
        replayed=simulation.replayed,
        skipped=simulation.skipped,
        drifted=simulation.drifted,
        since=moment(simulation.since),
        complete=simulation.complete,
    )


def _change_out(changed: Changed) -> pb.SimulatedChange:
    question = changed.question
    return pb.SimulatedChange(
        action_id=question.action.id,
        proposed_at=moment(question.action.proposed_at),
        identity=question.identity_name,
        target=question.target.name,
        command=question.action.command,
        before=_answer_out(changed.before),
        after=_answer_out(changed.after),
    )


def _answer_out(answer: Answer) -> pb.PolicyAnswer:
    made = pb.PolicyAnswer(
        decision=answer.decision, quorum=answer.quorum, roles=sorted(answer.roles), rules=answer.rules,
        opaque=answer.opaque, watchers=sorted(answer.watchers or ()),
    )  # fmt: skip
    if answer.command_class is not None:
        made.command_class = class_value(answer.command_class)
    return made


def explanation_out(about: Rule | Decided) -> pb.ExplainPolicyResponse:
    """One policy, or one action."""
    if isinstance(about, Rule):
        return pb.ExplainPolicyResponse(rule=_rule_out(about))
    return pb.ExplainPolicyResponse(action=_decided_out(about))


def _rule_out(rule: Rule) -> pb.PolicyRule:
    return pb.PolicyRule(
        id=rule.id, position=str(rule.where), description=rule.description, text=rule.text, says=told(rule)
    )


def _decided_out(decided: Decided) -> pb.ActionDecision:
    action = decided.action
    return pb.ActionDecision(
        action_id=action.id,
        state=action.state,
        proposed_at=moment(action.proposed_at),
        identity=decided.identity_name,
        target=decided.target_name,
        command=action.command,
        decided=_answer_out(decided.decided),
        policy_version=action.policy_version,
        replayed=None if decided.replayed is None else _answer_out(decided.replayed),
        note=action.note,
    )
