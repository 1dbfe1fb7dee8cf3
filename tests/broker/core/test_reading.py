"""A record that people signed is read back whole, in its one spelling, or not at all (I-10)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.reading import read_access, read_action
from broker.core.records import AccessRecord, ActionRecord, Verification, pae, unpae
from broker.core.sshwire import WireError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
BYTES = st.binary(max_size=12)
TIMES = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  hypothesis wants bounds without a zone
SECONDS = st.integers(0, 10**6).map(lambda n: timedelta(seconds=n))
VERIFICATIONS = st.builds(Verification, command=BYTES, expectation=BYTES, attempts=st.integers(0, 99), deadline=SECONDS)
ACTIONS = st.builds(
    ActionRecord,
    tenant=TEXT, request_id=TEXT, action_id=TEXT, requester=TEXT, agent_id=TEXT, agent_key=BYTES, target_id=TEXT,
    host_key=BYTES, login=TEXT, command=BYTES, cwd=TEXT, env=st.dictionaries(TEXT, TEXT, max_size=3), stdin_mode=TEXT,
    stdin_sha256=BYTES, pty=st.booleans(), command_class=TEXT, opaque=st.booleans(), egress=st.booleans(), tier=TEXT,
    verification=st.none() | VERIFICATIONS, rollback=st.lists(BYTES, max_size=3).map(tuple), not_after=TIMES,
    policy_version=TEXT, nonce=BYTES,
)  # fmt: skip
ACCESSES = st.builds(
    AccessRecord,
    tenant=TEXT, request_id=TEXT, requester=TEXT, agent_id=TEXT, agent_key=BYTES, target_id=TEXT, host_key=BYTES,
    login=TEXT, ceiling=TEXT, flags=st.frozensets(TEXT, max_size=3), ttl=SECONDS, policy_version=TEXT, nonce=BYTES,
)  # fmt: skip
EITHER = st.one_of(ACTIONS, ACCESSES)
_ENV, _PTY, _VERIFICATION, _NOT_AFTER = 12, 15, 20, 22
"""Places of parts in the record of an action (formats.md section 9)."""
_FLAGS, _TTL = 10, 11
"""And in the record of an access request."""


def reader(record: ActionRecord | AccessRecord) -> Callable[[bytes], ActionRecord | AccessRecord]:
    """What reads its kind."""
    return read_action if isinstance(record, ActionRecord) else read_access


@given(EITHER)
def test_what_was_signed_is_read_back(record: ActionRecord | AccessRecord) -> None:
    """Every field comes back as it was signed."""
    assert reader(record)(record.encoded()) == record


@given(EITHER, st.data())
def test_an_edit_never_reads_the_same(record: ActionRecord | AccessRecord, data: st.DataObject) -> None:
    """A record with one bit turned is refused or says something else."""
    edited = bytearray(record.encoded())
    at = data.draw(st.integers(0, len(edited) * 8 - 1))
    edited[at // 8] ^= 1 << at % 8
    with contextlib.suppress(WireError):
        assert reader(record)(bytes(edited)) != record


@given(st.binary(max_size=80), st.lists(BYTES, min_size=14, max_size=25))
def test_any_bytes_are_a_record_or_refused(data: bytes, parts: list[bytes]) -> None:
    """Nothing but WireError comes of bytes that are no record."""
    for read in (read_action, read_access):
        for body in (data, pae(parts)):
            with pytest.raises(WireError):
                read(body)


def plain_action() -> ActionRecord:
    """A record of an action with everything in it."""
    return ActionRecord(
        tenant="t1", request_id="r", action_id="a", requester="q", agent_id="g", agent_key=b"k", target_id="m",
        host_key=b"h", login="deploy", command=b"ls", cwd="/", env={"A": "1", "B": "2"}, stdin_mode="none",
        stdin_sha256=b"", pty=False, command_class="read", opaque=False, egress=False, tier="approval",
        verification=Verification(command=b"true", expectation=b"", attempts=3, deadline=timedelta(seconds=5)),
        rollback=(b"undo",), not_after=datetime(2026, 1, 1, tzinfo=UTC), policy_version="p1", nonce=b"n",
    )  # fmt: skip


def plain_access() -> AccessRecord:
    """The record of an access request."""
    return AccessRecord(
        tenant="t1", request_id="r", requester="q", agent_id="g", agent_key=b"k", target_id="m", host_key=b"h",
        login="deploy", ceiling="write", flags=frozenset({"a", "b"}), ttl=timedelta(seconds=60), policy_version="p1",
        nonce=b"n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("place", "part"),
    [
        (0, b"grantd/access/v1"),
        (0, b"grantd/deny/v1"),
        (_PTY, b"true"),
        (_PTY, b"2"),
        (_NOT_AFTER, b"+1"),
        (_NOT_AFTER, b"01"),
        (_NOT_AFTER, b"9" * 40),
        (_ENV, pae([])),
        (_ENV, pae([b"B", b"2", b"A", b"1"])),
        (_ENV, pae([b"A", b"1", b"A", b"1"])),
        (_ENV, pae([b"A"])),
        (_VERIFICATION, pae([b"true", b"", b"3"])),
        (_VERIFICATION, pae([b"true", b"", b"3", b"5", b""])),
        (_VERIFICATION, pae([b"true", b"", b"03", b"5"])),
        (_VERIFICATION + 1, pae([])),
        (1, b"\xff"),
    ],
)
def test_a_second_spelling_of_an_action_is_refused(place: int, part: bytes) -> None:
    """Another head, other flags, leading zeros and signs, unsorted or doubled names, an empty list written out."""
    parts = list(unpae(plain_action().encoded()))
    assert read_action(pae(parts)) == plain_action()
    parts[place] = part
    with pytest.raises(WireError):
        read_action(pae(parts))


@pytest.mark.parametrize(
    ("place", "part"),
    [
        (0, b"grantd/action/v1"),
        (_FLAGS, pae([])),
        (_FLAGS, pae([b"b", b"a"])),
        (_FLAGS, pae([b"a", b"a"])),
        (_TTL, b"060"),
        (_TTL, b"60.0"),
        (_TTL, b"9" * 30),
    ],
)
def test_a_second_spelling_of_an_access_request_is_refused(place: int, part: bytes) -> None:
    """The same for what an access request says."""
    parts = list(unpae(plain_access().encoded()))
    assert read_access(pae(parts)) == plain_access()
    parts[place] = part
    with pytest.raises(WireError):
        read_access(pae(parts))
