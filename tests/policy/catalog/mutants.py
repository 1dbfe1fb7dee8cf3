"""The catalogue with one restriction taken out, for the question whether any example or labelled line would notice.

A restriction is whatever raises a class or a flag: an option's class, an operand's, a sub-command's, the entry's own,
a special reader. Knows no test and judges nothing.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from policy import catalog
from policy.catalog.model import Option, Pattern, Program
from policy.classes import CommandClass
from policy.shell import Refused, Verdict, classify, classify_by
from tests.policy.scoring.lines import OWN, load

READ = CommandClass.READ
SUB = "sub-command "


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """An entry with one restriction less. `kind` names the restriction, `where` the place, for people."""

    kind: str
    where: str
    program: Program


def mutants(program: Program) -> Iterator[Mutant]:
    """Every way to take one restriction out of an entry or of one of its sub-commands."""
    for kind, where, weaker in _weaker(program):
        yield Mutant(kind=kind, where=f"{program.name}{where}", program=weaker)


def _weaker(program: Program) -> Iterator[tuple[str, str, Program]]:
    yield from _flags(program)
    for name, option in program.options.items():
        for kind, less in _weaker_options(option):
            yield kind, f" {name}", replace(program, options={**program.options, name: less})
    for at, pattern in enumerate(program.operands):
        if pattern.command_class > max(READ, program.base):  # below its program's own class it says nothing
            lowered = replace(program, operands=_lowered(program.operands, at))
            yield "operand", f" operand {pattern.regex.pattern}", lowered
    for name, sub in program.subs.items():
        for kind, where, weak in _weaker(sub):
            if program.options.get(where.strip()) is None:  # the parent's options are told of there
                yield f"{SUB}{kind}", f" {name}{where}", replace(program, subs={**program.subs, name: weak})


def _flags(program: Program) -> Iterator[tuple[str, str, Program]]:
    if program.base > READ:
        yield "class", "", replace(program, base=READ, free=False)
    if program.bare is not None and program.bare > READ:
        yield "bare", " alone", replace(program, bare=READ)
    for kind in ("opaque", "egress", "outlives", "talks", "configured", "reads_alone"):
        if getattr(program, kind):
            weaker = dict.fromkeys([kind], False)
            yield kind, "", replace(program, **weaker)  # type: ignore[arg-type]  # every one of them is a bool
    if program.reads_apart:
        yield "reads_apart", "", replace(program, reads_apart=())
    if program.special:
        yield "special", "", replace(program, special=None)
    if program.operand_limit is not None:
        yield "operand_limit", "", replace(program, operand_limit=None)
    if program.operands:
        yield "operands", "", replace(program, operands=())


def _weaker_options(option: Option) -> Iterator[tuple[str, Option]]:
    if option.command_class > READ:
        yield "option", replace(option, command_class=READ)
    if option.by_value:
        yield "by_value", replace(option, by_value=())
    if option.opaque:
        yield "option opaque", replace(option, opaque=False)
    if option.egress:
        yield "sends", replace(option, egress=False)


def _lowered(patterns: Sequence[Pattern], at: int) -> tuple[Pattern, ...]:
    return tuple(
        replace(pattern, command_class=READ) if place == at else pattern for place, pattern in enumerate(patterns)
    )


@cache
def lines() -> tuple[bytes, ...]:
    """Every example of the catalogue and every labelled line."""
    programs = {id(program): program for program in catalog.shipped().values()}.values()
    examples = [line.partition(": ")[2] for one in programs for line in (*one.match, *one.not_match)]
    return (*(example.encode() for example in examples), *(line.command for line in load(OWN)))


@cache
def _by_word() -> Mapping[str, tuple[bytes, ...]]:
    """The lines by the words they hold, quotes taken away."""
    found: dict[str, list[bytes]] = {}
    for line in lines():
        for word in set(re.findall(r"[\w.+\[:-]+", line.decode("utf-8", "replace").replace("'", "").replace("\\", ""))):
            found.setdefault(word, []).append(line)
    return {word: tuple(some) for word, some in found.items()}


def names_of(program: Program) -> tuple[str, ...]:
    """Every name an entry is found by."""
    return tuple(name for name, one in catalog.shipped().items() if one is program)


def is_noticed(mutant: Mutant, original: Program) -> bool:
    """Whether the verdict on any line that names the program changes."""
    names = names_of(original)
    about = dict.fromkeys(line for name in names for line in _by_word().get(name, ()))
    changed = {**catalog.shipped_alone().entries, **dict.fromkeys(names, (mutant.program,))}
    weaker = replace(catalog.shipped_alone(), entries=changed)
    return any(_said(classify_by(weaker, line)) != _before(line) for line in about)


@cache
def _before(line: bytes) -> tuple[object, ...]:
    return _said(classify(line))


def _said(verdict: Verdict) -> tuple[object, ...]:
    if isinstance(verdict, Refused):
        return (verdict.rule,)
    return verdict.command_class, verdict.opaque, verdict.egress, verdict.outlives


def main() -> int:
    """Print which restrictions no line would miss, and how many of each kind one would."""
    noticed: Counter[str] = Counter()
    unnoticed: Counter[str] = Counter()
    for program in {id(program): program for program in catalog.shipped().values()}.values():
        for mutant in mutants(program):
            seen = is_noticed(mutant, program)
            (noticed if seen else unnoticed)[mutant.kind] += 1
            if not seen:
                sys.stdout.write(f"{mutant.kind}: {mutant.where}\n")
    for kind in sorted(noticed | unnoticed):
        sys.stdout.write(f"{kind}: {noticed[kind]} of {noticed[kind] + unnoticed[kind]} noticed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
