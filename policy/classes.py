"""The two scales everything is decided on: what a command does, and how far a target lets agents go alone.

Holds names and their order only; what they permit is written in Cedar (`tiers.cedar`), what has which class in the
catalogue.
"""

from __future__ import annotations

import enum


class CommandClass(enum.IntEnum):
    """What a command does, in rising order; a command line has the highest class of its parts."""

    READ = 1
    WRITE = 2
    EXECUTE = 3
    INSTALL = 4
    REBOOT = 5

    @property
    def word(self) -> str:
        """The class as it is written in policies, on the wire and in the terminal: "read" to "reboot"."""
        return self.name.lower()

    @property
    def phrase(self) -> str:
        """The class in a sentence: "a read", "an execute"."""
        return f"{'an' if self.word[0] in 'aeiou' else 'a'} {self.word}"

    @classmethod
    def from_word(cls, word: str) -> CommandClass:
        """The class a word names.

        Raises:
            ValueError: the word names no class (there is no other spelling, and no default).
        """
        try:
            return _BY_WORD[word]
        except KeyError:
            raise ValueError(f"no such command class: {word!r} (known: {', '.join(_BY_WORD)})") from None


_BY_WORD = {cls.word: cls for cls in CommandClass}


class Tier(enum.StrEnum):
    """How far agents act alone on a target; the table behind each is in `tiers.cedar`."""

    APPROVAL = "approval"
    TRUSTED = "trusted"
    CLOSED_LOOP = "closed_loop"


_LOOSENESS = {Tier.APPROVAL: 0, Tier.TRUSTED: 1, Tier.CLOSED_LOOP: 2}


def stricter(one: Tier, other: Tier) -> Tier:
    """The tier of the two that lets less run unattended."""
    return min(one, other, key=_LOOSENESS.__getitem__)


def is_looser(tier: Tier, than: Tier) -> bool:
    """Whether `tier` lets more run unattended than `than`."""
    return _LOOSENESS[tier] > _LOOSENESS[than]
