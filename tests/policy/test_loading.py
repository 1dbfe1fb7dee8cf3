"""A policy that cannot be used is an error before it can decide anything, and says where."""

from __future__ import annotations

import pytest

from policy.engine import Deny, PolicyError, PolicySet
from tests.policy.questions import PERMIT_ALL, READ, action, load


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no policy in it"),
        ("// nothing\n", "no policy in it"),
        ("permit (principal, action, resource);", "test.cedar:1:1: every policy needs an @id"),
        ('@id("") permit (principal, action, resource);', "every policy needs an @id"),
        ('@id("a b") permit (principal, action, resource);', "every policy needs an @id"),
        (f"{PERMIT_ALL}\n\n{PERMIT_ALL}", "test.cedar:3:1: all: @id('all') is already taken"),
        ('// x;\n@id("x")\npermit (principal, action, resource', "test.cedar:2:1: unexpected end of input"),
        (f'{PERMIT_ALL}\n@id("x") permit (principal action, resource);', "test.cedar:2:28: unexpected token"),
        ('@id("x") permit (principal, action, resource) when { context.foo == 1 };', "attribute `foo`"),
        ('@id("x") permit (principal, action == Action::"zap", resource);', "unrecognized action"),
        ('@id("x") permit (principal == ?principal, action, resource);', "expected one policy without slots"),
        ('@id("x") @quorum("2") permit (principal, action, resource);', "unknown annotation @quorum"),
        ('@id("x") @approvers("0") permit (principal, action, resource);', "@approvers takes a number"),
        ('@id("x") @approvers("two") permit (principal, action, resource);', "@approvers takes a number"),
        ('@id("x") @watched("boss") permit (principal, action, resource);', "@watched names 'boss'"),
        ('@id("x") @approvers permit (principal, action, resource);', "@approvers takes a number"),
        ('@id("x") @roles("boss") permit (principal, action, resource);', "@roles names"),
        ('@id("x") @roles("") permit (principal, action, resource);', "@roles names nothing"),
        ('@id("x") permit (principal, action, resource) when { principal.tenant == "a;b" } "', "test.cedar:1:1: "),
    ],
)
def test_what_is_not_loaded(text: str, message: str) -> None:
    """I-17: a policy that cannot be used is an error with file and line, before it can decide anything."""
    with pytest.raises(PolicyError, match=r"^test\.cedar") as caught:
        load(text)
    assert message in str(caught.value)


def test_no_files_are_no_policy() -> None:
    """An empty set would deny everything; it is an error instead."""
    with pytest.raises(PolicyError, match="no policy"):
        PolicySet.load({})


def test_strings_and_comments_do_not_end_a_policy() -> None:
    """A semicolon in a string or a comment belongs to the policy it stands in."""
    text = '@id("x") permit (principal, action, resource) when { // a; b "\n principal.tenant == "t;\\"1" };'
    assert isinstance(load(text).decide(action(READ)), Deny)


def test_the_version_names_the_sources() -> None:
    """I-14: the version changes with every byte and every file name, and with nothing else."""
    one = PolicySet.load({"a.cedar": PERMIT_ALL})
    assert one.version == PolicySet.load({"a.cedar": PERMIT_ALL}).version
    assert len(one.version) == 64
    assert one.version != PolicySet.load({"a.cedar": PERMIT_ALL + " "}).version
    assert one.version != PolicySet.load({"b.cedar": PERMIT_ALL}).version
