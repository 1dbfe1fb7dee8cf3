"""A verdict as plain values, for JSON and for the command line.

Pure; it decides nothing anew.
"""

from __future__ import annotations

import json

from policy.advice import Advice, advise
from policy.catalog import shipped_alone
from policy.shell import Classified, Part, Refused, Verdict, classify

REFUSED = "refused"

Plain = dict[str, object]


def explain(verdict: Verdict, advice: tuple[Advice, ...] = ()) -> Plain:
    """A verdict as values that json.dumps takes, parts in the order they stand in the command.

    Args:
        verdict: what `classify` said.
        advice: what `advise` said of the same command.
    """
    match verdict:
        case Refused(rule=rule, reason=reason):
            return {"class": REFUSED, "rule": rule, "reason": reason}
        case Classified():
            parts = sorted(verdict.parts, key=lambda part: part.span)
            return {
                "class": verdict.command_class.word,
                "opaque": verdict.opaque,
                "egress": verdict.egress,
                "outlives": verdict.outlives,
                "parts": [_part(part) for part in parts],
                "advice": [_advice(piece) for piece in advice],
            }


def _part(part: Part) -> Plain:
    return {
        "span": list(part.span),
        "argv": list(part.argv),
        "class": part.command_class.word,
        "opaque": part.opaque,
        "egress": part.egress,
        "outlives": part.outlives,
        "rule": part.rule,
        "reason": part.reason,
    }


def _advice(piece: Advice) -> Plain:
    return {
        "span": list(piece.span),
        "put": piece.put,
        "say": piece.say,
        "class": piece.command_class.word,
        "opaque": piece.opaque,
    }


def classify_line(json_line: str) -> str:
    """The class of a command line that is given as one JSON string: "read" to "reboot", or "refused".

    A lone surrogate stands for a byte that is not UTF-8; it is refused, and so is a line that is not one JSON string.
    """
    return word_of(verdict_of_line(json_line))


def explain_line(json_line: str) -> str:
    """`explain` with advice for one JSON string, as one line of JSON."""
    verdict = verdict_of_line(json_line)
    advice = advise(shipped_alone(), _command_of(json_line), verdict) if isinstance(verdict, Classified) else ()
    return json.dumps(explain(verdict, advice))


def word_of(verdict: Verdict) -> str:
    """A verdict in one word."""
    return REFUSED if isinstance(verdict, Refused) else verdict.command_class.word


def _command_of(json_line: str) -> bytes:
    """The command in a line that `verdict_of_line` classified."""
    return str(json.loads(json_line)).encode()


def verdict_of_line(json_line: str) -> Verdict:
    """The verdict over a command line that is given as one JSON string."""
    try:
        command = json.loads(json_line)
    except (ValueError, RecursionError):
        return Refused(rule="line.json", reason="not one JSON string")
    if not isinstance(command, str):
        return Refused(rule="line.json", reason="not one JSON string")
    try:
        return classify(command.encode("utf-8"))
    except UnicodeEncodeError as error:
        return Refused(rule="gate.utf8", reason=f"half of a surrogate pair at character {error.start}")
