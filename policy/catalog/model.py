"""The shape of a catalogue entry: what a program does, by its options, operands and sub-commands. Values only."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass

from policy.classes import CommandClass


class Takes(enum.Enum):
    """Whether an option is followed by a value."""

    NOTHING = "flags"
    VALUE = "values"  # `-o x`, `-ox`, `--out x`, `--out=x`
    OPTIONAL = "optional"  # glued only: `-ix`, `--in=x`


class Style(enum.StrEnum):
    """How a program reads words that begin with a dash."""

    GNU = "gnu"  # `-abc` is a cluster, `--long` is one option
    LONG = "long"  # `-abc` is one option (find, java, terraform)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """An operand or value that matches `regex` in full has this class."""

    command_class: CommandClass
    regex: re.Pattern[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option that is known.

    `by_value` decides by the value, if there is one; an unmatched value is not understood.
    """

    takes: Takes
    command_class: CommandClass
    opaque: bool
    egress: bool
    by_value: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What a program (or a sub-command of one) does.

    `base` is its least class; `unknown` the class of what is not understood about it (never below `execute` in effect);
    `any_words` the class that no words whatever can exceed, None where that cannot be promised. `free` promises that
    for every option and operand, so none is listed; it is only for programs that are at least `write`. `reads_if`: one
    of these options makes the call a `read`, if all others are of `reads_if` or `reads_with` and, with `reads_alone`,
    there is no operand; not where an option of each list of `reads_apart` is given, since one undoes the other.
    `talks`: it asks a host, so that a word only the target fills in leaves with the question.
    `configured`: what it runs is named by files near its data, unless the broker's environment says otherwise; its
    sub-commands take no options of its own, and their help is a program too. `origin`: the tenant's own file that
    it stands in, "" for the shipped ones. `keyboard`: whatever is typed into it, in the broker's
    environment, it stays a read.
    """

    name: str
    origin: str
    base: CommandClass
    unknown: CommandClass
    any_words: CommandClass | None
    bare: CommandClass | None
    style: Style
    stops: bool
    digits: bool
    opaque: bool
    egress: bool
    outlives: bool
    free: bool
    talks: bool
    configured: bool
    special: str | None
    runs_after: int | None
    operand_limit: int | None
    operands: tuple[Pattern, ...]
    reads_if: frozenset[str]
    reads_with: frozenset[str]
    reads_apart: tuple[frozenset[str], ...]
    reads_alone: bool
    options: Mapping[str, Option]
    subs: Mapping[str, Program]
    keyboard: bool
    match: tuple[str, ...]
    not_match: tuple[str, ...]
