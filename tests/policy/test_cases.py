"""Files of cases: what holds is silent, what does not is told with the answer, and a misspelt key proves nothing."""

from __future__ import annotations

import pytest

from policy.cases import Outcome, run_cases
from policy.engine import shipped_policy
from policy.given import CaseError
from policy.ruleset import RulesetError

OPS = 'principal = { teams = ["ops"] }\ntarget = { teams = ["ops"] }\n'
PERMIT = 'expect = { decision = "permit" }'
WRITE = 'given = { command = "touch /srv/x" }\n'


def _one(case: str, *, given: str = OPS, sources: dict[str, str] | None = None) -> Outcome:
    text = f"[given]\n{given}\n[[case]]\nname = 'it'\n{case}"
    (outcome,) = run_cases("a.test.toml", text, sources or dict(shipped_policy()))
    return outcome


def test_a_case_that_holds() -> None:
    """The whole answer is told, and no difference."""
    outcome = _one(
        f'{WRITE}expect = {{ decision = "needs_approval", quorum = 1, class = "write", rules = ["run.team"] }}'
    )
    assert outcome.differences == ()
    assert outcome.got == (
        "decision needs_approval; quorum 1; roles admin, manager, owner; rules run.team; class write"
    )


@pytest.mark.parametrize(
    ("expect", "difference"),
    [
        ('decision = "permit"', "decision: expected permit, got needs_approval"),
        ('decision = "needs_approval", quorum = 2', "quorum: expected 2, got 1"),
        ('decision = "needs_approval", roles = ["owner"]', "roles: expected owner, got admin, manager, owner"),
        ('decision = "needs_approval", rules = []', "rules: expected none, got run.team"),
        ('decision = "needs_approval", rules = ["tier.read"]', "rules: expected tier.read, got run.team"),
        ('decision = "needs_approval", class = "read"', "class: expected read, got write"),
        ('decision = "deny", quorum = 1', "decision: expected deny, got needs_approval"),
    ],
)
def test_a_case_that_does_not_hold(expect: str, difference: str) -> None:
    """Each part that differs, as expected and as got."""
    assert _one(f"{WRITE}expect = {{ {expect} }}").differences == (difference,)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (f"{WRITE}expect = {{}}", "it: expect: no decision"),
        (f'{WRITE}expect = {{ decision = "permitted" }}', "decision: 'permitted'; did you mean `permit`?"),
        (f'{WRITE}expct = {{ decision = "permit" }}', "case 1: unknown key 'expct'; did you mean `expect`?"),
        (
            'given = { comand = "id" }\n' + PERMIT,
            "unknown key 'comand'; did you mean `command`?",
        ),
        ('given = { class = "write", opaqe = true }\n' + PERMIT, "did you mean `opaque`?"),
        ('given = { class = "wrte" }\n' + PERMIT, "did you mean `write`?"),
        ('given = { command = "id", opaque = false }\n' + PERMIT, "is the classifier's to say"),
        (PERMIT, "a run has either a command or a class"),
        ('given = { ask = "request", command = "id" }\n' + PERMIT, "unknown key 'command'"),
        (
            'given = { ask = "request", ttl = "1 hour" }\n' + PERMIT,
            "ttl is a number with s, m or h",
        ),
        ('given = { class = "read", now = "noon" }\n' + PERMIT, "a date and time with a zone"),
        ('given = { class = "read", now = 2026-01-05T12:00:00 }\n' + PERMIT, "with a zone"),
        ('given = { class = "read", principal = { role = "owner" } }\n' + PERMIT, "has no role"),
        ('given = { class = "read", verified = "yes" }\n' + PERMIT, "verified is true or false"),
        ('given = { class = "read", flags = ["shel"] }\n' + PERMIT, "did you mean `shell`?"),
        (
            'given = { class = "read", target = { labels = { a = 1 } } }\n' + PERMIT,
            "labels are texts",
        ),
        ('given = { class = "read" }\nexpect = { decision = "permit", quorum = true }', "quorum is a number"),
        ("given = 3\nexpect = {}", "given: a table is missing, or is none"),
    ],
)
def test_what_is_no_case(case: str, message: str) -> None:
    """I-17: strict keys and values, with the file, the case and what was meant."""
    with pytest.raises(CaseError, match=r"^a\.test\.toml: ") as caught:
        _one(case)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no [[case]] in it"),
        ("case = 3", "no [[case]] in it"),
        ("[[case]\n", "a.test.toml: "),
        ("[[cases]]\nname = 'x'", "unknown key 'cases'; did you mean `case`?"),
        ("policies = ['other.cedar']\n[[case]]\nname = 'x'", "there is no 'other.cedar' beside it"),
        ("policies = 3\n[[case]]\nname = 'x'", "policies is a list of texts"),
    ],
)
def test_what_is_no_file_of_cases(text: str, message: str) -> None:
    """A file in which nothing is tried is an error, not a success."""
    with pytest.raises(CaseError) as caught:
        run_cases("a.test.toml", text, {"x.cedar": '@id("x") permit (principal, action, resource);'})
    assert message in str(caught.value)


def test_what_policies_are_tried() -> None:
    """All that stands beside the file, or what it lists; `shipped` is the policy that ships."""
    every = {"x.cedar": '@id("x") forbid (principal, action, resource);'}
    case = (
        "[[case]]\nname = 'x'\ngiven = { class = 'read', principal = { teams = ['a'] }, target = { teams = ['a'] } }\n"
    )
    expect = "expect = { decision = 'permit' }\n"
    (beside,) = run_cases("a.test.toml", case + expect, every)
    (listed,) = run_cases("a.test.toml", f"policies = ['shipped']\n{case}{expect}", every)
    (both,) = run_cases("a.test.toml", f"policies = ['shipped', 'x.cedar']\n{case}{expect}", every)
    assert [bool(outcome.differences) for outcome in (beside, listed, both)] == [True, False, True]
    with pytest.raises(RulesetError):
        run_cases("a.test.toml", case + expect, {"x.cedar": "permit ("})


def test_commands_go_through_the_tenants_own_programs() -> None:
    """A program of the tenant's own has the class that its entry says; without the entry it is execute, and opaque."""
    own = {"own.toml": '[stackctl]\nclass = "read"\nsubs.read = "status"'}
    case = 'given = { command = "stackctl status" }\nexpect = { decision = "permit", class = "read" }'
    assert _one(case, sources={**shipped_policy(), **own}).differences == ()
    assert _one(case).differences == (
        "decision: expected permit, got needs_approval", "class: expected read, got execute",
    )  # fmt: skip


def test_a_case_may_say_less_than_its_file_gives() -> None:
    """Tables are merged key by key; a class replaces a command, and the other way round."""
    given = OPS + 'command = "reboot"\n'
    assert _one('given = { class = "read" }\n' + PERMIT, given=given).differences == ()
    trusted = 'given = { target = { tier = "trusted" } }\nexpect = { decision = "needs_approval", class = "reboot" }'
    assert _one(trusted, given=given).differences == ()


def test_a_flag_with_a_value_is_given_as_a_grant_has_it() -> None:
    """A policy that looks at the word `forward`, or at one destination, meets both, as it does in the broker."""
    run = 'forbid (principal, action == Action::"run", resource)'
    no = {"no.cedar": f'@id("no") {run} when {{ context.flags.contains("forward") }};'}
    case = 'given = { class = "read", flags = ["forward=db:5432"] }\nexpect = { decision = "deny", rules = ["no"] }'
    assert _one(case, sources={**shipped_policy(), **no}).differences == ()
    assert _one(case).differences != ()
