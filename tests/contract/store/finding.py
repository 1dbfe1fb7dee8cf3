"""Pages, states and who is looked for. A part of the contract of every Store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

from broker.adapters.store.store import SqlStore
from broker.core.action import ActionEvent, ActionState, advance
from broker.core.approval import Verdict
from broker.core.grant import Grant, GrantState
from broker.core.ids import ActionId, GrantId
from broker.core.request import RequestState
from broker.service.ports import SessionState, Tx
from tests.broker.adapters.store import samples
from tests.broker.adapters.store.fixtures import NOW, TENANT
from tests.contract.store.races import each


class FindingContract:
    """Pages, states and who is looked for. Inherited by StoreContract."""

    async def test_pages_are_newest_first_and_complete(self, store: SqlStore) -> None:
        """Page by page everything comes once, newest first, also where times are equal."""
        grants = [samples.grant(n) for n in range(1, 8)]
        grants += [replace(samples.grant(n), approved_at=grants[0].approved_at) for n in range(8, 11)]
        await store.run(TENANT, lambda tx: each(tx.grants.put, grants))

        def page_after(last: GrantId | None) -> Callable[[Tx], Sequence[Grant]]:
            return lambda tx: tx.grants.page(identity=None, after=last, limit=3)

        seen: list[GrantId] = []
        while page := await store.read(TENANT, page_after(seen[-1] if seen else None)):
            assert len(page) <= 3
            seen += [grant.id for grant in page]
        newest_first = sorted(grants, key=lambda grant: (grant.approved_at, grant.id), reverse=True)
        assert seen == [grant.id for grant in newest_first]

    async def test_pages_are_of_whom_was_asked_for(self, store: SqlStore) -> None:
        """Of one identity or grant only; after an unknown id nothing; never more than asked for."""
        mine, others = samples.action(1), replace(samples.action(2), identity=samples.agent(2).id)

        def put(tx: Tx) -> None:
            tx.actions.put(mine)
            tx.actions.put(others)
            tx.sessions.put(samples.session())

        await store.run(TENANT, put)

        def look(tx: Tx) -> None:
            of = tx.actions.page
            assert of(grant=None, identity=samples.agent(2).id, after=None, limit=9) == [others]
            assert of(grant=samples.grant().id, identity=None, after=None, limit=9) == [others, mine]
            assert of(grant=GrantId(samples.made("grant", 9)), identity=None, after=None, limit=9) == []
            assert of(grant=None, identity=None, after=ActionId(samples.made("action", 9)), limit=9) == []
            assert of(grant=None, identity=None, after=None, limit=0) == []
            assert tx.sessions.page(identity=samples.agent(1).id, after=None, limit=9) == [samples.session()]
            assert tx.sessions.page(identity=samples.agent(2).id, after=None, limit=9) == []

        await store.read(TENANT, look)

    async def test_states_are_found(self, store: SqlStore) -> None:
        """What waits, runs or is open is found by its state, oldest first; what is over is not."""
        older, newer, over = (
            replace(samples.request(3), created_at=NOW - timedelta(days=1)),
            samples.request(1),
            replace(samples.request(2), state=RequestState.EXPIRED),
        )
        ended = samples.ended(samples.grant(2))
        closed = replace(samples.session(2), state=SessionState.CLOSED, closed_at=NOW, action_id=None)

        def put(tx: Tx) -> None:
            for one in (older, over):
                tx.requests.put(one)
            tx.grants.put(ended)
            tx.actions.put(samples.action(2))
            tx.actions.put(samples.action(1))
            tx.actions.put(samples.ran(samples.action(3)))
            tx.sessions.put(samples.session(1))
            tx.sessions.put(closed)

        await store.run(TENANT, put)

        def look(tx: Tx) -> None:
            assert tx.requests.pending() == [older, newer]
            assert tx.requests.count_pending(None) == 2
            assert tx.requests.count_pending(samples.agent(2).id) == 0
            assert tx.grants.in_states({GrantState.APPROVED}) == [samples.grant(1)]
            assert tx.grants.in_states({GrantState.REVOKED, GrantState.EXPIRED}) == [ended]
            assert tx.grants.in_states(()) == []
            awaiting = tx.actions.in_states({ActionState.AWAITING}, grant=None)
            assert awaiting == [samples.action(1), samples.action(2)]
            assert tx.actions.in_states({ActionState.AWAITING}, grant=ended.id) == []
            assert tx.actions.in_states({ActionState.AWAITING}, grant=samples.grant().id) == awaiting
            assert tx.actions.count_awaiting(None) == 2 == tx.actions.count_awaiting(samples.agent(1).id)
            assert tx.actions.count_awaiting(samples.agent(2).id) == 0
            assert tx.sessions.open(None) == [samples.session(1)] == tx.sessions.open(samples.grant().id)
            assert tx.sessions.open(ended.id) == []

        await store.read(TENANT, look)

    async def test_a_retry_finds_what_awaits(self, store: SqlStore) -> None:
        """The same command again has the same action key, and finds the one that is still to be decided."""
        await store.run(TENANT, lambda tx: tx.actions.put(samples.action(1)))
        again = samples.action(2)
        found = await store.read(TENANT, lambda tx: tx.actions.awaiting_with_key(again.key(), again.grant_id))
        assert found == samples.action(1)
        decided = advance(samples.action(1), ActionEvent.PERMIT)
        await store.run(TENANT, lambda tx: tx.actions.put(decided))
        assert await store.read(TENANT, lambda tx: tx.actions.awaiting_with_key(again.key(), again.grant_id)) is None

    async def test_a_persons_denial_cools_down(self, store: SqlStore) -> None:
        """What a person denied is found from the time of the denial on; what policy denied is not."""
        by_person, by_policy = (advance(samples.action(n), ActionEvent.DENY) for n in (1, 2))
        denial = replace(samples.approval(), verdict=Verdict.DENY, at=NOW + timedelta(seconds=30))

        def put(tx: Tx) -> None:
            tx.actions.put(by_policy)
            tx.actions.put(by_person)
            tx.approvals.add(denial)
            tx.approvals.add(replace(samples.approval(2, subject_id=by_policy.id), at=NOW + timedelta(hours=1)))

        await store.run(TENANT, put)
        key = by_person.key()
        found = await store.read(TENANT, lambda tx: tx.actions.denied_since(key, by_person.identity, denial.at))
        assert found == by_person
        later = denial.at + timedelta(microseconds=1)
        assert await store.read(TENANT, lambda tx: tx.actions.denied_since(key, by_person.identity, later)) is None
        assert await store.read(TENANT, lambda tx: tx.actions.denied_since(b"k" * 32, by_person.identity, NOW)) is None
