"""Whose yes counts, for what, and for how long (I-10, I-12, I-13, I-15)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core import approval as approvals
from broker.core.approval import USE_WITHIN, Approval, Verdict, is_enough, must_be_another, must_be_fresh
from broker.core.errors import Blame, Refusal
from broker.core.ids import IdentityId
from policy.classes import CommandClass
from tests.broker.adapters.store import samples
from tests.broker.adapters.store.fixtures import NOW

PEOPLE = [samples.person(n).id for n in range(4)]
DIGEST = samples.approval().digest


def vote(person: IdentityId, verdict: Verdict = Verdict.APPROVE) -> Approval:
    """One person's word, given NOW over DIGEST."""
    return replace(samples.approval(), person=person, verdict=verdict, at=NOW, key_fingerprint=f"SHA256:{person}")


@given(st.lists(st.tuples(st.sampled_from(PEOPLE), st.sampled_from(Verdict)), max_size=8), st.integers(-1, 5))
def test_a_quorum_counts_distinct_people_who_said_yes(cast: list[tuple[IdentityId, Verdict]], quorum: int) -> None:
    """I-12: the same person twice is one; a no is none; a quorum below one is never reached."""
    yes = {person for person, verdict in cast if verdict is Verdict.APPROVE}
    assert is_enough([vote(*one) for one in cast], quorum=quorum) == (1 <= quorum <= len(yes))


@given(st.sampled_from(PEOPLE), st.sampled_from(PEOPLE), st.sampled_from([*PEOPLE, samples.agent().id]))
def test_nobody_decides_their_own(person: IdentityId, requester: IdentityId, identity: IdentityId) -> None:
    """I-12: neither what they asked for nor what their agent did."""
    if person in (requester, identity):
        with pytest.raises(Refusal) as refused:
            must_be_another(person, requester=requester, identity=identity)
        assert (refused.value.code, refused.value.blame) == ("own_request", Blame.FORBIDDEN)
    else:
        must_be_another(person, requester=requester, identity=identity)


@given(st.lists(st.integers(-60, 1_200), min_size=1, max_size=4))
def test_an_approval_is_fresh_for_ten_minutes(ages_s: list[int]) -> None:
    """I-13: at ten minutes it still counts, later none of them does."""
    given_votes = [replace(vote(PEOPLE[n]), at=NOW - timedelta(seconds=age)) for n, age in enumerate(ages_s)]
    if max(ages_s) <= USE_WITHIN.total_seconds():
        must_be_fresh(given_votes, digest=DIGEST, now=NOW)
        return
    with pytest.raises(Refusal) as refused:
        must_be_fresh(given_votes, digest=DIGEST, now=NOW)
    assert (refused.value.code, refused.value.blame) == ("approval_too_old", Blame.EXPIRED)


def test_the_limit_is_exact() -> None:
    """One microsecond decides."""
    must_be_fresh([vote(PEOPLE[0])], digest=DIGEST, now=NOW + USE_WITHIN)
    with pytest.raises(Refusal):
        must_be_fresh([vote(PEOPLE[0])], digest=DIGEST, now=NOW + USE_WITHIN + timedelta(microseconds=1))


@given(st.binary(min_size=32, max_size=32))
def test_a_yes_over_another_digest_is_none(digest: bytes) -> None:
    """I-10: one bit of difference voids it, however fresh; a denial's digest does not matter."""
    if digest == DIGEST:
        return
    with pytest.raises(Refusal) as refused:
        must_be_fresh([vote(PEOPLE[0])], digest=digest, now=NOW)
    assert refused.value.code == "digest_mismatch"
    must_be_fresh([vote(PEOPLE[0], Verdict.DENY)], digest=digest, now=NOW)


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("command_class", CommandClass)
def test_a_code_is_typed_from_execute_on(command_class: CommandClass, *, opaque: bool) -> None:
    """I-15: execute, install, reboot, and whatever could not be looked into."""
    wanted = opaque or command_class in {CommandClass.EXECUTE, CommandClass.INSTALL, CommandClass.REBOOT}
    assert approvals.needs_code(command_class, opaque=opaque) == wanted
    assert replace(samples.action(), command_class=command_class, opaque=opaque).needs_code() == wanted


CHANGES: dict[str, Any] = {
    "tenant": "t2", "id": "ac_x", "request_id": "rq_x", "requester": "pe_x", "identity": "ag_x",
    "identity_key": b"k", "target_id": "tg_x", "host_key": b"h", "login": "root", "command": b"id", "cwd": "/",
    "env": {"TERM": "x"}, "stdin_sha256": b"s", "pty": True, "command_class": CommandClass.READ, "opaque": False,
    "egress": True, "verification": None, "rollback": (), "policy_version": "v", "nonce": b"n",
    "not_after": NOW, "stdin_mode": "none", "tier": "approval",
}  # fmt: skip
UNBOUND: dict[str, Any] = {
    "grant_id": "gr_x",
    "outlives": False,
    "reason": "x",
    "quorum": 9,
    "note": "x",
    "session_id": "se_x",
}
IN_KEY = {
    "tenant", "identity", "target_id", "login", "command", "cwd", "env", "stdin_sha256", "verification", "rollback",
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_the_digest_of_a_command_binds_everything(name: str) -> None:
    """I-10, I-14: change one field, it is another digest; the action key changes with what the action is."""
    before = samples.action()
    after = replace(before, **{name: CHANGES[name]})
    assert after.digest() != before.digest()
    assert (after.key() != before.key()) == (name in IN_KEY)


@pytest.mark.parametrize("name", UNBOUND)
def test_an_agents_words_are_in_no_digest(name: str) -> None:
    """A retry with a new reason is the same action; what our own books say of it is not signed."""
    before = samples.action()
    after = replace(before, **{name: UNBOUND[name]})
    assert (after.digest(), after.key()) == (before.digest(), before.key())


@pytest.mark.parametrize(
    ("name", "value", "bound"),
    [
        ("tenant", "t2", True), ("id", "rq_x", True), ("requester", "pe_x", True), ("identity", "ag_x", True),
        ("identity_key", b"k", True), ("target_id", "tg_x", True), ("host_key", b"h", True), ("login", "root", True),
        ("ceiling", CommandClass.READ, True), ("flags", frozenset(), True), ("ttl", timedelta(1), True),
        ("policy_version", "v", True), ("nonce", b"n", True), ("reason", "x", False), ("evidence", "x", False),
        ("ticket", "x", False), ("quorum", 9, False), ("note", "x", False),
    ],
)  # fmt: skip
def test_the_digest_of_an_access_request(name: str, value: object, *, bound: bool) -> None:
    """I-10, I-14: everything but the requester's own words."""
    before = samples.request()
    assert (replace(before, **{name: value}).digest() != before.digest()) == bound  # type: ignore[arg-type]


def test_a_person_is_no_agent_in_the_record() -> None:
    """The field is empty where a person asked, in both records."""
    person = samples.person().id
    assert replace(samples.action(), identity=person).record().agent_id == ""
    assert replace(samples.request(), identity=person).record().agent_id == ""
    assert samples.action().record().agent_id == samples.agent().id
