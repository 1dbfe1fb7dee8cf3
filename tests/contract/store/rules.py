"""Rules, effects and what is written once. A part of the contract of every Store."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection, select

from broker.adapters.store import schema
from broker.adapters.store.store import SqlStore
from broker.core.events import AuditEvent
from broker.core.grant import LIVE, OVER, EndReason, GrantState
from broker.core.ids import RecordingId
from broker.core.secret import Secret
from broker.service.ports import Effect, Freeze, PolicyVersion, Tx
from tests.broker.adapters.store import samples
from tests.broker.adapters.store.fixtures import NOW, OTHER, TENANT
from tests.contract.store.races import GAP_SECONDS, RACERS, each, race


class RuleContract:
    """Rules, effects and what is written once. Inherited by StoreContract."""

    async def test_the_newest_policy_is_current(self, store: SqlStore) -> None:
        """Also when it is an old one put again."""
        first, second = (
            PolicyVersion(tenant=TENANT, version=v * 64, sources={"a.cedar": samples.HOSTILE}, put_by="x", put_at=NOW)
            for v in "ab"
        )

        def put(version: PolicyVersion) -> Callable[[Tx], None]:
            return lambda tx: tx.policies.put(version)

        for version in (first, second, first):
            await store.run(TENANT, put(version))
            assert await store.read(TENANT, lambda tx: tx.policies.current()) == version
        found = await store.read(TENANT, lambda tx: [tx.policies.by_version(v * 64) for v in "abc"])
        assert found == [first, second, None]

    async def test_a_freeze_stands_until_lifted(self, store: SqlStore) -> None:
        """One a tenant; another tenant's is none of ours (I-61)."""
        freeze = Freeze(tenant=TENANT, frozen_by=samples.person().id, reason=samples.HOSTILE, at=NOW)
        await store.run(TENANT, lambda tx: tx.freezes.put(freeze))
        assert await store.read(OTHER, lambda tx: tx.freezes.active()) is None
        await store.run(OTHER, lambda tx: tx.freezes.lift())
        assert await store.read(TENANT, lambda tx: tx.freezes.active()) == freeze
        await store.run(TENANT, lambda tx: tx.freezes.lift())
        assert await store.read(TENANT, lambda tx: tx.freezes.active()) is None

    async def test_a_call_is_made_once(self, store: SqlStore) -> None:
        """20 calls with one idempotency key at once make one thing, and all hear of it."""
        who = samples.agent().id

        def call(number: int) -> Callable[[Tx], str]:
            def unit(tx: Tx) -> str:
                earlier = tx.idempotency.find(who, "M", "k")
                if earlier is not None:
                    assert earlier[0] == b"h" * 32
                    return earlier[1]
                time.sleep(GAP_SECONDS)
                tx.idempotency.put(who, "M", "k", b"h" * 32, f"made-{number}", NOW)
                return f"made-{number}"

            return unit

        outcomes = await race([store.run(TENANT, call(number)) for number in range(RACERS)])
        assert len(set(outcomes)) == 1
        assert await store.read(TENANT, lambda tx: tx.idempotency.find(samples.agent(2).id, "M", "k")) is None

    async def test_effects_wait_until_done(self, store: SqlStore) -> None:
        """Due ones come in order, done ones never again, retried ones later and counted."""
        effects = [
            Effect(
                tenant=TENANT, id=0, kind="end_grant", subject=f"gr_{n}", attempts=0, due_at=NOW + timedelta(seconds=n)
            )
            for n in (2, 1, 3)
        ]
        await store.run(TENANT, lambda tx: each(tx.outbox.put, effects))
        due = await store.read(TENANT, lambda tx: tx.outbox.due(NOW + timedelta(seconds=2), 10))
        assert [effect.subject for effect in due] == ["gr_1", "gr_2"]
        assert await store.read(TENANT, lambda tx: tx.outbox.due(NOW + timedelta(seconds=2), 1)) == due[:1]
        late = NOW + timedelta(hours=1)

        def work(tx: Tx) -> None:
            tx.outbox.done(due[0])
            tx.outbox.retry(due[1], late, why="it hangs", now=NOW)

        await store.run(TENANT, work)
        left = await store.read(TENANT, lambda tx: tx.outbox.due(late, 10))
        assert [(effect.subject, effect.attempts, effect.due_at) for effect in left] == [
            ("gr_3", 0, effects[2].due_at),
            ("gr_2", 1, late),
        ]

    async def test_a_failing_effect_says_why_and_since_when(self, store: SqlStore) -> None:
        """The first failure's moment, the last one's cause; found by its subject whether due or not."""
        made = Effect(tenant=TENANT, id=0, kind="end_grant", subject="gr_1", attempts=0, due_at=NOW)
        await store.run(TENANT, lambda tx: each(tx.outbox.put, [made, replace(made, subject="gr_2")]))
        for minute, why in ((1, "it hangs"), (2, "it is gone")):
            now = NOW + timedelta(minutes=minute)

            def fail(tx: Tx, now: datetime = now, why: str = why) -> None:
                [effect] = tx.outbox.of("end_grant", "gr_1")
                tx.outbox.retry(effect, now + timedelta(hours=1), why=why, now=now)

            await store.run(TENANT, fail)
        [failing] = await store.read(TENANT, lambda tx: tx.outbox.of("end_grant", "gr_1"))
        assert (failing.attempts, failing.why, failing.failing_since) == (2, "it is gone", NOW + timedelta(minutes=1))
        assert await store.read(TENANT, lambda tx: tx.outbox.of("other", "gr_1")) == []
        await store.run(TENANT, lambda tx: tx.outbox.hasten(failing, NOW))
        due = await store.read(TENANT, lambda tx: tx.outbox.due(NOW, 10))
        assert [(effect.subject, effect.attempts) for effect in due] == [("gr_1", 2), ("gr_2", 0)]

    async def test_what_is_due_is_found_by_its_deadline(self, store: SqlStore) -> None:
        """I-01: must_start_by before the first use, not_after from then on; what is over has none. Of one tenant."""
        waiting = replace(samples.grant(2), must_start_by=NOW + timedelta(seconds=2))
        used = replace(samples.grant(3), state=GrantState.ACTIVE, not_after=NOW + timedelta(seconds=1))
        over = samples.ended(samples.grant(4))

        def put(tx: Tx) -> None:
            each(tx.grants.put, [waiting, used, over])

        await store.run(TENANT, put)

        def look(tx: Tx) -> None:
            every = [used.id, waiting.id, samples.grant(1).id]
            assert [grant for grant, _ in tx.grants.deadlines()] == every
            assert dict(tx.grants.deadlines())[used.id] == NOW + timedelta(seconds=1)
            assert tx.grants.due(NOW, 9) == []
            assert tx.grants.due(NOW + timedelta(seconds=1), 9) == [used.id]
            assert tx.grants.due(NOW + timedelta(days=99), 9) == every
            assert tx.grants.due(NOW + timedelta(days=99), 1) == [used.id]
            assert (tx.grants.count(LIVE), tx.grants.count(OVER), tx.grants.count(())) == (3, 1, 0)

        await store.read(TENANT, look)
        others = await store.read(OTHER, lambda tx: tx.grants.due(NOW + timedelta(days=99), 9))
        assert others == [samples.grant(1).id]

    async def test_what_was_revoked_lately_is_found(self, store: SqlStore) -> None:
        """Ended by somebody, not by time, at a moment or later; the newest first, a tenant's own alone (I-62)."""
        ends = [
            (EndReason.REVOKED, 30), (EndReason.FROZEN, 20), (EndReason.EXPIRED, 10), (EndReason.REVOKED, 5),
            (EndReason.NEVER_STARTED, 4), (EndReason.IDENTITY_REMOVED, 61),
        ]  # fmt: skip

        def fill(tx: Tx) -> None:
            for number, (reason, ago) in enumerate(ends):
                grant = samples.grant(number + 2)
                ended_at = NOW - timedelta(seconds=ago)
                tx.grants.put(replace(grant, state=GrantState.REVOKED, end_reason=reason, ended_at=ended_at))

        await store.run(TENANT, fill)
        since = NOW - timedelta(seconds=30)
        found = await store.read(TENANT, lambda tx: tx.grants.revoked_since(since))
        assert found == [(samples.grant(n).id, samples.grant(n).target_id) for n in (5, 3, 2)]
        assert await store.read(OTHER, lambda tx: tx.grants.revoked_since(since)) == []

    async def test_an_old_done_removes_no_new_effect(self, store: SqlStore) -> None:
        """A number that comes again belongs to another effect: nothing that still has to end is forgotten (I-02)."""
        first = Effect(tenant=TENANT, id=0, kind="end_grant", subject="gr_1", attempts=0, due_at=NOW)
        await store.run(TENANT, lambda tx: tx.outbox.put(first))
        [stored] = await store.read(TENANT, lambda tx: tx.outbox.due(NOW, 10))
        await store.run(TENANT, lambda tx: tx.outbox.done(stored))
        await store.run(TENANT, lambda tx: tx.outbox.put(replace(first, subject="gr_2")))
        await store.run(TENANT, lambda tx: tx.outbox.done(stored))
        assert [left.subject for left in await store.read(TENANT, lambda tx: tx.outbox.due(NOW, 10))] == ["gr_2"]

    async def test_audit_and_keys_are_in_the_transaction(self, store: SqlStore) -> None:
        """The rows that other modules make are part of the same unit: all of it or nothing (I-31)."""
        event = AuditEvent(tenant=TENANT, name="grant.activated", actor=samples.agent().id)

        def unit(tx: Tx) -> None:
            tx.audit.append(event, NOW)
            tx.keys.new_recording_key(RecordingId(samples.made("recording", 1)))
            tx.keys.put_secret("a", Secret(b"value"))

        def failing(tx: Tx) -> None:
            unit(tx)
            raise LookupError("after everything")

        with pytest.raises(LookupError):
            await store.run(TENANT, failing)
        assert await store.read_sql(TENANT, _owners) == {"audit_pending": [], "recording_key": [], "secret": []}
        await store.run(TENANT, unit)
        ours = [TENANT]
        assert await store.read_sql(TENANT, _owners) == {"audit_pending": ours, "recording_key": ours, "secret": ours}


def _owners(conn: Connection) -> dict[str, list[str]]:
    """Whose rows are there."""
    tables = (schema.audit_pending, schema.recording_key, schema.secret)
    return {table.name: list(conn.execute(select(table.c.tenant)).scalars()) for table in tables}
