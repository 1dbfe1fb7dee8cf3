"""Policies and programs of one set: what is in it decides, and its version covers all of it."""

from __future__ import annotations

import pytest

from policy.engine import shipped_policy
from policy.explain import word_of
from policy.ruleset import Ruleset, RulesetError

TOOL = {"t.toml": '[mytool]\nclass = "read"'}


def test_without_a_cedar_file_the_shipped_policy_holds() -> None:
    """Whoever only adds a program need not repeat it."""
    rules = Ruleset.load(TOOL)
    assert rules.version == Ruleset.load({**shipped_policy(), **TOOL}).version
    assert word_of(rules.classify(b"mytool")) == "read"


def test_the_version_covers_every_file() -> None:
    """I-14: what was decided under another set of programs is decided anew."""
    changed = {"t.toml": '[mytool]\nclass = "write"'}
    versions = {Ruleset.load(sources).version for sources in ({}, TOOL, changed, {"u.toml": TOOL["t.toml"]})}
    assert len(versions) == 4


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"notes.md": "x"}, "notes.md: a file of policies ends in .cedar"),
        ({"x.cedar": "permit (principal"}, "x.cedar"),
        ({"x.cedar": ""}, "no policy in it"),
    ],
)
def test_what_cannot_be_used(sources: dict[str, str], message: str) -> None:
    """A file that means nothing is an error, never skipped."""
    with pytest.raises(RulesetError) as caught:
        Ruleset.load(sources)
    assert message in str(caught.value)


def test_what_was_tried_is_not_tried_again() -> None:
    """A shipped entry that rose since leaves a stored set in force: its examples speak for the day it was put."""
    broken = {"t.toml": '[mytool]\nclass = "read"\nmatch = ["write: mytool"]'}
    assert word_of(Ruleset.load(broken, tried=True).classify(b"mytool")) == "read"


def test_all_that_is_wrong_is_told_at_once() -> None:
    """A slip in a policy does not hide one in a file of programs, nor one example the next."""
    with pytest.raises(RulesetError) as caught:
        Ruleset.load({"x.cedar": "permit (principal", "t.toml": "[mytool]\nclas = 'read'"})
    assert "x.cedar" in str(caught.value)
    assert "t.toml:1: [mytool]: unknown key 'clas'" in str(caught.value)
    with pytest.raises(RulesetError) as caught:
        Ruleset.load({"t.toml": '[mytool]\nmatch = ["write: mytool", "install: mytool"]'})
    assert len(str(caught.value).splitlines()) == 2
