"""What loads and is probably not meant is said, where it stands; the shipped policy is above suspicion."""

from __future__ import annotations

import pytest

from policy.engine import shipped_policy
from policy.lint import warnings
from policy.reading import Problem, read

RUN = 'permit (principal, action == Action::"run", resource)'
APPROVE = 'permit (principal is Person, action == Action::"approve", resource)'
SUSPICIOUS = [
    (f'{RUN} when {{ resource.tier == "trustd" }};', '"trustd"', "did you mean `trusted`?"),
    (f'{APPROVE} when {{ principal.role != "ownr" }};', '"ownr"', "did you mean `owner`?"),
    (f'{RUN} when {{ context.flags.contains("sftpp") }};', '"sftpp"', "did you mean `sftp`?"),
    (f"{RUN}\nunless {{ context.level > 6 }};", "6", "always from 1 to 5, never 6"),
    (f'{RUN} when {{ principal.teams.contains(Team::"ops") }};', '"ops"', 'Team::"TENANT/ops"'),
    (f"{RUN} when {{ false }};", "@id", "never apply: `when"),
    (f"{RUN} unless {{ true }};", "@id", "never apply: `unless"),
    (f'{RUN} when {{ resource.name == "a" && resource.name == "b" }};', "@id", "cannot be 'a' and 'b'"),
    (f"@watched {APPROVE};", "watched", "counts only on a permit of `run`"),
    ('@watched forbid (principal, action == Action::"run", resource);', "watched", "counts only on a permit"),
    (f'@approvers("2") {APPROVE};', "@id", "count only on a permit of `run` or `request`"),
    (f'@roles("owner") {RUN.replace("permit", "forbid")};', "@id", "count only on a permit"),
    ('@approvers("2") permit (principal, action, resource);', "@id", "permits request_unattended and run_unattended"),
]


def _of(text: str) -> list[Problem]:
    reading = read({"a.cedar": text})
    assert not reading.problems
    return [problem for problem in warnings(reading.rules, shipped_policy()) if problem.where.file == "a.cedar"]


@pytest.mark.parametrize(("text", "word", "said"), SUSPICIOUS, ids=[said for _, _, said in SUSPICIOUS])
def test_what_is_suspicious(text: str, word: str, said: str) -> None:
    """One warning, at the word that it is about; never an error, for the set may still be what was meant."""
    whole = f'@id("x") {text}'
    (problem,) = _of(whole)
    lines = whole[: whole.index(word)].split("\n")
    assert str(problem).startswith(f"a.cedar:{len(lines)}:{len(lines[-1]) + 1}: warning: x: ")
    assert said in problem.message


@pytest.mark.parametrize(
    "text",
    [
        f'{RUN} when {{ resource.tier == "trusted" && context.level <= 5 }};',
        f'{RUN} when {{ resource.name == "a" || resource.name == "b" }};',
        f'{RUN} when {{ principal.teams.contains(Team::"main/ops") }};',
        f'@approvers("2") @roles("owner") {RUN};',
        f"@watched {RUN};",
        f'{RUN} when {{ context.flags.contains("forward=db.internal:5432") || context.flags.contains("sftp-root") }};',
    ],
)
def test_what_is_not(text: str) -> None:
    """What may well be meant is left in peace."""
    assert _of(f'@id("x") {text}') == []


def test_the_shipped_policy_is_above_suspicion() -> None:
    """The default gives no warning at all."""
    assert warnings(read(shipped_policy()).rules, shipped_policy()) == ()


def test_missing_defaults_are_named_with_what_still_holds() -> None:
    """I-12, I-16, I-40: which shipped forbid is gone, and whether the broker itself still holds it."""
    everything = read({"a.cedar": '@id("all") permit (principal, action, resource);'}).rules
    said = {problem.message for problem in warnings(everything, shipped_policy())}
    gone = {text.split("`")[1]: "still safe" in text for text in said}
    assert gone == {
        "tenant.isolation": True, "grant.ceiling": True, "opaque.asks": True, "approve.not_oneself": True,
        "approve.tenant": True, "reboot.asks": False,
    }  # fmt: skip


def test_a_permit_under_the_name_of_a_shipped_forbid_is_named() -> None:
    """Who looks for `reboot.asks` finds something else: said out loud."""
    said = [p.message for p in _of('@id("reboot.asks") permit (principal, action, resource);')]
    assert said == ["it has the name of a shipped forbid, and is a permit"]


def test_a_set_that_permits_no_question_says_so() -> None:
    """Nobody could ask, be asked, or say yes."""
    said = [p.message for p in warnings(read({"a.cedar": f'@id("x") {APPROVE};'}).rules, shipped_policy())]
    assert sum("no policy permits `" in text for text in said) == 2
