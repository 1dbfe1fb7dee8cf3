"""The names a policy may use, read out of the schema itself, and what a misspelt one was probably meant to be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from types import MappingProxyType
from typing import Final

from policy.cedar import schema_text

APPROVER_ROLES: Final = frozenset({"owner", "admin", "manager"})
ANNOTATIONS: Final = frozenset({"id", "approvers", "roles", "watched", "description"})
CALLS: Final = (
    "contains", "containsAll", "containsAny", "isEmpty", "hasTag", "getTag", "datetime", "duration", "offset",
    "durationSince", "toDate", "toTime", "toMilliseconds", "toSeconds", "toMinutes", "toHours", "toDays",
    "lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual", "decimal", "ip",
)  # fmt: skip
KEYWORDS: Final = ("permit", "forbid", "when", "unless", "principal", "action", "resource", "context")
CLOSED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "principal.role": ("owner", "admin", "manager", "viewer"),
        "resource.tier": ("approval", "trusted", "closed_loop"),
        "context.requester_kind": ("agent", "person"),
        "context.subject": ("access", "action"),
        "context.flags": ("shell", "raw_shell", "sftp", "sftp-root", "forward", "stream_stdin"),
    }
)
"""Texts that only ever hold one of these words."""
OPEN: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({"context.flags": ("sftp-root=/", "forward=")})
"""How other texts may begin, where not only closed words are held; the word before the `=` is then held too."""
LEVELS: Final[Mapping[str, range]] = MappingProxyType(
    {"context.level": range(1, 6), "context.ceiling": range(1, 6), "context.weekday": range(1, 8)}
)
"""Numbers that only ever lie in these spans."""
_COMMENT = re.compile(r"//[^\n]*")
_ENTITY = re.compile(r"\bentity\s+(\w+)\s*(?:=\s*(\{[^}]*\}))?")
_ACTION = re.compile(r"\baction\s+([\w\s,]+?)\s+appliesTo\s*\{.*?context:\s*(\{.*?\}),?\s*\};", re.DOTALL)
_NAME = re.compile(r"(\w+)\??\s*:")


@cache
def entity_attributes() -> Mapping[str, tuple[str, ...]]:
    """Entity type to its attributes, in the schema's order."""
    found = _ENTITY.findall(_COMMENT.sub("", schema_text()))
    return MappingProxyType({name: tuple(_NAME.findall(body)) for name, body in found})


@cache
def context_attributes() -> Mapping[str, tuple[str, ...]]:
    """Action to the attributes of its context, in the schema's order; those of records inside it too."""
    found = _ACTION.findall(_COMMENT.sub("", schema_text()))
    return MappingProxyType(
        {name.strip(): tuple(_NAME.findall(body)) for names, body in found for name in names.split(",")}
    )


def meant(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?`, or what is known where nothing is near."""
    names = sorted(set(known))
    near = get_close_matches(word, names, n=1)
    return f"; did you mean `{near[0]}`?" if near else f"; known: {', '.join(names)}"
