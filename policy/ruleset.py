"""What a tenant decides by, loaded from one set of files: Cedar policies (`*.cedar`) and its own programs (`*.toml`).

A set without a Cedar file keeps the shipped policy, so that a tenant who only adds a program need not repeat it. The
version covers everything that decides; a changed version voids what was decided under another (I-14).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from policy import catalog
from policy.catalog import CatalogError, Catalogue, Own, Program
from policy.classes import CommandClass
from policy.engine import Decision, PolicyError, PolicySet, Query, shipped_policy
from policy.explain import word_of
from policy.shell import Verdict, classify_by

__all__ = ["Ruleset", "RulesetError", "must_hold", "unkept"]

_TOLD = 20
"""Broken examples that one message lists."""


class RulesetError(ValueError):
    """A file of the set cannot be used. The message begins with the file, and the line where it is known."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ruleset:
    """Policies and programs that belong together; immutable, safe to share."""

    version: str
    policies: PolicySet
    catalogue: Catalogue
    programs: Mapping[str, str]
    """The texts of its own programs, by file: what `load` makes the same catalogue of."""

    @classmethod
    def load(cls, sources: Mapping[str, str], *, tried: bool = False) -> Ruleset:
        """Read a set from the texts of its files; the examples of its programs are tried.

        Args:
            sources: file name to text; names end in `.cedar` or `.toml`.
            tried: the examples of its programs held before, and are not tried again.

        Raises:
            RulesetError: a policy that `PolicySet.load` refuses, an entry that `catalog.parse_own` refuses, an example
                that does not hold, a file that is neither.
        """
        cedar = {name: text for name, text in sources.items() if name.endswith(".cedar")}
        programs = {name: text for name, text in sources.items() if name.endswith(".toml")}
        strange = sorted(sources.keys() - cedar.keys() - programs.keys())
        if strange:
            raise RulesetError(f"{strange[0]}: a file of policies ends in .cedar, one of programs in .toml")
        cedar = cedar or dict(shipped_policy())
        policies, own = _both(cedar, programs)
        catalogue = catalog.with_own(own) if programs else catalog.shipped_alone()
        broken = () if tried else tuple(unkept(catalogue, own.programs.values()))
        if broken:
            raise RulesetError("\n".join(broken[:_TOLD]))
        return cls(version=_version({**cedar, **programs}), policies=policies, catalogue=catalogue, programs=programs)

    def classify(self, command: bytes) -> Verdict:
        """What a command line does, by the shipped programs and the tenant's own. Total, as `policy.shell`."""
        return classify_by(self.catalogue, command)

    def decide(self, query: Query) -> Decision:
        """The answer to one question. Never raises: what cannot be decided is denied."""
        return self.policies.decide(query)

    def lowers(self, before: Ruleset) -> frozenset[str]:
        """Programs whose shipped entry is replaced here and was not, or not so, before (I-17: two people)."""
        mine, theirs = self.catalogue.lowered, before.catalogue.lowered
        return frozenset(name for name, program in mine.items() if theirs.get(name) != program)


def _both(cedar: Mapping[str, str], programs: Mapping[str, str]) -> tuple[PolicySet, Own]:
    """Both halves, or what is wrong with either, so that an operator sees all of it at once."""
    wrong: list[str] = []
    policies = own = None
    try:
        policies = PolicySet.load(cedar)
    except PolicyError as error:
        wrong.append(str(error))
    try:
        own = catalog.parse_own(programs)
    except CatalogError as error:
        wrong.append(str(error))
    if policies is None or own is None:
        raise RulesetError("\n".join(wrong))
    return policies, own


@cache
def must_hold() -> None:
    """Tries every example of the shipped catalogue, once a process, so that a parser that changed its mind is seen.

    Raises:
        RulesetError: the first example that does not hold.
    """
    for broken in unkept(catalog.shipped_alone(), catalog.shipped().values()):
        raise RulesetError(broken)


def unkept(catalogue: Catalogue, programs: Iterable[Program]) -> Iterator[str]:
    """The examples of these programs that do not hold under the catalogue, each as a line for people.

    `match` is `CLASS: COMMAND` and has exactly that class; `not_match` has a higher one, or is refused.
    """
    each = {id(program): program for program in programs}  # one entry may stand under several names
    for program in each.values():
        for kind, lines in (("match", program.match), ("not_match", program.not_match)):
            for line in lines:
                wrong = _wrong(catalogue, kind, line)
                if wrong:
                    yield f"{program.origin or 'shipped'}: [{program.name}].{kind}: {line!r}: {wrong}"


def _wrong(catalogue: Catalogue, kind: str, line: str) -> str:
    word, colon, command = line.partition(": ")
    try:
        level = CommandClass.from_word(word)
    except ValueError:
        return "an example is written `class: command`"
    if not colon or not command:
        return "an example is written `class: command`"
    got = word_of(classify_by(catalogue, command.encode("utf-8", "surrogatepass")))
    if kind == "match":
        return "" if got == word else f"it is {got}"
    kept = got == "refused" or CommandClass.from_word(got) > level
    return "" if kept else f"it is {got}, and must be higher"


def _version(sources: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(sources), sort_keys=True).encode()).hexdigest()
