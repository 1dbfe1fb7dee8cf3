"""What the broker tells of policies, as lines for people. Everything that is not ours is escaped."""

from __future__ import annotations

from collections.abc import Iterator

import click
from google.protobuf.timestamp_pb2 import Timestamp

from grantd import asking
from grantd.cli.visible import exact, one_line, readable
from grantd.v1 import admin_pb2

TODAYS = "As of today, for they are not recorded: teams, role, owner of who asked; name, teams, labels of targets."


def problems_text(told: admin_pb2.ValidatePolicyResponse) -> str:
    """`file:line:column: message`, a line each; then whether it loads."""
    lines = [_problem(problem) for problem in told.problems]
    lines.append(f"it loads; version {one_line(told.version)}" if told.version else "it does not load")
    return "\n".join(lines)


def _problem(problem: admin_pb2.PolicyProblem) -> str:
    where = f"{problem.file}:{problem.line}:{problem.column}: " if problem.file else ""
    mark = click.style("warning: ", fg="yellow") if problem.warning else ""
    name = f"{problem.policy}: " if problem.policy else ""
    return f"{one_line(where)}{mark}{one_line(name + problem.message)}"


def simulation_text(told: admin_pb2.SimulatePolicyResponse) -> str:
    """Counts, then what would change."""
    return "\n".join(_simulation(told))


def _simulation(told: admin_pb2.SimulatePolicyResponse) -> Iterator[str]:
    since = _moment(told.since)
    yield f"{told.replayed} action(s) since {since}, {told.changed} would be answered differently"
    if not told.complete:
        yield "older ones of the period are left over: replay them on the broker's host, with grantd policy simulate"
    if told.skipped:
        yield f"{told.skipped} more are about somebody or something that is no more"
    if told.drifted:
        yield f"{told.drifted} of them the policy in force answers differently today than was decided then"
    for count in told.counts:
        yield f"  {one_line(count.before):>14} -> {one_line(count.after):<14} {count.actions}"
    for change in told.changes:
        yield f"{one_line(change.action_id)}  {_moment(change.proposed_at)}  {_who(change.identity, change.target)}"
        yield f"    {exact(change.command)}"
        yield f"    {_answer(change.before)} -> {_answer(change.after)}"
    if told.changed > len(told.changes):
        yield f"and {told.changed - len(told.changes)} more"
    yield TODAYS


def rule_text(rule: admin_pb2.PolicyRule) -> str:
    """What a policy says, in words and as it is written."""
    words = [rule.description, *rule.says] if rule.description else [*rule.says]
    head = f"{click.style(one_line(rule.id), bold=True)}  ({one_line(rule.position)})"
    return "\n".join([head, *map(one_line, words), "", readable(rule.text)])


def decision_text(told: admin_pb2.ActionDecision) -> str:
    """What was decided for an action, and by which policies."""
    return "\n".join(_decision(told))


def _decision(told: admin_pb2.ActionDecision) -> Iterator[str]:
    who = _who(told.identity, told.target)
    yield f"{one_line(told.action_id)}  {one_line(told.state)}  {who}, {_moment(told.proposed_at)}"
    yield f"    {exact(told.command)}"
    yield f"decided then   {_answer(told.decided)}"
    yield f"by policy      {one_line(told.policy_version)}"
    if told.HasField("replayed"):
        yield f"it answers     {_answer(told.replayed)}"
        yield TODAYS
    else:
        yield "that policy, or somebody or something it is asked about, is no more: its rules cannot be told"
    if told.note:
        yield f"note           {one_line(told.note)}"


def _who(identity: str, target: str) -> str:
    return f"{one_line(identity)} on {one_line(target)}"


def _moment(at: Timestamp) -> str:
    return f"{at.ToDatetime():%Y-%m-%d %H:%M:%S} UTC"


def _answer(answer: admin_pb2.PolicyAnswer) -> str:
    """`needs_approval by 2 of owner, as write [run.team]`."""
    asked = f" by {answer.quorum} of {' or '.join(answer.roles)}" if answer.quorum else ""
    seen = f", as {asking.class_word(answer.command_class)}" if answer.command_class else ""
    opaque = " (not inspectable)" if answer.opaque else ""
    watched = f", watched by {' or '.join(answer.watchers)}" if answer.watchers else ""
    rules = f" [{', '.join(answer.rules)}]" if answer.rules else ""
    return one_line(f"{answer.decision}{asked}{seen}{opaque}{watched}{rules}")
