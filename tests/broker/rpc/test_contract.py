"""The contract as tables: every field has a rule, every code and every cell of the matrix a line in docs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from broker.core.errors import Blame, Refusal
from broker.core.roles import Permission, Role, holds
from broker.rpc.checks import RULES, checked
from broker.rpc.declared import SERVICES, rpcs_of
from broker.rpc.status import STATUS_OF
from grantd.v1 import access_pb2, action_pb2, admin_pb2, session_pb2

ROOT = Path(__file__).parents[3]
ERRORS, PERMISSIONS = ROOT / "docs/errors.md", ROOT / "docs/permissions.md"
OURS = {
    **dict.fromkeys(
        ("store_unavailable", "signer_unavailable", "recorder_unavailable", "recording_invalid"), "UNAVAILABLE"
    ),
    "internal": "INTERNAL",
    "signer_refused": "PERMISSION_DENIED",
}
"""Codes of what is our fault, made in broker.rpc.status alone."""
TARGETS = dict.fromkeys(
    (
        "unreachable",
        "host_key_changed",
        "login_refused",
        "too_slow",
        "connection_lost",
        "no_bash",
        "no_terminal",
        "no_password",
        "not_made",
        "heir_gone",
        "role_dropped",
        "not_taken_away",
    ),
    "UNAVAILABLE",
)
"""Codes of ports.Targets and ports.CredentialIssuer."""
BUILT = {"key_taken": "FAILED_PRECONDITION"}
"""Codes that no literal shows (adapters.store.identities)."""
MAKERS = {
    "invalid": Blame.INVALID, "forbidden": Blame.FORBIDDEN, "conflict": Blame.CONFLICT, "expired": Blame.EXPIRED,
    "exhausted": Blame.EXHAUSTED, "Refusal": None, "__init__": None,
    "_refused": Blame.UNAUTHENTICATED, "_needed": Blame.FORBIDDEN, "_absent": Blame.NOT_FOUND,
}  # fmt: skip
"""What makes a refusal -> whose fault it says; None where an argument says it."""
CODE = re.compile(r"[a-z][a-z0-9_]{2,39}")


def messages_of(message: Descriptor) -> Iterator[Descriptor]:
    """A request and every message of ours inside it."""
    yield message
    for field in message.fields:
        inner = field.message_type
        if inner is not None and inner.file.package == "grantd.v1" and not inner.GetOptions().map_entry:
            yield from messages_of(inner)


REQUESTS = {
    inner.name: inner for service in SERVICES for method in service.methods for inner in messages_of(method.input_type)
}


def test_every_field_of_every_request_has_a_rule_and_no_rule_is_left_over() -> None:
    """A field that is added to a proto is judged, or its author says who judges it."""
    assert {name: set(rules) for name, rules in RULES.items()} == {
        name: {field.name for field in message.fields} for name, message in REQUESTS.items()
    }


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_too_much_of_anything_is_refused_by_name_or_left_to_a_service(name: str) -> None:
    """However a field is overfilled: a refusal that names it, or nothing at all; never another exception."""
    for field in REQUESTS[name].fields:
        message = GetMessageClass(REQUESTS[name])()
        overfill(message, field)
        try:
            checked(message)
        except Refusal as refusal:
            found = refusal.blame, refusal.code in ("bad_field", "bad_text", "text_too_long")
        else:
            found = Blame.INVALID, True
        assert found == (Blame.INVALID, True)


def overfill(message: object, field: FieldDescriptor) -> None:
    """Far too much of it, whatever it is."""
    text, most = "\0" + "x" * 300_000, 2**31 - 1
    if field.type == field.TYPE_STRING:
        value: object = text
    elif field.type == field.TYPE_BYTES:
        value = text.encode()
    else:
        value = most
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        getattr(message, field.name)[text] = text
    elif field.message_type is not None and field.is_repeated:
        for _ in range(1000):
            getattr(message, field.name).add()
    elif field.message_type is not None:
        getattr(message, field.name).SetInParent()
    elif field.is_repeated:
        getattr(message, field.name).extend([value] * 1000)
    elif field.type == field.TYPE_BOOL:
        setattr(message, field.name, True)
    else:
        setattr(message, field.name, value)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (access_pb2.GetGrantRequest(grant_id="gr_1"), "grant_id"),
        (access_pb2.GetGrantRequest(grant_id="ac_aaaaaaaaaaaaaaaaaaaaaaaaaa"), "grant_id"),
        (access_pb2.RequestAccessRequest(target="web1", login="deploy", ceiling=99), "ceiling"),  # type: ignore[arg-type]
        (access_pb2.RequestAccessRequest(target="web1", login="deploy"), "ceiling"),
        (access_pb2.ListGrantsRequest(page_size=201), "page_size"),
        (session_pb2.ListSessionsRequest(page_token="gr_aaaaaaaaaaaaaaaaaaaaaaaaaa"), "page_token"),
        (admin_pb2.PutTargetRequest(target=admin_pb2.Target(name="x", port=65_536, tier=1)), "port"),  # type: ignore[arg-type]
        (admin_pb2.AddTeamRequest(name="a\0b"), "name"),
        (action_pb2.ExecuteRequest(stdin=b"x" * 65_537), "stdin"),
    ],
    ids=["no id", "another's kind", "unknown", "unset", "page", "token", "nested", "NUL", "bytes"],
)
def test_a_refusal_names_the_field(message: object, field: str) -> None:
    """People fix what is named."""
    with pytest.raises(Refusal, match=rf"^{field} "):
        checked(message)  # type: ignore[arg-type]


def test_every_blame_has_a_status() -> None:
    """A kind of refusal without a status would become INTERNAL."""
    assert set(STATUS_OF) == set(Blame)


def codes_in_the_source() -> dict[str, set[str]]:
    """Code -> statuses, from every call in broker/ that makes a refusal with a literal code."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "broker").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and _name(node.func) in MAKERS:
                for code in filter(CODE.fullmatch, _literals(node.args[0])):
                    found.setdefault(code, set()).update(_statuses(node))
    return found


def _statuses(node: ast.Call) -> set[str]:
    said = [k.value.attr for k in node.keywords if k.arg == "blame" and isinstance(k.value, ast.Attribute)]
    blame = MAKERS[_name(node.func)] or (Blame[said[0]] if said else None)
    return {STATUS_OF[blame].name} if blame else set()


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _literals(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _literals(node.body)
        yield from _literals(node.orelse)


def rows_of_the_table() -> list[tuple[str, set[str]]]:
    """(code, statuses) in the order of docs/errors.md."""
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| ([A-Z_, ]+) \|", ERRORS.read_text(), re.MULTILINE)
    return [(code, set(statuses.split(", "))) for code, statuses in rows]


def test_every_code_has_a_line_and_every_line_a_code() -> None:
    """docs/errors.md is what programs are written against: nothing is missing there, and nothing is made up."""
    rows = rows_of_the_table()
    codes = [code for code, _ in rows]
    assert codes == sorted(set(codes))
    source = {code: statuses for code, statuses in codes_in_the_source().items() if statuses}
    assert dict(rows) == source | {code: {status} for code, status in (OURS | TARGETS | BUILT).items()}


def matrix() -> str:
    """The table of docs/permissions.md as the descriptors and the roles have it."""
    roles = list(Role)
    lines = [f"| RPC | permission | {' | '.join(roles)} |", f"|---|---|{'---|' * len(roles)}"]
    for service in SERVICES:
        for rpc in rpcs_of(service):
            opened = rpc.permission is Permission.NONE
            cells = ["open" if opened else "yes" if holds(role, rpc.permission) else "" for role in roles]
            lines.append(f"| {service.name}.{rpc.name} | `{rpc.permission}` | {' | '.join(cells)} |".replace("  ", " "))
    return "\n".join(lines)


def test_the_published_matrix_is_the_one_that_holds() -> None:
    """docs/permissions.md shows what the gate does, cell by cell (I-42)."""
    assert matrix() in PERMISSIONS.read_text()
