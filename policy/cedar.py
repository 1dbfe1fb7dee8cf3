"""Cedar: texts to policies, questions to answers. The only module that knows cedarpy; it decides nothing.

The schema is parsed once. Entities are parsed once for a principal and a target as they stand: in a row of questions
only the context is new.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

import cedarpy

Parsed = Mapping[str, Any]
"""One policy as Cedar's own JSON has it."""
_ENTITIES_KEPT = 1_024


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
    """The policies of a text, in order; a template counts as one.

    Raises:
        CedarError: a syntax error.
    """
    try:
        whole = json.loads(cedarpy.policies_to_json_str(text))
    except ValueError as error:
        raise CedarError(str(error)) from None
    return (*whole["staticPolicies"].values(), *whole.get("templates", {}).values())


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
