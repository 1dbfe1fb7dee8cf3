"""Policy files as they are read: statements, positions, annotations, and every problem of every file at once.

Cedar names no position; it is found again from what Cedar says: the token it stumbled over, the name it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Final

from policy import cedar
from policy.cedar import COMMENT, STRING, CedarError, Parsed
from policy.complaints import Complaint, complaints, of_syntax
from policy.vocabulary import ANNOTATIONS, APPROVER_ROLES, context_attributes, meant

MAX_QUORUM: Final = 10
MAX_PROBLEMS: Final = 200
"""Told of one reading: nobody reads more, and each takes looking for."""
ACTIONS: Final = ("request", "request_unattended", "run", "run_unattended", "approve")
PRINCIPALS: Final = ("Agent", "Person")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
# A statement ends at a `;` that is in no string and no comment; Cedar has no other kind of either.
_STATEMENT = re.compile(rf'(?:{STRING}|{COMMENT}|[^;"])*;?', re.DOTALL)
_BLANK = re.compile(rf"(?:\s|{COMMENT})*")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Position:
    """Where something stands. Lines and columns count from 1, columns in characters."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Problem:
    """What is wrong with a policy, or may be; `policy` is its id, "" where it has none."""

    where: Position
    policy: str
    message: str
    warning: bool = False

    def __str__(self) -> str:
        mark = "warning: " if self.warning else ""
        return f"{self.where}: {mark}{self.policy and f'{self.policy}: '}{self.message}"


class PolicyError(ValueError):
    """A policy file says something that cannot be used.

    The message begins with `file:line:column` of the first problem; `problems` are all of them.
    """

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Obligation:
    """What a permit asks of the approval that it leads to, and of the session; `roles` empty for the default."""

    quorum: int
    roles: frozenset[str]
    watchers: frozenset[str] = frozenset()
    """Roles of whom one must watch while it runs; empty: nobody has to."""


PLAIN: Final = Obligation(quorum=1, roles=frozenset())
"""Of a permit that asks for nothing of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One policy. `actions` and `principals` are what its head can match at all; the rest it can never decide."""

    id: str
    where: Position
    text: str
    description: str
    effect: str
    actions: frozenset[str]
    principals: frozenset[str]
    obligation: Obligation
    parsed: Parsed = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All that can be used, and all that is wrong, by position; once MAX_PROBLEMS are found the rest is not read."""

    rules: tuple[Rule, ...]
    problems: tuple[Problem, ...]


def read(sources: Mapping[str, str]) -> Reading:
    """Read the texts of files: file name to Cedar text. Never raises."""
    rules: dict[str, Rule] = {}
    problems: list[Problem] = []
    for file in sorted(sources):
        for start, statement in _statements(sources[file]):
            if len(problems) >= MAX_PROBLEMS:
                break
            place = _Place(file, sources[file], start)
            found = _read(place, statement)
            if isinstance(found, Rule) and found.id in rules:
                found = [_problem(place, found.id, Complaint(0, f"@id({found.id!r}) is already taken"))]
            if isinstance(found, Rule):
                rules[found.id] = found
            else:
                problems += found
    if not rules and not problems:
        nowhere = Position(file=", ".join(sorted(sources)) or "no files", line=1, column=1)
        problems.append(Problem(where=nowhere, policy="", message="no policy in it, so nothing would be permitted"))
    return Reading(rules=tuple(rules.values()), problems=tuple(sorted(problems)))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a statement begins in its file."""

    file: str
    text: str
    start: int

    def at(self, offset: int) -> Position:
        """The position of a character of the statement."""
        here = self.start + offset
        line_start = self.text.rfind("\n", 0, here) + 1
        return Position(file=self.file, line=self.text.count("\n", 0, here) + 1, column=here - line_start + 1)


def _problem(place: _Place, policy: str, complaint: Complaint) -> Problem:
    return Problem(where=place.at(complaint.offset), policy=policy, message=complaint.message)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each policy of a file, without the blanks before it, and where it begins."""
    for match in _STATEMENT.finditer(text):
        blank = _BLANK.match(match[0])
        lead = blank.end() if blank else 0
        if match[0][lead:]:
            yield match.start() + lead, match[0][lead:]


def _read(place: _Place, statement: str) -> Rule | list[Problem]:
    """The one policy of a statement, or everything that is wrong with it."""
    try:
        found = cedar.parse(statement)
    except CedarError as error:
        return [_problem(place, "", of_syntax(statement, str(error)))]
    if len(found) != 1 or any(_has_slot(found[0][part]) for part in ("principal", "resource")):
        return [_problem(place, "", Complaint(0, "expected one policy without slots"))]
    annotations = found[0].get("annotations", {})
    name = annotations.get("id") or ""
    found_wrong = chain(_annotation_complaints(statement, annotations), complaints(statement, cedar.faults(statement)))
    wrong = list(islice(found_wrong, MAX_PROBLEMS))
    if wrong:
        return [_problem(place, name if _ID.fullmatch(name) else "", each) for each in wrong]
    return Rule(
        id=name,
        where=place.at(0),
        text=statement,
        description=annotations.get("description") or "",
        effect=found[0]["effect"],
        actions=_actions(found[0]["action"]),
        principals=_principals(found[0]["principal"]),
        obligation=_obligation(annotations),
        parsed=found[0],
    )


def _has_slot(scope: Parsed) -> bool:
    return "slot" in scope or "slot" in scope.get("in", {})


def _annotation_complaints(statement: str, annotations: Mapping[str, str | None]) -> Iterator[Complaint]:
    if not _ID.fullmatch(annotations.get("id") or ""):
        yield Complaint(0, "every policy needs an @id of letters, digits, '.', '_' and '-'")
    for key in sorted(set(annotations) - ANNOTATIONS):
        yield Complaint(_of_annotation(statement, key), f"unknown annotation @{key}{meant(key, ANNOTATIONS)}")
    number = annotations.get("approvers", "1") or ""
    if not _is_quorum(number):
        at = _of_annotation(statement, "approvers")
        yield Complaint(at, f"@approvers takes a number from 1 to {MAX_QUORUM}, not {number!r}")
    words = (annotations.get("roles") or "").split()
    at = _of_annotation(statement, "roles")
    for word in words:
        if word not in APPROVER_ROLES:
            yield Complaint(at, f"@roles names {word!r}{meant(word, APPROVER_ROLES)}")
    if "roles" in annotations and not words:
        yield Complaint(at, f"@roles names nothing; known: {', '.join(sorted(APPROVER_ROLES))}")
    at = _of_annotation(statement, "watched")
    for word in (annotations.get("watched") or "").split():
        if word not in APPROVER_ROLES:
            yield Complaint(at, f"@watched names {word!r}{meant(word, APPROVER_ROLES)}")


def _of_annotation(statement: str, key: str) -> int:
    found = re.search(rf"@{re.escape(key)}\b", statement)
    return found.start() if found else 0


def _is_quorum(number: str) -> bool:
    return number.isascii() and number.isdecimal() and 1 <= int(number) <= MAX_QUORUM


def _obligation(annotations: Mapping[str, str | None]) -> Obligation:
    words = (annotations.get("roles") or "").split()
    watchers = frozenset((annotations.get("watched") or "").split()) or APPROVER_ROLES
    return Obligation(
        quorum=int(annotations.get("approvers") or "1"),
        roles=frozenset(words),
        watchers=watchers if "watched" in annotations else frozenset(),
    )


def _actions(scope: Parsed) -> frozenset[str]:
    """The actions that a head can match. No action has parents, so `in` is `==` with any of a list."""
    match scope:
        case {"op": "==", "entity": {"id": str(name)}} | {"op": "in", "entity": {"id": str(name)}}:
            return frozenset({name})
        case {"op": "in", "entities": list(entities)}:
            return frozenset(entity["id"] for entity in entities)
        case _:  # everything, and whatever a later Cedar may say: taking too many along changes no answer
            return frozenset(context_attributes())


def _principals(scope: Parsed) -> frozenset[str]:
    match scope:
        case {"op": "is", "entity_type": str(kind)} | {"op": "==", "entity": {"type": str(kind)}}:
            return frozenset({kind})
        case _:
            return frozenset(PRINCIPALS)
