"""What every Store promises, whichever database is under it. A test class inherits it and gives `store`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, select

from broker.adapters.store import schema
from broker.adapters.store.backend import MAX_WAITING
from broker.adapters.store.faults import BUSY, CLOSED, READ_ONLY, REFUSED
from broker.adapters.store.postgres import CONNECTIONS
from broker.adapters.store.store import SqlStore
from broker.core.action import ActionEvent, ActionState, advance
from broker.core.approval import Subject, Verdict
from broker.core.credential import CredentialEvent, CredentialState
from broker.core.database import PostgresSettings, Privilege, Profile, Thing
from broker.core.errors import Refusal, StoreFault
from broker.core.events import AuditEvent
from broker.core.grant import LIVE, OVER, EndReason, Grant, GrantState
from broker.core.identity import IdentityKind, IdentityStatus
from broker.core.ids import SYSTEM_TENANT, ActionId, GrantId, RecordingId, RequestId, TenantId
from broker.core.kinds import SecretSettings
from broker.core.request import RequestState
from broker.core.roles import Role
from broker.core.secret import Secret
from broker.service.ports import Choice, Effect, Freeze, JoinToken, PolicyVersion, SessionState, Tx
from policy.classes import CommandClass
from tests.broker.adapters.store import samples
from tests.broker.adapters.store.fixtures import NOW, OTHER, TENANT

T = TypeVar("T")
RACERS = 20
GAP_SECONDS = 0.01
"""Between looking and writing in a race: time for the others to look as well, where a database lets them."""


async def race(attempts: Sequence[Awaitable[T]]) -> list[T | BaseException]:
    """Runs them at once; what each returned or raised."""

    async def outcome(attempt: Awaitable[T]) -> T | BaseException:
        try:
            return await attempt
        except (Refusal, StoreFault, LookupError) as error:
            return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(outcome(attempt)) for attempt in attempts]
    return [task.result() for task in tasks]


def each(put: Callable[[T], None], values: Sequence[T]) -> None:
    """Puts them all, in one unit."""
    for value in values:
        put(value)


def adds_team(number: int) -> Callable[[Tx], None]:
    """A unit that writes one row."""
    return lambda tx: tx.teams.put(samples.team(number))


class StoreContract:
    """Inherit, and give a fixture `store` with the tenants t1, t2 and _system."""

    @pytest.fixture(autouse=True)
    async def _directory(self, store: SqlStore) -> None:
        for tenant in (TENANT, OTHER):
            await store.run(tenant, samples.Directory(tenant=tenant))

    # ---- values come back as they were
    async def test_a_sealed_credential_comes_back(self, store: SqlStore) -> None:
        """As it was made, and as it was spent and reviewed; what owes a review is found, of the own tenant alone."""
        made = samples.glass()
        spent = replace(made, used_at=NOW, request_id=samples.request().id, use=b"word", signature=b"signed")

        def unit(tx: Tx) -> None:
            tx.glasses.put(made)
            assert tx.glasses.get(made.id) == made
            assert list(tx.glasses.owing_review()) == []
            tx.glasses.put(spent)
            assert tx.glasses.of_request(samples.request().id) == spent
            assert list(tx.glasses.owing_review()) == [spent]

        await store.run(TENANT, unit)
        reviewed = replace(spent, reviewed_by=samples.person(2).id, reviewed_at=NOW)
        assert list(await store.read(OTHER, lambda tx: tx.glasses.all())) == []
        assert await store.read(OTHER, lambda tx: tx.glasses.get(made.id)) is None
        await store.run(TENANT, lambda tx: tx.glasses.put(reviewed))
        assert list(await store.read(TENANT, lambda tx: tx.glasses.all())) == [reviewed]
        assert list(await store.read(TENANT, lambda tx: tx.glasses.owing_review())) == []

    async def test_directory_comes_back(self, store: SqlStore) -> None:
        """Identities, teams and targets are equal to what was put, by every way to find them."""

        def look(tx: Tx) -> None:
            who, where, team = samples.person(), samples.target(), samples.team()
            assert tx.identities.get(who.id) == who == tx.identities.by_key(who.key)
            assert tx.identities.by_name(IdentityKind.PERSON, who.name) == who
            assert tx.identities.by_name(IdentityKind.AGENT, who.name) is None
            people = {identity.id for identity in tx.identities.all()}
            assert people == {samples.person(n).id for n in (1, 2, 3)} | {samples.agent(n).id for n in (1, 2)}
            assert tx.targets.get(where.id) == where == tx.targets.by_name(where.name)
            assert [target.name for target in tx.targets.all()] == ["web1", "web2"]
            assert tx.teams.get(team.id) == team == tx.teams.by_name(team.name)
            assert tx.teams.all() == [samples.team(1), samples.team(2)]

        await store.read(TENANT, look)

    async def test_put_replaces(self, store: SqlStore) -> None:
        """A second put leaves nothing of the first, memberships included."""
        changed = replace(samples.person(), role=Role.VIEWER, teams=frozenset({samples.team(2).id}), approval_keys=())
        bare = replace(samples.target(), teams=frozenset(), logins=(), labels={})
        await store.run(TENANT, lambda tx: tx.identities.put(changed))
        await store.run(TENANT, lambda tx: tx.targets.put(bare))
        assert await store.read(TENANT, lambda tx: tx.identities.get(changed.id)) == changed
        assert await store.read(TENANT, lambda tx: tx.targets.get(bare.id)) == bare

    async def test_life_of_an_access_comes_back(self, store: SqlStore) -> None:
        """Requests, grants, actions, approvals, sessions and credentials come back equal, hostile text too."""
        before, after = samples.action(1), samples.ran(samples.action(2))
        ended = samples.ended(samples.grant(2))
        granted = replace(samples.request(2), grant_id=ended.id)

        def put(tx: Tx) -> None:
            tx.requests.put(granted)
            tx.grants.put(ended)
            tx.actions.put(before)
            tx.actions.put(after)
            tx.approvals.add(samples.approval())
            tx.sessions.put(samples.session())
            tx.credentials.add(samples.credential())

        await store.run(TENANT, put)

        def look(tx: Tx) -> None:
            assert tx.requests.get(samples.request().id) == samples.request()
            assert tx.requests.get(granted.id) == granted
            assert tx.grants.get(samples.grant().id) == samples.grant()
            assert tx.grants.get(ended.id) == ended
            assert tx.actions.get(before.id) == before
            assert tx.actions.get(after.id) == after
            assert tx.approvals.of(Subject.ACTION, before.id) == [samples.approval()]
            assert tx.approvals.of(Subject.ACCESS, before.id) == []
            assert tx.sessions.get(samples.session().id) == samples.session()
            assert tx.credentials.by_serial("ssh", samples.credential().serial) == samples.credential()
            assert tx.credentials.by_serial("token", samples.credential().serial) is None

        await store.read(TENANT, look)

    async def test_every_kind_of_target_comes_back(self, store: SqlStore) -> None:
        """A database and a secret with all their settings, hostile text too."""
        profile = Profile(
            name="report", level=CommandClass.WRITE, owner="app", member_of=("app", "pg_read_all_data"), sessions=3,
            statement_timeout=timedelta(seconds=1.5),
            privileges=(
                Privilege(on=Thing.TABLE, schema="app", name="Orders", privileges=frozenset({"SELECT", "INSERT"})),
                Privilege(on=Thing.SCHEMA, schema="app", name="", privileges=frozenset({"USAGE"})),
            ),
        )  # fmt: skip
        database = PostgresSettings(database="shop", admin="broker", ca=samples.HOSTILE, profiles=(profile,))
        for settings in (database, SecretSettings(secret="mail")):
            one = replace(samples.target(), host_key="", settings=settings)
            await store.run(TENANT, lambda tx, one=one: tx.targets.put(one))  # type: ignore[misc]
            assert await store.read(TENANT, lambda tx: tx.targets.get(samples.target().id)) == one

    async def test_what_may_be_on_a_target_is_found_until_it_ended(self, store: SqlStore) -> None:
        """Planned and issued ones of a grant or of the tenant, oldest first; not signed or ended ones."""
        planned = replace(samples.credential(1), kind="postgres", state=CredentialState.PLANNED)
        issued = replace(
            samples.credential(2), kind="postgres", state=CredentialState.ISSUED, issued_at=NOW + timedelta(seconds=1)
        )
        signed, ended = samples.credential(3), replace(
            samples.credential(4), kind="postgres", state=CredentialState.ENDED, ended_at=NOW
        )  # fmt: skip

        def put(tx: Tx) -> None:
            for one in (issued, planned, signed, ended):
                tx.credentials.add(one)

        await store.run(TENANT, put)
        assert await store.read(TENANT, lambda tx: tx.credentials.outside(None)) == [planned, issued]
        assert await store.read(TENANT, lambda tx: tx.credentials.outside(samples.grant().id)) == [planned, issued]
        assert await store.read(TENANT, lambda tx: tx.credentials.outside(samples.grant(2).id)) == []
        assert await store.read(OTHER, lambda tx: tx.credentials.outside(None)) == []
        gone = issued.advanced(CredentialEvent.END, NOW)
        await store.run(TENANT, lambda tx: tx.credentials.put(gone))
        assert await store.read(TENANT, lambda tx: tx.credentials.get(issued.id)) == gone
        assert await store.read(TENANT, lambda tx: tx.credentials.outside(None)) == [planned]

    async def test_what_is_not_there_is_none(self, store: SqlStore) -> None:
        """An unknown id is None, never an error (I-46)."""

        def look(tx: Tx) -> None:
            assert tx.requests.get(RequestId(samples.made("request", 99))) is None
            assert tx.grants.get(GrantId(samples.made("grant", 99))) is None
            assert tx.actions.get(ActionId(samples.made("action", 99))) is None
            assert tx.policies.current() is None
            assert tx.freezes.active() is None
            assert tx.keys.secret("none") is None

        await store.read(TENANT, look)

    # ---- directory rules
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

    # ---- finding
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

    # ---- rules and once-only
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

    # ---- tenants
    async def test_tenants_see_nothing_of_each_other(self, store: SqlStore) -> None:
        """With every id in hand, another tenant's unit finds nothing (I-40)."""

        def put(tx: Tx) -> None:
            tx.teams.put(samples.team(9))
            tx.identities.put(samples.agent(9))
            tx.targets.put(samples.target(9))
            tx.requests.put(samples.request(9))
            tx.grants.put(samples.grant(9))
            tx.actions.put(samples.action(9))
            tx.approvals.add(samples.approval(1, subject_id=samples.action(9).id))
            tx.sessions.put(replace(samples.session(9), action_id=samples.action(9).id))
            tx.credentials.add(samples.credential(9))
            tx.idempotency.put(samples.agent(9).id, "M", "k", b"h" * 32, "x", NOW)
            tx.outbox.put(Effect(tenant=TENANT, id=0, kind="k", subject="s", attempts=0, due_at=NOW))

        await store.run(TENANT, put)

        def look(tx: Tx) -> list[Any]:
            return [
                tx.teams.get(samples.team(9).id),
                tx.teams.by_name(samples.team(9).name),
                tx.identities.get(samples.agent(9).id),
                tx.identities.by_key(samples.agent(9).key),
                tx.identities.by_name(IdentityKind.AGENT, samples.agent(9).name),
                tx.targets.get(samples.target(9).id),
                tx.targets.by_name(samples.target(9).name),
                tx.requests.get(samples.request(9).id),
                tx.grants.get(samples.grant(9).id),
                tx.grants.page(identity=None, after=samples.grant(9).id, limit=9),
                tx.actions.get(samples.action(9).id),
                tx.actions.awaiting_with_key(samples.action(9).key(), samples.action(9).grant_id),
                tx.actions.in_states({ActionState.AWAITING}, grant=None),
                tx.actions.count_awaiting(None),
                tx.approvals.of(Subject.ACTION, samples.action(9).id),
                tx.sessions.get(samples.session(9).id),
                tx.sessions.open(None),
                tx.credentials.by_serial("ssh", samples.credential(9).serial),
                tx.idempotency.find(samples.agent(9).id, "M", "k"),
                tx.outbox.due(NOW, 9),
            ]

        assert not any(await store.read(OTHER, look))
        assert all(await store.read(TENANT, look))

    async def test_a_tenant_cannot_write_into_another(self, store: SqlStore) -> None:
        """A value of another tenant is refused, whatever its kind; the same ids in the own tenant change only there."""
        writes: list[Callable[[Tx], Any]] = [
            lambda tx: tx.teams.put(samples.team(tenant=OTHER)),
            lambda tx: tx.identities.put(samples.agent(tenant=OTHER)),
            lambda tx: tx.targets.put(samples.target(tenant=OTHER)),
            lambda tx: tx.requests.put(samples.request(tenant=OTHER)),
            lambda tx: tx.grants.put(samples.grant(tenant=OTHER)),
            lambda tx: tx.actions.put(samples.action(tenant=OTHER)),
            lambda tx: tx.approvals.add(samples.approval(tenant=OTHER)),
            lambda tx: tx.sessions.put(samples.session(tenant=OTHER)),
            lambda tx: tx.credentials.add(samples.credential(tenant=OTHER)),
            lambda tx: tx.outbox.put(Effect(tenant=OTHER, id=0, kind="k", subject="s", attempts=0, due_at=NOW)),
            lambda tx: tx.freezes.put(Freeze(tenant=OTHER, frozen_by="x", reason="", at=NOW)),
        ]
        for write in writes:
            with pytest.raises(StoreFault):
                await store.run(TENANT, write)
        await store.run(TENANT, lambda tx: tx.teams.put(replace(samples.team(), name="renamed")))
        assert await store.read(OTHER, lambda tx: tx.teams.get(samples.team().id)) == samples.team(tenant=OTHER)

    async def test_a_reference_stays_in_its_tenant(self, store: SqlStore) -> None:
        """A grant cannot name another tenant's target: the foreign key holds the tenant too (I-40)."""
        await store.run(OTHER, lambda tx: tx.targets.put(samples.target(9, tenant=OTHER)))
        stray = replace(samples.grant(2), target_id=samples.target(9).id)
        with pytest.raises(StoreFault) as refused:
            await store.run(TENANT, lambda tx: tx.grants.put(stray))
        assert str(refused.value) == REFUSED
        assert await store.read(TENANT, lambda tx: tx.grants.get(stray.id)) is None

    async def test_only_known_tenants_have_rows(self, store: SqlStore) -> None:
        """A tenant that nobody created can hold nothing, and its name is checked."""
        stranger = TenantId("stranger")
        with pytest.raises(StoreFault, match=REFUSED):
            await store.run(stranger, lambda tx: tx.teams.put(samples.team(tenant=stranger)))
        with pytest.raises(Refusal, match="cannot name a tenant"):
            await store.create_tenant(TenantId("../x"), NOW)
        assert await store.create_tenant(TENANT, NOW) is False
        assert await store.tenants() == [TENANT, OTHER]
        assert await store.read(SYSTEM_TENANT, lambda tx: tx.teams.all()) == []

    # ---- units
    async def test_a_unit_fails_alone(self, store: SqlStore) -> None:
        """What one unit raises comes out at its caller as it was, takes back its own rows, and no neighbour's."""

        def bad(number: int) -> Callable[[Tx], None]:
            def unit(tx: Tx) -> None:
                tx.teams.put(samples.team(200 + number))
                if number % 2:
                    raise LookupError(number)
                tx.grants.put(replace(samples.grant(2), identity=samples.agent(77).id))  # no such identity

            return unit

        outcomes = await race([store.run(TENANT, bad(n) if n % 3 else adds_team(100 + n)) for n in range(30)])
        for number, outcome in enumerate(outcomes):
            if not number % 3:
                assert outcome is None
            elif number % 2:
                assert isinstance(outcome, LookupError)
                assert outcome.args == (number,)
            else:
                assert isinstance(outcome, StoreFault)
        names = {team.name for team in await store.read(TENANT, lambda tx: tx.teams.all())}
        assert names == {"team-1", "team-2"} | {f"team-{100 + n}" for n in range(0, 30, 3)}

    async def test_a_read_writes_nothing(self, store: SqlStore) -> None:
        """A write in a read fails, whatever it is."""
        with pytest.raises(StoreFault) as refused:
            await store.read(TENANT, lambda tx: tx.teams.put(samples.team(5)))
        assert str(refused.value) == READ_ONLY
        assert await store.read(TENANT, lambda tx: tx.teams.get(samples.team(5).id)) is None

    async def test_a_unit_that_hides_an_error_is_not_written_half(self, store: SqlStore) -> None:
        """After an error that it caught it is written whole or fails whole; it is never silently lost."""

        def unit(tx: Tx) -> None:
            tx.teams.put(samples.team(7))
            with pytest.raises(Exception, match=r".*"):  # whatever the database's driver raises
                tx.grants.put(replace(samples.grant(2), identity=samples.agent(77).id))

        [outcome] = await race([store.run(TENANT, unit)])
        kept = await store.read(TENANT, lambda tx: tx.teams.get(samples.team(7).id))
        assert (outcome is None) == (kept is not None)

    async def test_stop_iteration_hangs_nobody(self, store: SqlStore) -> None:
        """Futures cannot carry it; the caller still hears that its unit failed."""

        def unit(tx: Tx) -> None:
            next(iter(tx.sessions.open(None)))

        with pytest.raises(RuntimeError):
            async with asyncio.timeout(5):
                await store.run(TENANT, unit)

    async def test_faults_say_nothing_of_rows(self, store: SqlStore) -> None:
        """The phrase is fixed: no name, no SQL, no value of the database's own message (I-36)."""
        stray = replace(samples.grant(2), identity=samples.agent(77).id)
        with pytest.raises(StoreFault) as refused:
            await store.run(TENANT, lambda tx: tx.grants.put(stray))
        assert refused.value.what == REFUSED
        assert refused.value.__cause__ is not None

    async def test_a_full_queue_refuses_at_once(self, store: SqlStore) -> None:
        """More units than may wait: the rest is refused, nobody hangs, and those that waited are done (I-60)."""
        hold = threading.Event()
        blocked = [store.run(TENANT, lambda _: hold.wait(30)) for _ in range(CONNECTIONS)]
        units = [store.run(TENANT, lambda tx: tx.freezes.active()) for _ in range(MAX_WAITING + 50)]
        asyncio.get_running_loop().call_later(0.2, hold.set)
        async with asyncio.timeout(30):
            outcomes = await race([*blocked, *units])
        refused = [outcome for outcome in outcomes if isinstance(outcome, StoreFault)]
        assert {outcome.what for outcome in refused} == {BUSY}
        assert 50 <= len(refused) <= 50 + CONNECTIONS
        assert await store.run(TENANT, lambda tx: tx.freezes.active()) is None

    async def test_close_finishes_what_was_accepted(self, store: SqlStore) -> None:
        """What runs is written; what comes after the end is refused, never left hanging."""
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(store.run(TENANT, adds_team(10 + n))) for n in range(5)]
            await asyncio.sleep(0)
            await store.close()
        assert [task.result() for task in running] == [None] * 5
        for late in (store.run(TENANT, lambda _: None), store.read(TENANT, lambda _: None)):
            with pytest.raises(StoreFault) as refused:
                await late
            assert refused.value.what == CLOSED
        await store.close()

    async def test_a_cancelled_caller_disturbs_nobody(self, store: SqlStore) -> None:
        """Its unit is written or not; the units around it are."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(store.run(TENANT, adds_team(10 + n))) for n in range(10)]
            await asyncio.sleep(0)
            tasks[4].cancel()
        names = {team.name for team in await store.read(TENANT, lambda tx: tx.teams.all())}
        assert names >= {f"team-{10 + n}" for n in range(10) if n != 4}


def _owners(conn: Connection) -> dict[str, list[str]]:
    """Whose rows are there."""
    tables = (schema.audit_pending, schema.recording_key, schema.secret)
    return {table.name: list(conn.execute(select(table.c.tenant)).scalars()) for table in tables}
