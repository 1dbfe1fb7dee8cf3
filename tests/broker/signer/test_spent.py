"""An approval is used once, and is remembered for as long as it could be shown again (I-12, I-13)."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from broker.core.clock import from_micros, micros
from broker.core.proof import RECORD_FOR, SLACK
from broker.core.reading import read_action
from broker.core.signing import Signed, SignSsh
from broker.signer.authority import Authority
from broker.signer.rows import encode_row
from broker.signer.spent import KEPT_US, Spent
from tests.broker.core.test_proof import why
from tests.broker.signer.world import MANAGER, Asker, furnish, machine, open_authority

NOW = from_micros(1_763_769_600_000_000)
MINUTE = timedelta(minutes=1)


def row(record: bytes, at: datetime, *, signatures: int = 1) -> bytes:
    """A row of the journal for a certificate that was signed for this record."""
    return encode_row(
        {"kind": "ssh", "t": micros(at), "record": record.hex(), "signatures": ["ab" * 32] * signatures}, at
    )


def record(number: int) -> bytes:
    """The SHA-256 of one."""
    return hashlib.sha256(str(number).encode()).digest()


# each step: the clock moves by so many seconds, either way; then the n-th record that was ever made is shown again
STEPS = st.lists(
    st.tuples(st.sampled_from((-3_600, -1_800, -90, -29, 29, 90, 1_800, 3_600)), st.integers(0, 8)),
    min_size=1,
    max_size=40,
)


@given(STEPS)
def test_no_walk_of_the_clock_has_one_used_twice(steps: list[tuple[int, int]]) -> None:
    """What is fresh by the clock and unused is used; nothing a second time, also after a restart."""
    spent, rows, now = Spent(), list[bytes](), NOW
    made, used = list[datetime](), set[int]()
    for seconds, again in steps:
        now += timedelta(seconds=seconds)
        made.append(now)
        for number in {len(made) - 1, again % len(made)}:
            fresh = -SLACK <= now - made[number] <= RECORD_FOR + SLACK
            if not fresh or spent.has(record(number), made[number]):
                continue
            assert number not in used
            used.add(number)
            rows.append(row(record(number), now))
            spent.take(rows[-1])
    anew = Spent()
    for one in rows:
        anew.take(one)
    assert all(anew.has(record(n), made[n]) for n in used)
    assert [anew.has(record(n), at) for n, at in enumerate(made)] == [
        spent.has(record(n), at) for n, at in enumerate(made)
    ]


def test_it_holds_what_people_approve_in_twenty_minutes() -> None:
    """A day of ten approvals a minute, and reads between them: not more is kept than what could come again."""
    spent, most = Spent(), 0
    for number in range(14_400):
        at = NOW + number * MINUTE / 10
        spent.take(row(record(number), at))
        spent.take(row(record(-number), at, signatures=0))
        most = max(most, len(spent))
    assert most == KEPT_US // 6_000_000 + 1
    assert spent.has(record(14_399), NOW + 14_399 * MINUTE / 10)
    assert spent.has(record(3), NOW + 3 * MINUTE / 10)
    assert not spent.has(record(14_400), NOW + 1_440 * MINUTE)


def test_a_record_of_a_clock_that_is_ahead_is_kept_as_long() -> None:
    """Made half a minute after the row by its own word, as the rule lets it: forgotten, it is used all the same."""
    spent = Spent()
    spent.take(row(record(0), NOW))
    spent.take(row(record(1), NOW + 22 * MINUTE))
    assert len(spent) == 1
    assert spent.has(record(0), NOW + SLACK)
    assert not spent.has(record(2), NOW + SLACK + MINUTE)


def test_a_clock_that_ran_ahead_makes_nothing_fresh_again(tmp_path: Path) -> None:
    """Set an hour ahead it forgets; set back it refuses what was used, after a start too."""
    at, asker = [NOW], Asker(now=NOW)
    furnish(tmp_path / "keys", machine("web1"), at=NOW)

    def opened() -> Authority:
        return open_authority(tmp_path / "keys", lambda: at[0])

    signer, first = opened(), asker.ask(asker.record(), MANAGER)
    assert why(signer, first) == ""
    at[0] += 60 * MINUTE
    late = Asker(now=at[0])
    assert why(signer, late.ask(late.record(), MANAGER)) == ""
    at[0] = NOW + MINUTE
    assert "not used yet" in why(signer, _again(first, at[0]))
    signer.stop()
    again = opened()
    assert "not used yet" in why(again, _again(first, at[0]))
    fresh = Asker(now=at[0])
    assert isinstance(again.answer(fresh.ask(fresh.record(), MANAGER)), Signed)
    again.stop()


def _again(ask: SignSsh, now: datetime) -> SignSsh:
    """The same approval for a certificate of now."""
    anew = Asker(now=now)
    return replace(ask, spec=anew.spec(read_action(ask.record)))
