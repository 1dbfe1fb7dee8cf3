"""What a case is given, read strictly into a question: who asks, of which target, what, and when."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from policy.classes import CommandClass, Tier
from policy.decision import AccessQuery, ActionQuery, ApproveQuery, Claims, Principal, Query, Resource
from policy.shell import Classified, Refused, Verdict
from policy.vocabulary import CLOSED, OPEN, meant

Table = Mapping[str, Any]
Classify = Callable[[bytes], Verdict]
_NOON: Final = datetime(2026, 1, 5, 12, tzinfo=UTC)
"""When a case happens that does not say: a Monday."""
_CLASSES: Final = tuple(cls.word for cls in CommandClass)
_ASKS: Final = ("run", "request", "approve")
_WHO: Final = ("kind", "id", "teams", "role", "owner", "tenant")
_WHAT: Final = ("id", "name", "tier", "teams", "labels", "tenant")
_ALWAYS: Final = ("ask", "tenant", "principal", "target", "now")
_GRANT: Final = ("login", "ceiling", "flags")
_KEYS: Final = {
    "run": (*_ALWAYS, *_GRANT, "command", "class", "opaque", "egress", "outlives", "verified"),
    "request": (*_ALWAYS, *_GRANT, "ttl", "ticket", "reason", "evidence"),
    "approve": (*_ALWAYS, "requester", "subject", "class", "security_key", "user_verified"),
}
_TTL = re.compile(r"([1-9][0-9]{0,6})([smh])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600}


class CaseError(ValueError):
    """A file of cases cannot be used. The message says which case, and what of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A question; `query` is None where the classifier refused its command, `verdict` where it had none."""

    query: Query | None
    verdict: Verdict | None


def asked(defaults: object, given: object, classify: Classify) -> Asking:
    """The question that a `given` asks, over what every case of the file is given."""
    every = tuple(sorted({key for keys in _KEYS.values() for key in keys}))
    merged = _merged(table(defaults, every, "given"), table(given, every, "given"))
    ask = word(merged, "ask", "run", among=_ASKS)
    # what all cases share may speak of other questions; what a case says of itself must be about its own
    table(given, _KEYS[ask], f"given (ask = {ask!r})")
    match ask:
        case "run":
            return _run(merged, classify)
        case "request":
            return Asking(query=_request(merged), verdict=None)
        case _:
            return Asking(query=_approve(merged), verdict=None)


def _merged(defaults: Table, given: Table) -> Table:
    """`given` over `defaults`; tables are merged key by key, labels too."""
    both = dict(defaults)
    for key, value in given.items():
        before = both.get(key)
        both[key] = _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    if "command" in given:
        both.pop("class", None)
    if "class" in given:
        both.pop("command", None)
    return both


def _run(given: Table, classify: Classify) -> Asking:
    if ("command" in given) == ("class" in given):
        raise CaseError("given: a run has either a command or a class")
    if "command" in given:
        for key in ("opaque", "egress", "outlives"):
            if key in given:
                raise CaseError(f"given: {key} is the classifier's to say where there is a command")
        verdict = classify(word(given, "command", "").encode())
        if isinstance(verdict, Refused):
            return Asking(query=None, verdict=verdict)
    else:
        level = _class(given, "class", "read")
        opaque, egress, outlives = (flag(given, key) for key in ("opaque", "egress", "outlives"))
        verdict = Classified(command_class=level, opaque=opaque, egress=egress, outlives=outlives, parts=())
    query = ActionQuery(
        principal=_principal(given, "principal"), target=_target(given), login=word(given, "login", "deploy"),
        command_class=verdict.command_class, opaque=verdict.opaque, egress=verdict.egress, outlives=verdict.outlives,
        ceiling=_class(given, "ceiling", "reboot"), verified=flag(given, "verified"), flags=_flags(given),
        now=_now(given),
    )  # fmt: skip
    return Asking(query=query, verdict=verdict if "command" in given else None)


def _request(given: Table) -> Query:
    claimed = Claims(
        ticket=word(given, "ticket", ""), reason=flag(given, "reason"), evidence=flag(given, "evidence")
    )  # fmt: skip
    return AccessQuery(
        principal=_principal(given, "principal"), target=_target(given), login=word(given, "login", "deploy"),
        ceiling=_class(given, "ceiling", "reboot"), flags=_flags(given), ttl=_ttl(given), claimed=claimed,
        now=_now(given),
    )  # fmt: skip


def _approve(given: Table) -> Query:
    subject: Literal["access", "action"] = (
        "access" if word(given, "subject", "action", among=CLOSED["context.subject"]) == "access" else "action"
    )
    return ApproveQuery(
        principal=_principal(given, "principal"), requester=_principal(given, "requester"), target=_target(given),
        subject=subject, level=_class(given, "class", "write"), security_key=flag(given, "security_key"),
        user_verified=flag(given, "user_verified"), now=_now(given),
    )  # fmt: skip


def _principal(given: Table, key: str) -> Principal:
    who = table(given.get(key, {}), _WHO, key)
    is_agent = word(who, "kind", "agent", among=CLOSED["context.requester_kind"]) == "agent"
    for other in ("role",) if is_agent else ("owner",):
        if other in who:
            raise CaseError(f"{key}: {'an agent' if is_agent else 'a person'} has no {other}")
    return Principal(
        kind="agent" if is_agent else "person", id=word(who, "id", "agent" if is_agent else key),
        tenant=word(who, "tenant", word(given, "tenant", "main")), teams=frozenset(words(who, "teams", ())),
        role="" if is_agent else word(who, "role", "viewer", among=CLOSED["principal.role"]),
        owner=word(who, "owner", ""),
    )  # fmt: skip


def _target(given: Table) -> Resource:
    what = table(given.get("target", {}), _WHAT, "target")
    labels = what.get("labels", {})
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise CaseError("target: labels are texts")
    name = word(what, "name", "target")
    return Resource(
        id=word(what, "id", name), name=name, tenant=word(what, "tenant", word(given, "tenant", "main")),
        tier=Tier(word(what, "tier", "approval", among=tuple(Tier))), teams=frozenset(words(what, "teams", ())),
        labels=labels,
    )  # fmt: skip


def _class(given: Table, key: str, default: str) -> CommandClass:
    return CommandClass.from_word(word(given, key, default, among=_CLASSES))


def _flags(given: Table) -> frozenset[str]:
    """As a grant's: beside a flag with a value its word, which is what most policies look at."""
    said = words(given, "flags", (), among=CLOSED["context.flags"], begins=OPEN["context.flags"])
    return frozenset(said) | {flag.partition("=")[0] for flag in said}


def _ttl(given: Table) -> timedelta:
    match = _TTL.fullmatch(word(given, "ttl", "1h"))
    if match is None:
        raise CaseError("given: ttl is a number with s, m or h, as in '90m'")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def _now(given: Table) -> datetime:
    now = given.get("now", _NOON)
    if not isinstance(now, datetime) or now.tzinfo is None:
        raise CaseError("given: now is a date and time with a zone, as in 2026-01-05T12:00:00Z")
    try:
        return now.astimezone(UTC)
    except OverflowError:
        raise CaseError("given: now is before or after every date in UTC") from None


def table(value: object, known: tuple[str, ...], where: str) -> Table:
    """`value`, if it is a table of these keys alone."""
    if not isinstance(value, dict):
        raise CaseError(f"{where}: a table is missing, or is none")
    for key in value:
        if key not in known:
            raise CaseError(f"{where}: unknown key {key!r}{meant(key, known)}")
    return value


def word(given: Table, key: str, default: str, *, among: tuple[str, ...] = ()) -> str:
    """A text of a table, if it is one of `among` where that says anything."""
    value = given.get(key, default)
    if not isinstance(value, str):
        raise CaseError(f"{key} is a text")
    if among and value not in among:
        raise CaseError(f"{key}: {value!r}{meant(value, among)}")
    return value


def words(
    given: Table, key: str, default: tuple[str, ...], *, among: tuple[str, ...] = (), begins: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """A list of texts of a table, each one of `among`, or beginning as one of `begins`, where those say anything."""
    values = given.get(key, default)
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise CaseError(f"{key} is a list of texts")
    for value in values:
        if among and value not in among and not value.startswith(begins):
            raise CaseError(f"{key}: {value!r}{meant(value, among)}")
    return tuple(values)


def flag(given: Table, key: str) -> bool:
    """A yes or no of a table; no if it does not say."""
    value = given.get(key, False)
    if not isinstance(value, bool):
        raise CaseError(f"{key} is true or false")
    return value


def number(given: Table, key: str) -> int:
    """A number of a table."""
    value = given.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise CaseError(f"{key} is a number")
    return value
