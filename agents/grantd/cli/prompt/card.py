"""What an approver sees of one question: every field that the signature binds, drawn from that field (I-11).

One function from a question to lines; the same for a screen, a test and a transcript. Foreign text is escaped and its
spaces are visible; the agent's own words are fenced and said to be unchecked. Knows no terminal and no clock but `now`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from grantd import asking
from grantd.cli.prompt.lines import Cell, Line, Span, Style, cells, flow, foreign, mark_spaces, style_of_class
from grantd.cli.prompt.question import Question
from grantd.cli.shell import span as time_span
from grantd.cli.visible import units
from grantd.v1.approval_pb2 import AccessRecord, ActionRecord, PendingItem
from grantd.v1.options_pb2 import Classification

_LABEL_WIDTH: Final = 12
_GUTTER: Final = " \u2502 "
_CONTINUED: Final = " \u250a "
_FENCE: Final = " \u2592 "
_OPEN: Final = "\u27e6"
_CLOSE: Final = "\u27e7"
_RULE: Final = "\u2500"

DOES: Final = {
    "read": "observes only, as far as its text shows",
    "write": "changes files, configuration, data, users, permissions or network",
    "execute": "runs code that the text does not show, or starts or stops services",
    "install": "adds, removes or upgrades packages, kernel modules or boot images",
    "reboot": "restarts the machine or powers it off",
}
_TIERS: Final = {
    "approval": "reads run; everything else asks",
    "trusted": "reads and writes run; the rest asks",
    "closed_loop": "verified actions up to install run; reboot and unverified actions ask",
}
_FLAGS: Final = {
    "shell": "a shell, each line decided for itself",
    "raw_shell": "a RAW SHELL: nothing typed in it is classified",
    "sftp": "file transfer",
    "sftp-root": "of all files, only those in this folder",
    "forward": "connections from the target to this address, without being asked again",
    "stream_stdin": "stdin that nobody sees beforehand",
    "sessions": "so many commands at a time on one connection",
}
_FILE_SESSION: Final = re.compile(rb"internal-sftp(?P<reads> -R)?(?: --root=(?P<root>/\S+))?")


def draw(question: Question, *, width: int, now: datetime) -> list[Line]:
    """The whole card, `width` columns at most. `now` only turns the grant's end into a time that is left."""
    item = question.item
    lines: list[Line] = []
    if item.HasField("action"):
        lines += _title("MAY THIS COMMAND RUN?", width)
        lines += _action_head(item, item.action, width, now)
        lines += _command(item.action.command, item.classification, width)
        lines += _parts(item.classification, width)
        lines += _around(item.action, width)
        lines += _action_warnings(item.action, item.target_name, width)
    else:
        lines += _title("MAY THIS ACCESS BE GRANTED?", width)
        lines += _access_head(item, item.access, width)
        lines += _access_warnings(item.access, width)
    lines += _untrusted(item, width)
    lines += _bound(question, width)
    lines += _how(question, width)
    return lines


def explain(question: Question, *, width: int) -> list[Line]:
    """Why a person is asked, and the rule behind each part."""
    lines = _title("WHY A PERSON IS ASKED", width)
    for reason in question.item.policy_reasons or ("the broker named no rule",):
        lines += _field("policy", foreign(reason), width)
    for number, part in enumerate(question.item.classification.parts, 1):
        word = asking.class_word(part.command_class)
        argv = [cell for each in part.argv for cell in _boxed(each, style_of_class(word))]
        lines += _field(f"part {number}", argv, width)
        lines += _field("", [*cells(f"{word}: "), *foreign(part.rule), *cells(": "), *foreign(part.reason)], width)
    return lines


def _action_head(item: PendingItem, fields: ActionRecord, width: int, now: datetime) -> list[Line]:
    ends = _at(fields.not_after_us)
    left = time_span(ends - now)
    return [
        *_where(item, fields.login, width),
        *_class_row("class", fields.command_class, width),
        *_field("tier", _meaning(fields.tier, _TIERS), width),
        *_who(item, fields.agent_id, fields.requester, width),
        *_field("access ends", cells(f"{ends:%Y-%m-%d %H:%M:%S}Z, {left} left now"), width),
        *_votes(item, width),
    ]


def _access_head(item: PendingItem, fields: AccessRecord, width: int) -> list[Line]:
    lines = [
        *_where(item, fields.login, width),
        *_class_row("up to", fields.ceiling, width),
        *_who(item, fields.agent_id, fields.requester, width),
        *_field("for", cells(f"{fields.ttl_seconds} seconds from first use"), width),
        *_votes(item, width),
    ]
    for flag in fields.flags:
        word = flag.partition("=")[0]
        lines += _field("with", [*foreign(flag), *cells(f": {_FLAGS.get(word, 'unknown to this grantctl')}")], width)
    return lines


def _meaning(word: str, known: Mapping[str, str]) -> list[Cell]:
    return [*foreign(word), *cells(f": {known.get(word, 'unknown to this grantctl')}")]


def _where(item: PendingItem, login: str, width: int) -> list[Line]:
    return [
        *_field("host", foreign(item.target_name, Style.TITLE), width),
        *_field("login", foreign(login, Style.WARNING if login == "root" else Style.TITLE), width),
    ]


def _who(item: PendingItem, agent_id: str, requester: str, width: int) -> list[Line]:
    kind = "agent" if agent_id else "person"
    row = [*foreign(item.identity_name), *cells(f" ({kind})")]
    if requester != agent_id:
        row += [*cells(", for "), *foreign(requester)]
    return _field("asked by", row, width)


def _votes(item: PendingItem, width: int) -> list[Line]:
    if item.quorum <= 1 and not item.approved_by:
        return []
    row = cells(f"{len(item.approved_by)} of {item.quorum} people said yes: ")
    return _field("votes", [*row, *foreign(", ".join(item.approved_by))], width)


def _class_row(label: str, word: str, width: int) -> list[Line]:
    does = DOES.get(word, "a class that this grantctl does not know: treat it as execute")
    style = style_of_class(word)
    return _field(label, [*foreign(word.upper(), style), *cells(f"  {does}")], width)


def _command(raw: bytes, seen: Classification, width: int) -> list[Line]:
    """The exact bytes, line by line; each character in the colour of the highest class of the parts that hold it."""
    lines = [(), *_field("", cells(f"exactly these {len(raw)} bytes run:", Style.LABEL), width)]
    row: list[Cell] = []
    number = 1
    for offset, shown in units(raw):
        row.append(Span(shown, _style_at(offset, seen)))
        if shown == "\\n":
            lines += _numbered(number, row, width)
            row, number = [], number + 1
    return [*lines, *_numbered(number, row, width)] if row or number == 1 else lines


def _numbered(number: int, row: list[Cell], width: int) -> list[Line]:
    first = Span(f"{number:>4}{_GUTTER}", Style.DIM)
    return flow(mark_spaces(row), width, first=first, then=Span(f"{'':>4}{_CONTINUED}", Style.DIM))


def _style_at(offset: int, seen: Classification) -> Style:
    covering = [part for part in seen.parts if part.start <= offset < part.end]
    if not covering:
        return Style.PLAIN
    return style_of_class(asking.class_word(max(part.command_class for part in covering)))


def _parts(seen: Classification, width: int) -> list[Line]:
    """Each part as its arguments, so that it shows where one ends and the next begins."""
    lines: list[Line] = [()]
    for part in seen.parts:
        word = asking.class_word(part.command_class)
        style = style_of_class(word)
        marks = (" not inspectable" if part.opaque else "") + (" egress" if part.egress else "")
        row = [cell for each in part.argv for cell in _boxed(each, style)]
        lines += _field(word, [*row, *cells(marks, Style.WARNING)], width, style=style)
    return lines


def _boxed(word: str, style: Style) -> list[Cell]:
    return [Span(_OPEN, Style.DIM), *foreign(word, style), Span(_CLOSE, Style.DIM), Span(" ")]


def _around(fields: ActionRecord, width: int) -> list[Line]:
    """What runs with the command: directory, environment, stdin, terminal, verification, rollback."""
    lines: list[Line] = _files(fields, width)
    if fields.cwd:
        lines += _field("in directory", foreign(fields.cwd), width)
    for name in sorted(fields.env):
        lines += _field("environment", [*foreign(name), *cells("="), *foreign(fields.env[name])], width)
    lines += _field("stdin", _stdin(fields), width)
    if fields.pty:
        lines += _field("terminal", cells("attached"), width)
    if fields.HasField("verification"):
        check = fields.verification
        tries = f"at most {check.attempts} times within {check.deadline.seconds} seconds"
        lines += _field("verified by", [*foreign(check.command), *cells(f", {tries}")], width)
        lines += _field("must say", foreign(check.expectation), width)
    for command in fields.rollback:
        lines += _field("rolled back", foreign(command), width)
    return lines


def _files(fields: ActionRecord, width: int) -> list[Line]:
    """What a file session is: the one command whose words do not say what it will do."""
    session = _FILE_SESSION.fullmatch(fields.command)
    if session is None:
        return []
    told = cells("listed and fetched") if session["reads"] else cells("MADE, CHANGED AND REMOVED", Style.WARNING)
    where = [*cells("below "), *foreign(session["root"])] if session["root"] else cells("wherever the login may")
    return _field("files", [*told, *cells(", one after the other until the session ends, "), *where], width)


def _stdin(fields: ActionRecord) -> list[Cell]:
    match fields.stdin_mode:
        case "none":
            return cells("none")
        case "declared":
            return cells(f"declared, SHA-256 {fields.stdin_sha256.hex()}")
        case "stream":
            return cells("STREAMED while it runs: nobody sees it beforehand", Style.WARNING)
        case unknown:
            return foreign(unknown, Style.WARNING)


def _action_warnings(fields: ActionRecord, host: str, width: int) -> list[Line]:
    radius = [*cells("whatever "), *foreign(fields.login), *cells(" may touch on "), *foreign(host)]
    if fields.login == "root":
        radius = [*cells("the whole of "), *foreign(host), *cells(": root may do anything there", Style.WARNING)]
    lines = _field("reach", radius, width)
    warnings = {
        "NOT INSPECTABLE: the classifier did not understand all of it; the words above are all there is": fields.opaque,
        "EGRESS: data of the host may leave it by the network": fields.egress,
        "OUTLIVES the session: work may go on after the access ended": fields.outlives,
    }
    for warning, is_set in warnings.items():
        if is_set:
            lines += _field("warning", cells(warning, Style.WARNING), width)
    return lines


def _access_warnings(fields: AccessRecord, width: int) -> list[Line]:
    lines: list[Line] = []
    if fields.login == "root":
        lines += _field("warning", cells("root may do anything on this host", Style.WARNING), width)
    lines += _field("then", cells("each command is still decided for itself, by class and tier"), width)
    return lines


def _untrusted(item: PendingItem, width: int) -> list[Line]:
    """The agent's words, behind a fence that they cannot draw."""
    texts = {"reason": item.untrusted_reason, "ticket": item.untrusted_ticket, "evidence": item.untrusted_evidence}
    said = {name: text for name, text in texts.items() if text}
    if not said:
        return []
    fence = Span(_FENCE, Style.UNTRUSTED)
    head = "said by the requester: unchecked, not part of what is approved"
    lines: list[Line] = [(), *flow(cells(head, Style.UNTRUSTED), width, first=fence, then=fence)]
    for name, text in said.items():
        for row in _broken(f"{name}: ", text):
            lines += flow(row, width, first=fence, then=fence)
    return lines


def _broken(label: str, text: str) -> Iterator[list[Cell]]:
    """Foreign text in its own lines, each newline also shown."""
    row = cells(label, Style.DIM)
    for line in text.splitlines(keepends=True):
        yield [*row, *foreign(line, Style.UNTRUSTED)]
        row = cells(" " * len(label))


def _bound(question: Question, width: int) -> list[Line]:
    """The rest of the record, for whoever compares."""
    fields = question.item.action if question.item.HasField("action") else question.item.access
    rows = {
        "tenant": fields.tenant,
        "request": fields.request_id,
        "action": fields.action_id if isinstance(fields, ActionRecord) else "",
        "requester": fields.requester,
        "agent": fields.agent_id,
        "agent key": fields.agent_key.hex(),
        "target": fields.target_id,
        "host key": f"SHA256:{base64.b64encode(fields.host_key).decode().rstrip('=')}",
        "policy": fields.policy_version,
        "nonce": fields.nonce.hex(),
        "digest": question.digest.hex(),
    }
    lines: list[Line] = [(), *_field("", cells("your signature also binds:", Style.LABEL), width)]
    for name, value in rows.items():
        if value:
            lines += _field(name, foreign(value, Style.DIM), width, style=Style.DIM)
    return lines


def _how(question: Question, width: int) -> list[Line]:
    if question.typed:
        row = [*cells("press a, then type "), *cells(question.code, Style.TITLE), *cells(" and Enter")]
    else:
        row = cells("type y and Enter")
    return [(), *_field("to approve", row, width)]


def _title(text: str, width: int) -> list[Line]:
    return [(), (Span(f"{_RULE * 2} "), Span(text, Style.TITLE), Span(f" {_RULE * max(0, width - len(text) - 4)}"))]


def _field(label: str, row: Iterable[Cell], width: int, *, style: Style = Style.LABEL) -> list[Line]:
    first = Span(f" {label:<{_LABEL_WIDTH}} ", style)
    return flow(row, width, first=first, then=Span(" " * len(first.text)))


def _at(us: int) -> datetime:
    return datetime.fromtimestamp(us / 1_000_000, UTC)
