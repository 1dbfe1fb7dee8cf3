"""Cedar: texts to policies, questions to answers. The only module that knows cedarpy; it decides nothing.

The schema is parsed once. Entities are parsed once for a principal and a target as they stand: in a row of questions
only the context is new.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any, Final

import cedarpy

Parsed = Mapping[str, Any]
"""One policy as Cedar's own JSON has it."""
_ENTITIES_KEPT = 1_024
MAX_CHARACTERS: Final = 16_384
"""Of one policy: Cedar holds every other thread up while it parses, 0.1 s for so many."""
MAX_NESTING: Final = 32
"""Brackets inside each other. Cedar's parser recurses and knows no bound: some 600 end the process, 160 on a stack of
2 MiB."""
MAX_OPERATORS: Final = 400
"""Of one text; it recurses over these too, and then some 1,000 are too many."""
STRING: Final = r'"(?:[^"\\]|\\.|\\\Z)*(?:"|\Z)'
"""As a pattern under DOTALL. One that never ends takes the rest with it: looked for again, it would cost a square."""
COMMENT: Final = r"//[^\n\r]*"
"""As a pattern. It ends at a carriage return too: what stands behind that decides."""
_PLAIN = re.compile(f"{STRING}|{COMMENT}", re.DOTALL)
_OPERATOR = re.compile(r"&&|\|\||[-+*!.]|[=!<>]=|[<>]|\b(?:if|has|like|in|is)\b")
_BRACKET = re.compile(r"[][(){}]")
_TOO_LONG: Final = f"it is longer than {MAX_CHARACTERS} characters: divide it into several policies"
_TOO_DEEP: Final = 'it nests too deeply: for many names write a set, as in ["a", "b"].contains(resource.name)'


class CedarError(ValueError):
    """Cedar cannot read a text. The message is Cedar's; it has no position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What Cedar said to one question. `reasons` are the policies that decided; with an `error` nothing is allowed."""

    allowed: bool
    reasons: tuple[str, ...]
    error: str


@cache
def schema_text() -> str:
    """What policies are validated against, as it is written."""
    return resources.files("policy").joinpath("schema.cedarschema").read_text("utf-8")


@cache
def _schema() -> cedarpy.Schema:
    return cedarpy.Schema.from_str(schema_text())


def parse(text: str) -> tuple[Parsed, ...]:
    """The policies of a text, in order; a template counts as one. Whatever is returned can be asked.

    Raises:
        CedarError: a syntax error, or a text too long or too deeply nested to be read and asked.
    """
    if len(text) > MAX_CHARACTERS:
        raise CedarError(_TOO_LONG)
    if _is_deep(text):
        raise CedarError(_TOO_DEEP)
    try:
        written = cedarpy.policies_to_json_str(text)
    except ValueError as error:
        raise CedarError(str(error)) from None
    try:
        cedarpy.PolicySet.from_json_str(written)  # as `Compiled` will: JSON may nest less than text
        whole = json.loads(written)
    except (ValueError, RecursionError):
        raise CedarError(_TOO_DEEP) from None
    return (*whole["staticPolicies"].values(), *whole.get("templates", {}).values())


def _is_deep(text: str) -> bool:
    """Whether Cedar's parser had better not see it: it would end the process, not fail."""
    bare = _PLAIN.sub("", text)
    depth = deepest = 0
    for bracket in _BRACKET.findall(bare):
        depth += 1 if bracket in "([{" else -1
        deepest = max(deepest, depth)
    return deepest > MAX_NESTING or sum(1 for _ in _OPERATOR.finditer(bare)) > MAX_OPERATORS


def faults(text: str) -> tuple[str, ...]:
    """What the schema has against the one policy of a text, in Cedar's words."""
    return tuple(
        str(problem.error).removeprefix("for policy `policy0`, ")
        for problem in cedarpy.validate_policies(text, _schema()).errors
    )


class Compiled:
    """Policies by id, ready to be asked."""

    __slots__ = ("_policies",)

    def __init__(self, policies: Mapping[str, Parsed]) -> None:
        whole = {"staticPolicies": dict(policies), "templates": {}, "templateLinks": []}
        self._policies = cedarpy.PolicySet.from_json_str(json.dumps(whole))

    def ask(
        self, principal: tuple[str, str], actions: Sequence[str], target: str, context: str, entities: str
    ) -> tuple[Answer, ...]:
        """An answer to each action: types and ids, context and entities as Cedar's JSON. Raises whatever Cedar raises.

        The schema has judged the policies and the entities; judging each context too would cost a fifth of a question,
        and what a context lacks is an error of the policy that looks for it.
        """
        requests = [
            {
                "principal": {"type": principal[0], "id": principal[1]},
                "action": {"type": "Action", "id": action},
                "resource": {"type": "Target", "id": target},
                "context": context,
            }
            for action in actions
        ]
        results = cedarpy.is_authorized_batch(requests, self._policies, _entities(entities), None)
        return tuple(_answer(result) for result in results)


@lru_cache(maxsize=_ENTITIES_KEPT)
def _entities(entities: str) -> cedarpy.Entities:
    return cedarpy.Entities.from_json_str(entities, _schema())


def _answer(result: cedarpy.AuthzResult) -> Answer:
    errors = sorted(map(str, result.diagnostics.errors))  # Cedar keeps no order
    if result.decision is cedarpy.Decision.NoDecision and not errors:
        errors = ["no decision"]
    allowed = result.decision is cedarpy.Decision.Allow and not errors
    return Answer(allowed=allowed, reasons=tuple(sorted(result.diagnostics.reasons)), error="; ".join(errors))
