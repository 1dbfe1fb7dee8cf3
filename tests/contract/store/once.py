"""What holds for a name and what happens exactly once, in a race too. A part of the contract of every Store."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.adapters.store.store import SqlStore
from broker.core.action import ActionEvent, ActionState, advance
from broker.core.approval import Subject, Verdict
from broker.core.errors import Refusal
from broker.core.grant import GrantState
from broker.core.identity import IdentityKind, IdentityStatus
from broker.core.ids import GrantId
from broker.core.request import RequestState
from broker.service.ports import Choice, JoinToken, Tx
from tests.broker.adapters.store import samples
from tests.broker.adapters.store.fixtures import NOW, OTHER, TENANT
from tests.contract.store.races import GAP_SECONDS, RACERS, each, race


class OnceContract:
    """What holds for a name and what happens exactly once, in a race too. Inherited by StoreContract."""

    @pytest.mark.parametrize("kind", ["identity", "team", "target"])
    async def test_a_name_is_taken_once(self, store: SqlStore, kind: str) -> None:
        """A second object with a name is refused, and a unit that catches the refusal goes on."""

        def put(tx: Tx) -> None:
            seconds: dict[str, Callable[[], None]] = {
                "identity": lambda: tx.identities.put(replace(samples.person(2), name=samples.person(1).name)),
                "team": lambda: tx.teams.put(replace(samples.team(2), name=samples.team(1).name)),
                "target": lambda: tx.targets.put(replace(samples.target(2), name=samples.target(1).name)),
            }
            with pytest.raises(Refusal) as refused:
                seconds[kind]()
            assert refused.value.code == "name_taken"
            tx.teams.put(samples.team(3))

        await store.run(TENANT, put)
        assert await store.read(TENANT, lambda tx: tx.teams.get(samples.team(3).id)) == samples.team(3)
        assert await store.read(TENANT, lambda tx: tx.identities.get(samples.person(2).id)) == samples.person(2)

    async def test_people_without_the_agents(self, store: SqlStore) -> None:
        """Whoever may pull the kill switch is among the people (I-61)."""
        await store.run(TENANT, lambda tx: tx.identities.put(samples.person(2)))
        found = await store.read(TENANT, lambda tx: tx.identities.people())
        assert samples.person(2) in found
        assert {row.kind for row in found} == {IdentityKind.PERSON}

    async def test_live_grants_are_chosen_by_what_they_are(self, store: SqlStore) -> None:
        """By identity, target, the request's exact ticket and all of them together; one that is over never (I-02)."""

        def put(tx: Tx) -> None:
            tx.requests.put(replace(samples.request(7), ticket="OPS-7", state=RequestState.APPROVED))
            tx.identities.put(samples.agent(2))
            tx.targets.put(samples.target(2))
            for grant in (
                replace(samples.grant(11), identity=samples.agent(2).id),
                replace(samples.grant(12), target_id=samples.target(2).id, state=GrantState.ACTIVE, not_after=NOW),
                replace(samples.grant(13), request_id=samples.request(7).id),
                replace(samples.grant(14), request_id=samples.request(7).id, state=GrantState.REVOKED),
            ):
                tx.grants.put(grant)

        await store.run(TENANT, put)
        everything = Choice(identities=None, targets=None, ticket=None)

        async def found(choice: Choice) -> set[GrantId]:
            return set(await store.read(TENANT, lambda tx: tx.grants.live_ids(choice)))

        live = {samples.grant(n).id for n in (11, 12, 13)}
        assert live <= await found(everything)
        assert samples.grant(14).id not in await found(everything)
        assert await found(replace(everything, identities=frozenset({samples.agent(2).id}))) == {samples.grant(11).id}
        assert await found(replace(everything, identities=frozenset())) == set()
        assert await found(replace(everything, targets=frozenset({samples.target(2).id}))) == {samples.grant(12).id}
        assert await found(replace(everything, ticket="OPS-7")) == {samples.grant(13).id}
        assert await found(replace(everything, ticket="OPS")) == set()
        both = Choice(identities=frozenset({samples.agent(2).id}), targets=None, ticket="OPS-7")
        assert await found(both) == set()
        assert not await store.read(OTHER, lambda tx: tx.grants.live_ids(replace(everything, ticket="OPS-7")))

    async def test_a_client_key_is_one_identitys(self, store: SqlStore) -> None:
        """Two identities with one key would make a caller ambiguous (I-08)."""
        with pytest.raises(Refusal) as refused:
            await store.run(TENANT, lambda tx: tx.identities.put(replace(samples.agent(2), key=samples.agent(1).key)))
        assert refused.value.code == "key_taken"

    async def test_only_active_identities_have_a_key(self, store: SqlStore) -> None:
        """A suspended identity is not found by its key, and nobody by the empty one."""
        waiting = [
            replace(samples.agent(n), id=samples.agent(n).id, key=b"", status=IdentityStatus.INVITED) for n in (1, 2)
        ]
        suspended = replace(samples.person(), status=IdentityStatus.SUSPENDED)
        await store.run(TENANT, lambda tx: each(tx.identities.put, [*waiting, suspended]))
        assert await store.read(TENANT, lambda tx: tx.identities.by_key(b"")) is None
        assert await store.read(TENANT, lambda tx: tx.identities.by_key(suspended.key)) is None
        assert await store.read(TENANT, lambda tx: tx.identities.get(waiting[0].id)) == waiting[0]

    # ---- exactly one
    async def test_a_join_token_is_spent_once(self, store: SqlStore) -> None:
        """Of 20 who bring the token at once exactly one gets the identity (I-53, I-63)."""
        token = JoinToken(
            tenant=TENANT, secret_sha256=b"s" * 32, identity=samples.agent().id, expires_at=NOW + timedelta(minutes=5)
        )
        await store.run(TENANT, lambda tx: tx.identities.put_join(token))
        takers = [store.run(TENANT, lambda tx: tx.identities.take_join(b"s" * 32, NOW)) for _ in range(RACERS)]
        assert sorted(await race(takers), key=str) == [None] * (RACERS - 1) + [samples.agent().id]

    async def test_a_late_join_token_is_worth_nothing(self, store: SqlStore) -> None:
        """At its end it is over; before, it is not."""
        token = JoinToken(tenant=TENANT, secret_sha256=b"s" * 32, identity=samples.agent().id, expires_at=NOW)
        await store.run(TENANT, lambda tx: tx.identities.put_join(token))
        assert await store.run(TENANT, lambda tx: tx.identities.take_join(b"s" * 32, NOW)) is None
        just_before = NOW - timedelta(microseconds=1)
        assert await store.run(OTHER, lambda tx: tx.identities.take_join(b"s" * 32, just_before)) is None
        assert await store.run(TENANT, lambda tx: tx.identities.take_join(b"x" * 32, just_before)) is None
        assert await store.run(TENANT, lambda tx: tx.identities.take_join(b"s" * 32, just_before)) == token.identity

    async def test_approvals_are_spent_once(self, store: SqlStore) -> None:
        """Of 20 uses at once exactly one counts, and a yes that comes later does not make a second (I-13, I-63)."""
        subject_id = samples.action().id
        await store.run(TENANT, lambda tx: tx.approvals.add(samples.approval(1)))
        spends = [store.run(TENANT, lambda tx: tx.approvals.spend(Subject.ACTION, subject_id)) for _ in range(RACERS)]
        assert (await race(spends)).count(True) == 1
        await store.run(TENANT, lambda tx: tx.approvals.add(samples.approval(2)))
        assert await store.run(TENANT, lambda tx: tx.approvals.spend(Subject.ACTION, subject_id)) is False

    async def test_a_nonce_is_new_once(self, store: SqlStore) -> None:
        """Of 20 who show a nonce at once one is first; another purpose or tenant has nonces of its own."""
        shows = [store.run(TENANT, lambda tx: tx.seen.first_time("sign_in", b"n", NOW)) for _ in range(RACERS)]
        assert (await race(shows)).count(True) == 1
        assert await store.run(TENANT, lambda tx: tx.seen.first_time("change", b"n", NOW)) is True
        assert await store.run(OTHER, lambda tx: tx.seen.first_time("sign_in", b"n", NOW)) is True

    async def test_a_state_changes_once(self, store: SqlStore) -> None:
        """Of 20 who decide the same action at once exactly one does; the others see its state (I-10)."""
        action = samples.action()
        await store.run(TENANT, lambda tx: tx.actions.put(action))

        def decide(number: int) -> Callable[[Tx], int]:
            def unit(tx: Tx) -> int:
                found = tx.actions.get(action.id)
                if found is None or found.state is not ActionState.AWAITING:
                    raise LookupError("too late")
                time.sleep(GAP_SECONDS)
                tx.actions.put(advance(found, ActionEvent.PERMIT, note=f"by {number}"))
                return number

            return unit

        outcomes = await race([store.run(TENANT, decide(number)) for number in range(RACERS)])
        [winner] = [outcome for outcome in outcomes if isinstance(outcome, int)]
        assert all(isinstance(outcome, LookupError) for outcome in outcomes if outcome is not winner)
        kept = await store.read(TENANT, lambda tx: tx.actions.get(action.id))
        assert kept is not None
        assert kept.note == f"by {winner}"

    async def test_a_limit_holds_in_a_race(self, store: SqlStore) -> None:
        """Counting and adding is one step: under a limit of 5, of 20 at once 4 join the one there is (I-19)."""

        def ask(number: int) -> Callable[[Tx], bool]:
            def unit(tx: Tx) -> bool:
                if tx.requests.count_pending(samples.agent().id) >= 5:
                    return False
                time.sleep(GAP_SECONDS)
                tx.requests.put(samples.request(number))
                return True

            return unit

        outcomes = await race([store.run(TENANT, ask(number)) for number in range(2, 2 + RACERS)])
        assert outcomes.count(True) == 4
        assert await store.read(TENANT, lambda tx: tx.requests.count_pending(None)) == 5

    async def test_a_person_has_one_voice(self, store: SqlStore) -> None:
        """A second decision of the same person is refused, and the first stands."""
        again = replace(samples.approval(1), id=samples.approval(2).id, verdict=Verdict.DENY)
        await store.run(TENANT, lambda tx: tx.approvals.add(samples.approval(1)))
        with pytest.raises(Refusal) as refused:
            await store.run(TENANT, lambda tx: tx.approvals.add(again))
        assert refused.value.code == "already_decided"
        kept = await store.read(TENANT, lambda tx: tx.approvals.of(Subject.ACTION, samples.action().id))
        assert kept == [samples.approval(1)]
