"""Every problem of every file at once, each with the place and the name that was meant."""

from __future__ import annotations

import pytest

from policy.cedar import Compiled, schema_text
from policy.engine import PolicyError, PolicySet, shipped_policy
from policy.reading import ACTIONS, MAX_PROBLEMS, PRINCIPALS, read
from policy.vocabulary import context_attributes, entity_attributes

RUN = 'permit (principal, action == Action::"run", resource)'
MEANT = [
    (f"{RUN} when {{ context.levl == 1 }};", "levl", "did you mean `level`?"),
    (f"{RUN}\nwhen {{ resource.tear == context.login }};", "tear", "did you mean `tier`?"),
    (f'{RUN}\n\nwhen {{ context.ttl > duration("1h") }};', "ttl", "only request, request_unattended have it"),
    (f'{RUN} when {{ principal.role == "owner" }};', "role", "it belongs to Person: name the type in the head"),
    ('permit (principal, action == Action::"rum", resource);', '"rum"', "did you mean `run`?"),
    ("permit (principal is Agnt, action, resource);", "Agnt", "did you mean `Agent`?"),
    (f'@aprovers("2") {RUN};', "@aprovers", "did you mean `approvers`?"),
    (f'@roles("ownr") {RUN};', "@roles", "did you mean `owner`?"),
    (f"{RUN} whenn {{ true }};", "whenn", "did you mean `when`?"),
    (f'{RUN} when {{ context.now.toTme() > duration("1h") }};', "toTme", "did you mean `toTime`?"),
    (f"{RUN} when {{ context.level == == 1 }};", "== 1", "unexpected token `==`"),
    (f'{RUN} when {{ resource.getTag("env") == "p" }};', '"env"', "ask `resource.hasTag(...) && ` first"),
    ('permit (principal is Agent, action == Action::"approve", resource);', "@id", "it can never apply"),
]


@pytest.mark.parametrize(("text", "word", "said"), MEANT, ids=[said for _, _, said in MEANT])
def test_what_was_meant_and_where(text: str, word: str, said: str) -> None:
    """I-17: one problem, at the character that it is about, with the name that was probably meant."""
    whole = f'@id("x") {text}'
    (problem,) = read({"a.cedar": whole}).problems
    lines = whole[: whole.index(word)].split("\n")
    assert str(problem).startswith(f"a.cedar:{len(lines)}:{len(lines[-1]) + 1}: ")
    assert said in problem.message


def test_every_problem_of_every_file_at_once() -> None:
    """Two files, four problems, by file and line; what can be read beside them is read."""
    sources = {
        "b.cedar": f'@id("one") {RUN} when {{ context.levl == 1 && context.foo }};\n@id("two") {RUN};',
        "a.cedar": f'// first\n{RUN};\n@id("three") permit (principal;\n',
    }
    reading = read(sources)
    assert [(p.where.file, p.where.line) for p in reading.problems] == [
        ("a.cedar", 2), ("a.cedar", 3), ("b.cedar", 1), ("b.cedar", 1),
    ]  # fmt: skip
    assert [rule.id for rule in reading.rules] == ["two"]
    with pytest.raises(PolicyError, match=r"^a\.cedar:2:1: .* \(and 3 more\)$") as caught:
        PolicySet.load(sources)
    assert caught.value.problems == reading.problems


def test_a_rule_knows_its_place_and_what_its_head_matches() -> None:
    """Where it stands, what it says of itself, which actions and kinds of principal it can decide at all."""
    approve = 'forbid (principal is Person, action == Action::"approve", resource);'
    text = f'// a\n\n  @id("x") @description("why") {RUN};\n@id("y") {approve}'
    one, two = read({"a.cedar": text}).rules
    assert (str(one.where), one.description, one.actions) == ("a.cedar:3:3", "why", frozenset({"run"}))
    assert (str(two.where), two.principals) == ("a.cedar:4:1", frozenset({"Person"}))


def test_the_shipped_policy_has_no_problem() -> None:
    """The default loads, and every one of its rules says which file it is from."""
    reading = read(shipped_policy())
    assert not reading.problems
    assert {rule.where.file for rule in reading.rules} == {"tiers.cedar"}


def test_names_come_from_the_schema() -> None:
    """What is suggested is what the schema has: each entity type and action in it, and nothing else."""
    assert set(context_attributes()) == set(ACTIONS)
    assert {"Team", "Target", *PRINCIPALS} == set(entity_attributes())
    for names in (*context_attributes().values(), *entity_attributes().values()):
        assert all(f"{name}:" in schema_text() for name in names)


OPEN, CLOSE = "(" * 100_000, ")" * 100_000
HOSTILE = {
    "brackets": f"{RUN} when {{ {OPEN}true{CLOSE} }};",
    "brackets behind a carriage return": f"// x\r{RUN} when {{ {OPEN}true{CLOSE} }};",
    "sets": f"{RUN} when {{ {'[' * 100_000}",
    "and": f"{RUN} when {{ {'true && ' * 30_000} true }};",
    "if": f"{RUN} when {{ {'if true then ' * 15_000} true }};",
    "dots": f"{RUN} when {{ principal{'.x' * 100_000} }};",
    "calls": f"{RUN} when {{ principal.teams{'.contains(1)' * 20_000} }};",
    "has": f"{RUN} when {{ principal has {'a.' * 100_000}a }};",
    "a long list": f"{RUN} when {{ [{'1,' * 100_000}1].contains(1) }};",
    "a string without an end": '"' + '\\"' * 100_000,
    "statements": ";" * 200_000,
    "the wrong token, often": f"{RUN} when {{ {'[1] == ' * 300} ] }};",
    "unknown annotations": " ".join(f'@x{n}("")' for n in range(15_000)) + f" {RUN};",
    "unknown names": f'@id("x") {RUN} when {{ context.levl }};' * 4_000,
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_ends_the_process_or_holds_it(text: str) -> None:
    """I-60: no text makes Cedar run out of stack and end the broker; each is read soon, with problems."""
    reading = read({"x.cedar": text})
    assert reading.problems
    assert len(reading.problems) <= MAX_PROBLEMS


@pytest.mark.parametrize("joined", ["||", "&&"])
def test_what_loads_can_be_asked(joined: str) -> None:
    """I-16: what nests deeper than Cedar's JSON may is refused; loaded, it would deny everything."""
    for number in range(20, 80):
        body = f" {joined} ".join(f'resource.name == "h{n}"' for n in range(number))
        reading = read({"x.cedar": f'@id("x") {RUN} when {{ {body} }};'})
        if reading.problems:
            assert "write a set" in reading.problems[0].message
        for rule in reading.rules:
            Compiled({rule.id: rule.parsed})
    assert not reading.rules


def test_a_comment_ends_where_cedar_ends_it() -> None:
    """I-16: a forbid behind a carriage return is one for Cedar, so it is never taken for a part of a comment."""
    (rule,) = read({"x.cedar": '// why\r@id("stop") forbid (principal, action, resource);'}).rules
    assert rule.id == "stop"
