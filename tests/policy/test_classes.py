"""The two scales."""

from __future__ import annotations

import pytest

from policy.classes import CommandClass, Tier


def test_classes_rise() -> None:
    """The order is the meaning: a line has the highest class of its parts."""
    assert [cls.word for cls in sorted(CommandClass)] == ["read", "write", "execute", "install", "reboot"]


@pytest.mark.parametrize("cls", CommandClass)
def test_words_name_classes(cls: CommandClass) -> None:
    """A word leads back to its class."""
    assert CommandClass.from_word(cls.word) is cls


@pytest.mark.parametrize("word", ["", "READ", "reads", "refused"])
def test_other_words_name_none(word: str) -> None:
    """There is one spelling and no default."""
    with pytest.raises(ValueError, match="no such command class"):
        CommandClass.from_word(word)


def test_tiers_have_the_names_policies_use() -> None:
    """tiers.cedar compares these words."""
    assert list(Tier) == ["approval", "trusted", "closed_loop"]
