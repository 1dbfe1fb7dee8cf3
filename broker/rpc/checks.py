"""What each field of each request may hold, as tables. Runs before a servicer sees the message; a refusal names it.

Fields marked JUDGED are bounded and refused by the service with codes of their own. A test holds the tables to the
descriptors: a field without a rule fails it. Never repairs: what does not fit is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from google.protobuf.message import Message

from broker.core.errors import Refusal, invalid
from broker.core.ids import PREFIXES, is_id

Rule: TypeAlias = Callable[[str, Any], None]
"""(field name, value): raises Refusal where the value does not fit."""

MAX_PAGE = 200
MAX_EVENTS = 500
_KIB = 1024


def _bad(field: str, wrong: str, way_out: str = "") -> Refusal:
    return invalid("bad_field", f"{field} {wrong}", way_out)


def judged(field: str, value: object) -> None:
    """The service judges it, with its own code."""


def text(limit: int) -> Rule:
    """At most `limit` bytes of UTF-8, no NUL (PostgreSQL cannot keep one)."""

    def rule(field: str, value: str) -> None:
        if len(value.encode()) > limit:
            raise invalid("text_too_long", f"{field} is longer than {limit} bytes", f"shorten {field}")
        if "\0" in value:
            raise invalid("bad_text", f"{field} holds a NUL character", "send UTF-8 without NUL")

    return rule


def raw(most: int, *, least: int = 0) -> Rule:
    """Bytes, `least` to `most` of them."""

    def rule(field: str, value: bytes) -> None:
        if not least <= len(value) <= most:
            raise _bad(field, f"must have {least} to {most} bytes, it has {len(value)}")

    return rule


def an_id(*kinds: str, empty: bool = False) -> Rule:
    """An id of one of these kinds (keys of PREFIXES)."""
    prefixes = tuple(f"{PREFIXES[kind]}_" for kind in kinds)

    def rule(field: str, value: str) -> None:
        if (not value and empty) or (is_id(value) and value.startswith(prefixes)):
            return
        raise _bad(field, f"must be an id such as {prefixes[0]}...", "copy the id whole")

    return rule


def number(most: int, *, least: int = 0) -> Rule:
    """An integer in a range."""

    def rule(field: str, value: int) -> None:
        if not least <= value <= most:
            raise _bad(field, f"must be {least} to {most}")

    return rule


def a_choice(most: int, *, unset: bool = False) -> Rule:
    """A known, set value of an enum whose values are 1 to `most`."""

    def rule(field: str, value: int) -> None:
        if not (value == 0 and unset) and not 1 <= value <= most:
            raise _bad(field, "is not set, or not a value that this broker knows")

    return rule


def words(*known: str) -> Rule:
    """One of a few words."""

    def rule(field: str, value: str) -> None:
        if value not in known:
            raise _bad(field, f"must be one of: {', '.join(word or '(empty)' for word in known)}")

    return rule


def many(limit: int, each: Rule) -> Rule:
    """A list of at most `limit`."""

    def rule(field: str, values: list[object]) -> None:
        if len(values) > limit:
            raise _bad(field, f"has more than {limit} entries")
        for value in values:
            each(field, value)

    return rule


def pairs(limit: int, name: Rule, value: Rule) -> Rule:
    """A map of at most `limit` entries."""

    def rule(field: str, found: Mapping[str, object]) -> None:
        if len(found) > limit:
            raise _bad(field, f"has more than {limit} entries")
        for key, held in found.items():
            name(field, key)
            value(field, held)

    return rule


def a_message(field: str, value: Message) -> None:  # noqa: ARG001  the signature of a rule
    """A message: its own table is asked where it is set."""
    checked(value)


_KEY = judged  # idempotency keys: lookup.checked_key
_REASON = text(512)
_CSR = raw(4_096, least=1)
_NAME = text(64)
_TEAMS = many(64, _NAME)
_CLASSES, _TIERS, _VERDICTS, _ACTION_STATES, _STDIN_MODES, _CREDENTIALS = 5, 3, 2, 11, 3, 4
_THINGS = 5
_FORMS = 4
_STEP_UPS = many(4, a_message)
_TRUST = raw(144 * _KIB)
_PAGE_SIZE = number(MAX_PAGE)
_REVEALED = {"session_id": an_id("session"), "reason": _REASON}

RULES: Mapping[str, Mapping[str, Rule]] = MappingProxyType(
    {
        # access
        "RequestAccessRequest": {
            "idempotency_key": _KEY, "target": _NAME, "login": text(32), "ceiling": a_choice(_CLASSES),
            "flags": many(24, text(280)), "ttl": judged, "reason": text(2_048), "ticket": text(128),
            "evidence": text(8_192),
        },
        "GetRequestRequest": {"request_id": an_id("request")},
        "WatchRequestRequest": {"request_id": an_id("request")},
        "CancelRequestRequest": {"request_id": an_id("request")},
        "IssueCredentialRequest": {
            "grant_id": an_id("grant"), "kind": a_choice(_CREDENTIALS), "ssh_public_key": raw(1_024),
            "database": a_message, "secret": a_message,
        },
        "DatabaseWish": {"scram_verifier": text(512)},
        "SecretWish": {"public_key": raw(32, least=32)},
        "GetGrantRequest": {"grant_id": an_id("grant")},
        "ListGrantsRequest": {"page_size": _PAGE_SIZE, "page_token": an_id("grant", empty=True)},
        "RevokeGrantRequest": {"grant_id": an_id("grant"), "reason": text(2_048)},
        "RevokeRequest": {
            "reason": text(2_048), "agent": _NAME, "person": _NAME, "target": _NAME, "team": _NAME, "ticket": text(128),
            "tenant": text(31),
        },
        "ListStuckGrantsRequest": {},
        "RetryStuckGrantRequest": {"grant_id": an_id("grant"), "reason": text(2_048)},
        # approval
        "ListPendingRequest": {},
        "WatchPendingRequest": {},
        "GetPendingRequest": {"id": an_id("request", "action")},
        "DecideRequest": {
            "id": an_id("request", "action"), "verdict": a_choice(_VERDICTS), "digest": raw(32, least=32),
            "signature": raw(8_192, least=1), "note": _REASON,
        },
        # action
        "ClassifyRequest": {"line": judged},
        "PreviewRequest": {"grant_id": an_id("grant"), "command": a_message},
        "ExecuteRequest": {"start": a_message, "resume": a_message, "stdin": raw(64 * _KIB), "stdin_eof": judged},
        "ExecuteStart": {
            "idempotency_key": _KEY, "grant_id": an_id("grant", empty=True), "command": a_message,
            "reason": text(2_048),
        },
        "ExecuteResume": {"action_id": an_id("action"), "stdin": raw(64 * _KIB)},
        "Command": {
            "line": judged, "cwd": judged, "env": judged, "stdin_mode": a_choice(_STDIN_MODES, unset=True),
            "stdin": judged,
        },
        "WaitActionRequest": {
            "action_id": an_id("action"), "unless": a_choice(_ACTION_STATES, unset=True), "timeout": judged,
        },
        "CancelActionRequest": {"action_id": an_id("action")},
        # session
        "ListSessionsRequest": {
            "page_size": _PAGE_SIZE, "page_token": an_id("session", empty=True), "open_only": judged,
        },
        "GetSessionRequest": {"session_id": an_id("session")},
        "WatchSessionRequest": {"start": a_message, "present": a_message, "pause": a_message, "resume": a_message},
        "WatchStart": {**_REVEALED, "only_look": judged},
        "Present": {},
        "Pause": {},
        "Resume": {},
        "TerminateSessionRequest": _REVEALED,
        "PlayRecordingRequest": _REVEALED
        | {"from_us": number(1 << 62), "with_outline": judged, "with_screen": judged},
        "FetchRecordingRequest": _REVEALED,
        "SearchRecordingsRequest": {"word": judged, "reason": _REASON},
        "ExportRecordingRequest": _REVEALED | {"form": a_choice(_FORMS), "with_input": judged},
        # audit
        "ListEventsRequest": {"from_seq": judged, "page_size": number(MAX_EVENTS), "reason": _REASON},
        "GetCheckpointRequest": {},
        "ProveInclusionRequest": {"seq": judged, "size": judged},
        "ProveConsistencyRequest": {"from_size": judged, "to_size": judged},
        "ExportBundleRequest": {"reason": _REASON, "recordings": judged, "disclosures": judged},
        # identity
        "EnrollAgentRequest": {"tenant": text(31), "join_secret": raw(32, least=32), "csr": _CSR},
        "RenewCertificateRequest": {"csr": _CSR},
        "RedeemSignInRequest": {
            "tenant": text(31), "name": _NAME, "csr": _CSR, "signed_at_us": number(1 << 52),
            "nonce": raw(16, least=16), "signature": raw(8_192, least=1),
        },
        "WhoAmIRequest": {},
        # admin
        "AddAgentRequest": {
            "idempotency_key": _KEY, "name": _NAME, "teams": _TEAMS, "owner": _NAME, "join_for": judged,
        },
        "AddPersonRequest": {
            "idempotency_key": _KEY, "name": _NAME, "role": words("viewer", "manager", "admin", "owner"),
            "teams": _TEAMS, "approval_keys": many(8, text(2_048)), "join_for": judged, "step_ups": _STEP_UPS,
            "identity_id": an_id("person", empty=True), "trust": _TRUST,
        },
        "SuspendIdentityRequest": {
            "identity_id": an_id("agent", "person"), "reason": _REASON, "step_ups": _STEP_UPS, "trust": _TRUST,
        },
        "SetTeamsRequest": {
            "identity_id": an_id("agent", "person"), "teams": _TEAMS, "reason": _REASON, "step_ups": _STEP_UPS,
        },
        "ListIdentitiesRequest": {"kind": words("", "agent", "person")},
        "AddTeamRequest": {"idempotency_key": _KEY, "name": _NAME},
        "ListTeamsRequest": {},
        "PutTargetRequest": {"idempotency_key": _KEY, "target": a_message, "step_ups": _STEP_UPS, "trust": _TRUST},
        "GetTrustRequest": {"subjects": many(256, text(64))},
        "PutTrustRequest": {"trust": _TRUST, "step_ups": _STEP_UPS},
        "Target": {
            "id": an_id("target", empty=True), "name": _NAME, "host": text(253), "port": number(65_535),
            "host_key": text(2_048), "tier": a_choice(_TIERS), "teams": _TEAMS,
            "labels": pairs(32, text(64), text(64)), "logins": many(16, a_message), "seal_reads": judged,
            "source_address": text(128), "postgres": a_message, "secret": a_message,
            "ssh": a_message,
        },
        "SshTarget": {"krl_login": text(32)},
        "PostgresTarget": {
            "database": text(63), "admin": text(63), "ca": text(64 * _KIB), "profiles": many(16, a_message),
        },
        "DatabaseProfile": {
            "name": text(32), "level": a_choice(_CLASSES), "privileges": many(64, a_message),
            "member_of": many(8, text(63)), "owner": text(63), "sessions": number(20), "statement_timeout": judged,
        },
        "DatabasePrivilege": {
            "on": a_choice(_THINGS), "schema": text(63), "name": text(63), "privileges": many(8, text(16)),
        },
        "SecretTarget": {"secret": _NAME},
        "TargetLogin": {"name": text(32), "read_login": text(32)},
        "ListTargetsRequest": {},
        "SetTargetPasswordRequest": {"target": _NAME, "password": raw(1_024, least=1), "step_ups": _STEP_UPS},
        "ScanHostKeyRequest": {"host": text(253), "port": number(65_535, least=1)},
        "CheckTargetRequest": {"target": _NAME, "login": text(32)},
        "GetPolicyRequest": {},
        "PutPolicyRequest": {
            "idempotency_key": _KEY, "sources": pairs(64, text(128), text(256 * _KIB)), "replaces": text(64),
            "step_ups": _STEP_UPS, "trust": _TRUST,
        },
        "ValidatePolicyRequest": {"sources": pairs(64, text(128), text(256 * _KIB))},
        "SimulatePolicyRequest": {"sources": pairs(64, text(128), text(256 * _KIB)), "period": judged},
        "ExplainPolicyRequest": {"subject": text(100)},
        "FreezeRequest": {"reason": _REASON},
        "UnfreezeRequest": {"reason": _REASON, "step_ups": _STEP_UPS},
        "ListCasRequest": {},
        "RotateCaRequest": {
            "name": words("egress", "host", "ingress", "x509"), "step": words("start", "switch", "finish"),
            "force": judged, "step_ups": _STEP_UPS, "trust": _TRUST,
        },
        # break-glass
        "MakeBreakGlassRequest": {
            "id": an_id("glass"), "person_id": an_id("person"), "target_id": an_id("target"), "login": _NAME,
            "ceiling": a_choice(_CLASSES), "public_key": text(256), "until_us": number(1 << 52),
            "step_ups": _STEP_UPS, "trust": _TRUST,
        },
        "ListBreakGlassRequest": {},
        "UseBreakGlassRequest": {
            "record": raw(_KIB, least=1), "signature": raw(8_192, least=1), "reason": judged,
        },
        "SignBreakGlassRequest": {"action_id": an_id("action"), "signature": raw(8_192, least=1)},
        "ReviewBreakGlassRequest": {"id": an_id("glass"), "reason": judged, "step_ups": _STEP_UPS},
        # vault
        "GetVaultStatusRequest": {},
        "GetUploadKeyRequest": {},
        "PutSecretRequest": {
            "name": _NAME, "upload_key": raw(32, least=32), "sealed": raw(64 * _KIB + 64, least=48), "replaces": judged,
        },
        "ListSecretsRequest": {},
        "DeleteSecretRequest": {"name": _NAME, "reason": _REASON},
        "RotateKeyRequest": {
            "purpose": words("vault", "recordings", "subjects", "search", "hmac"), "step_ups": _STEP_UPS,
        },
        "StepUp": {
            "person_id": an_id("person"), "signed_at_us": number(1 << 52), "nonce": raw(16, least=16),
            "signature": raw(8_192, least=1), "trust_signature": raw(8_192),
        },
    }
)  # fmt: skip
"""Message name -> field name -> rule."""


def checked(message: Message) -> None:
    """Raises Refusal unless every field holds what its table allows.

    Raises:
        Refusal: `bad_field`, `bad_text`, `text_too_long`; the message names the field.
    """
    for name, rule in RULES[message.DESCRIPTOR.name].items():
        if rule is judged:
            continue
        field = message.DESCRIPTOR.fields_by_name[name]
        if field.has_presence and not message.HasField(name):
            continue
        rule(name, getattr(message, name))
