"""Small values that everything else stands on: ids, times, secrets, errors, events, roles (I-36, I-42, I-43, I-46)."""

from __future__ import annotations

import copy
import itertools
import json
import logging
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core import errors, ids, roles
from broker.core.clock import EPOCH, Instant, from_micros, micros
from broker.core.errors import Blame, Fault, IllegalTransition, Refusal, TargetFault
from broker.core.events import AuditEvent, Personal
from broker.core.ids import IdentityId, TenantId
from broker.core.roles import MATRIX, RANK, TEAM_BOUND, Permission, Role, holds
from broker.core.secret import Secret

CANARY = "canary-2f61c7"


# ---- ids


@given(st.sampled_from(sorted(ids.PREFIXES)), st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_ids_are_made_one_to_one_from_128_bits(kind: str, one: bytes, two: bytes) -> None:
    """I-46: other randomness, other id; the shape says the kind and nothing else."""
    made = ids.render(kind, one)
    assert ids.is_id(made)
    assert made.startswith(f"{ids.PREFIXES[kind]}_")
    assert (made == ids.render(kind, two)) == (one == two)
    assert ids.is_agent(IdentityId(made)) == (kind == "agent")


def test_kinds_have_prefixes_of_their_own() -> None:
    """An id of one kind is never taken for another's."""
    assert len(set(ids.PREFIXES.values())) == len(ids.PREFIXES)


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_an_id_takes_exactly_16_bytes(size: int) -> None:
    """Fewer would be guessable."""
    with pytest.raises(ValueError, match="16 random bytes"):
        ids.render("agent", bytes(size))


NAMES: list[tuple[Callable[[str], bool], set[str], set[str]]] = [
    (
        ids.is_id,
        {"ag_" + "a" * 26, "xx_" + "z2" * 13},
        {"", "ag_", "ag_" + "a" * 25, "ag_" + "a" * 27, "AG_" + "a" * 26, "ag_" + "1" * 26, "ag_" + "a" * 26 + "\n"},
    ),
    (ids.is_tenant, {"t", "acme-1", "a" * 31}, {"", "_system", "1a", "A", "a" * 32, "a_b", "a\n", "a/b", "é"}),
    (
        ids.is_login,
        {"root", "_apt", "deploy-2", "a" * 32},
        {"", "-oProxyCommand", "0", "1001", "a" * 33, "Root", "a b", "a\n", "a/b", "../x", "a.b", "a+b", "a@b"},
    ),
    (
        ids.is_name,
        {"web1", "1", "a.b-c_d", "a" * 63},
        {"", ".a", "-a", "_a", "a" * 64, "A", "a+b", "a@b", "a\n", "a b"},
    ),
]


@pytest.mark.parametrize(("check", "good", "bad"), NAMES, ids=["id", "tenant", "login", "name"])
def test_names(check: Callable[[str], bool], good: set[str], bad: set[str]) -> None:
    """What may stand in paths, principals and records; a trailing newline is no part of a name."""
    assert {text for text in good | bad if check(text)} == good


@given(st.text(st.characters(), max_size=70))
def test_no_text_passes_as_a_name_that_a_shell_or_path_reads_otherwise(text: str) -> None:
    """Every name that passes is lower-case ASCII without a separator, and never starts like an option."""
    for check in (ids.is_id, ids.is_tenant, ids.is_login, ids.is_name):
        if check(text):
            assert text.isascii()
            assert text == text.lower()
            assert not set(text) & set("/\\ \t\r\n\0$`'\"+@*?;&|<>()")
            assert not text.startswith(("-", "."))


# ---- time


@given(st.datetimes(datetime(1900, 1, 1), datetime(2500, 1, 1)))  # noqa: DTZ001  hypothesis wants naive bounds
def test_times_survive_as_microseconds(naive: datetime) -> None:
    """Exactly, before the epoch too, from any zone."""
    moment = naive.replace(tzinfo=UTC)
    assert from_micros(micros(moment)) == moment
    assert micros(moment) == (moment - EPOCH) // timedelta(microseconds=1)
    assert micros(moment.astimezone(timezone(timedelta(hours=5, minutes=45)))) == micros(moment)
    assert micros(EPOCH) == 0


def test_an_instant_cannot_be_changed() -> None:
    """One reading of both clocks stays what it was."""
    instant = Instant(wall=EPOCH, mono=1.0)
    with pytest.raises(FrozenInstanceError):
        instant.mono = 2.0  # type: ignore[misc]


# ---- secrets


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        format,
        lambda s: f"{s}",
        lambda s: f"{s!r:>30}",
        lambda s: f"{s:>40}",
        lambda s: "%s %r" % (s, s),  # noqa: UP031  an old spelling leaks as little
        lambda s: str([s]),
        lambda s: str({"token": s}),
        lambda s: logging.LogRecord("x", 10, "x", 1, "%s", (s,), None).getMessage(),
        lambda s: str(ValueError(s)),
        lambda s: json.dumps({"token": s}, default=str),
        lambda s: repr(dir(s)),
    ],
    ids=range(13),
)
def test_a_secret_never_shows(show: Callable[[Secret[str]], str]) -> None:
    """I-36: no way of writing it down holds what is in it."""
    assert CANARY not in show(Secret(CANARY))


@pytest.mark.parametrize(
    "misuse",
    [
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        json.dumps,
        hash,
        list,
        bytes,
        vars,
        lambda s: s == CANARY,
        lambda s: s == s,  # noqa: PLR0124  even with itself
        lambda s: s != CANARY,
        lambda s: CANARY in s,
        lambda s: {s: 1},
        lambda s: s + "x",
    ],
    ids=range(14),
)
def test_a_secret_refuses_to_be_handled(misuse: Callable[[Secret[str]], object]) -> None:
    """I-36: no copy, no comparison that leaks by its timing, no iteration; the error does not show it either."""
    with pytest.raises(TypeError) as refused:
        misuse(Secret(CANARY))
    assert CANARY not in str(refused.value)


def test_a_secret_has_one_way_out() -> None:
    """And what comes out is the very value, so that it can be zeroed."""
    value = bytearray(b"x")
    assert Secret(value).reveal() is value


# ---- errors


@pytest.mark.parametrize(
    ("make", "blame"),
    [
        (errors.invalid, Blame.INVALID),
        (errors.forbidden, Blame.FORBIDDEN),
        (errors.conflict, Blame.CONFLICT),
        (errors.expired, Blame.EXPIRED),
        (errors.exhausted, Blame.EXHAUSTED),
    ],
)
def test_refusals_carry_code_message_and_way_out(make: Callable[..., Refusal], blame: Blame) -> None:
    """A stable code for programs, a sentence for people, and what to do next."""
    refusal = make("some_code", "it is so", "do this")
    assert (refusal.code, refusal.message, refusal.way_out, refusal.blame) == (
        "some_code",
        "it is so",
        "do this",
        blame,
    )
    assert str(refusal) == "it is so"
    assert make("some_code", "it is so").way_out == ""


def test_not_found_says_the_same_for_everything() -> None:
    """I-46: no object, or not yours."""
    refusal = errors.not_found("grant")
    assert (refusal.code, refusal.blame) == ("not_found", Blame.NOT_FOUND)
    assert "grant" in refusal.message


def test_the_two_families_are_apart() -> None:
    """A Fault is ours and has a cause; a door that catches Refusals lets none through as the caller's."""
    fault, lost = Fault("disk full"), TargetFault("no answer", code="unreachable")
    illegal = IllegalTransition("Grant", "over", "use")
    assert fault.what == "disk full"
    assert (lost.what, lost.code) == ("no answer", "unreachable")
    assert illegal.what == "Grant: use is not legal in state over"
    assert not issubclass(Fault, Refusal)
    assert not issubclass(Refusal, Fault)
    for kind in (errors.StoreFault, errors.SignerFault, errors.RecorderFault, errors.VaultFault, TargetFault):
        assert issubclass(kind, Fault)


# ---- events


def test_an_event_starts_empty_and_shares_nothing() -> None:
    """Two events without facts do not share a dictionary."""
    one, two = (AuditEvent(tenant=TenantId("t1"), name="x.done") for _ in range(2))
    assert (one.actor, one.facts, one.personal) == ("", {}, ())
    assert one.facts is not two.facts
    with pytest.raises(FrozenInstanceError):
        Personal(subject="a", name="b", value="c").value = "d"  # type: ignore[misc]


# ---- roles

OWNERS_ALONE = {Permission.PERSON_WRITE, Permission.POLICY_WRITE, Permission.VAULT_WRITE, Permission.CA_ROTATE}
FROM_ADMIN = {
    Permission.AUDIT_READ,
    Permission.TEAM_WRITE,
    Permission.TARGET_WRITE,
    Permission.UNFREEZE,
    Permission.CA_READ,
    Permission.SECRET_WRITE,
    Permission.VAULT_READ,
    Permission.STUCK,
}
FROM_MANAGER = {
    Permission.APPROVAL_DECIDE,
    Permission.SESSION_WATCH,
    Permission.SESSION_TERMINATE,
    Permission.RECORDING_READ,
    Permission.AGENT_WRITE,
    Permission.FREEZE,
    Permission.REVOKE,
}
FROM_VIEWER = {Permission.SESSION_READ, Permission.DIRECTORY_READ, Permission.POLICY_READ, Permission.APPROVAL_READ}
EVERYBODYS = {
    Permission.SELF,
    Permission.ACCESS_REQUEST,
    Permission.ACCESS_READ,
    Permission.ACCESS_REVOKE,
    Permission.ACTION_RUN,
}
LEAST: dict[Permission, int] = {
    **dict.fromkeys(EVERYBODYS, 0),
    **dict.fromkeys(FROM_VIEWER, 1),
    **dict.fromkeys(FROM_MANAGER, 2),
    **dict.fromkeys(FROM_ADMIN, 3),
    **dict.fromkeys(OWNERS_ALONE, 4),
}
"""Permission -> the rank from which on it is held; 0 = agents too."""


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("permission", Permission)
def test_every_cell_of_the_permission_table(role: Role, permission: Permission) -> None:
    """I-42: written down a second time here, so that a change of one cell is seen."""
    wanted = permission in LEAST and RANK.get(role, 0) >= LEAST[permission]
    assert holds(role, permission) == wanted


def test_the_table_covers_everything() -> None:
    """No permission without an owner, but NONE, which is nobody's to hold."""
    assert set(LEAST) == set(Permission) - {Permission.NONE}
    assert set(MATRIX) == set(Role)


def test_ranks() -> None:
    """I-43: a higher rank holds all of a lower one's; agents have none and hold no administrative permission (I-17)."""
    ordered = sorted(RANK, key=lambda role: RANK[role])
    assert ordered == [Role.VIEWER, Role.MANAGER, Role.ADMIN, Role.OWNER]
    for lower, higher in itertools.pairwise(ordered):
        assert MATRIX[lower] < MATRIX[higher]
    assert Role.AGENT not in RANK
    assert MATRIX[Role.AGENT] == EVERYBODYS
    assert frozenset({Role.MANAGER}) == TEAM_BOUND


def test_the_table_cannot_be_changed_at_run_time() -> None:
    """No code path adds a permission."""
    with pytest.raises(TypeError):
        roles.MATRIX[Role.AGENT] = MATRIX[Role.OWNER]  # type: ignore[index]
    assert isinstance(MATRIX[Role.AGENT], frozenset)
