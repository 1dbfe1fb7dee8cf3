"""What Cedar has against a statement, in an operator's words and with the place it is about. Pure text."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from policy.cedar import COMMENT, STRING, CedarError, parse
from policy.vocabulary import CALLS, KEYWORDS, context_attributes, entity_attributes, meant

_TOKEN = re.compile(rf"{STRING}|{COMMENT}|\w+|::|[=!<>]=|&&|\|\||\S", re.DOTALL)
_CONTEXT = re.compile(r"attribute `([^`]+)` in context for Action::\"(\w+)\" not found")
_ATTRIBUTE = re.compile(r"attribute `([^`]+)` on entity type `(\w+)` not found")
_NO_ACTION = re.compile(r'unrecognized action `Action::"([^"]*)"`')
_NO_TYPE = re.compile(r"unrecognized entity type `(\w+)`")
_NO_CALL = re.compile(r"`(\w+)` is not a valid (?:function|method)")
_NO_WORD = re.compile(r"(?:invalid policy (?:condition|effect)|found an invalid variable in the policy scope): (\w+)")
_NO_TOKEN = re.compile(r"unexpected token `(.*)`", re.DOTALL)
_QUOTED = re.compile(r"`([^`]+)`")
_NEVER: Final = "unable to find an applicable action given the policy scope constraints"
_UNFINISHED: Final = "unexpected end of input"


class Complaint(NamedTuple):
    """What is wrong at a character of a statement."""

    offset: int
    message: str


def of_syntax(statement: str, said: str) -> Complaint:
    """What Cedar's parser said, at the token that it is about."""
    if token := _NO_TOKEN.fullmatch(said):
        return Complaint(_first_wrong(statement, token[1]), said)
    if call := _NO_CALL.search(said):
        return Complaint(offset_of(statement, call[1]), said + meant(call[1], CALLS))
    if word := _NO_WORD.search(said):
        return Complaint(offset_of(statement, word[1]), said + meant(word[1], KEYWORDS))
    if said == _UNFINISHED:
        return Complaint(0, f"{said}: the policy that begins here never ends")
    quoted = _QUOTED.search(said)
    return Complaint(offset_of(statement, quoted[1]) if quoted else 0, said)


def complaints(statement: str, said: Sequence[str]) -> Iterator[Complaint]:
    """What Cedar's validator said, each thing once."""
    told: set[tuple[int, str]] = set()
    unknown = any(_NO_ACTION.search(each) or _NO_TYPE.search(each) for each in said)
    for each in said:
        if each == _NEVER and unknown:
            continue  # follows from the unknown name
        complaint = _of_schema(statement, each)
        # a name that no action of the head has is told once, not once an action
        if (key := (complaint.offset, complaint.message.partition(" for ")[0])) not in told:
            told.add(key)
            yield complaint


def _of_schema(statement: str, said: str) -> Complaint:
    if found := _CONTEXT.search(said):
        return Complaint(offset_of(statement, found[1]), said + _hint(found[1], context_attributes()[found[2]]))
    if found := _ATTRIBUTE.search(said):
        return Complaint(offset_of(statement, found[1]), said + _owner_hint(found[1], found[2]))
    if found := _NO_ACTION.search(said):
        return Complaint(offset_of(statement, f'"{found[1]}"'), said + meant(found[1], context_attributes()))
    if found := _NO_TYPE.search(said):
        return Complaint(offset_of(statement, found[1]), said + meant(found[1], entity_attributes()))
    if said == _NEVER:
        return Complaint(0, "it can never apply: no action takes the principal and the resource of its head")
    hint = "; ask `resource.hasTag(...) && ` first" if "access to tag" in said else ""
    return Complaint(max((offset_of(statement, word) for word in _QUOTED.findall(said)), default=0), said + hint)


def _hint(word: str, here: Sequence[str]) -> str:
    """What was meant; or in which other questions the name does exist."""
    elsewhere = sorted(action for action, names in context_attributes().items() if word in names)
    return f"; only {', '.join(elsewhere)} have it: name the action in the head" if elsewhere else meant(word, here)


def _owner_hint(word: str, kind: str) -> str:
    others = sorted(name for name, attributes in entity_attributes().items() if word in attributes)
    if others:
        return f"; it belongs to {', '.join(others)}: name the type in the head"
    return meant(word, entity_attributes().get(kind, ()))


def offset_of(statement: str, word: str) -> int:
    """Where a token first stands in a statement, comments aside; the statement's beginning if it does not."""
    return next((match.start() for match in _TOKEN.finditer(statement) if match[0] == word), 0)


def _first_wrong(statement: str, word: str) -> int:
    """Where the parser stumbled over `word`: up to the token before, the text was only unfinished."""
    places = [match.span() for match in _TOKEN.finditer(statement) if match[0] == word]
    # what is wrong stays wrong however the text goes on, so the first such place is found by halving
    found = bisect_left(places, 1, key=lambda place: int(not _is_unfinished(statement[: place[1]])))
    return places[found][0] if found < len(places) else 0


def _is_unfinished(text: str) -> bool:
    try:
        parse(text)
    except CedarError as error:
        return str(error) == _UNFINISHED
    return True
