"""What comes back as it was put, and how the directory is chosen from. A part of the contract of every Store."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from broker.adapters.store.store import SqlStore
from broker.core.approval import Subject
from broker.core.credential import CredentialEvent, CredentialState
from broker.core.database import PostgresSettings, Privilege, Profile, Thing
from broker.core.identity import IdentityKind
from broker.core.ids import ActionId, GrantId, RequestId
from broker.core.kinds import SecretSettings
from broker.core.roles import Role
from broker.service.ports import Tx
from policy.classes import CommandClass
from tests.broker.adapters.store import samples
from tests.broker.adapters.store.fixtures import NOW, OTHER, TENANT


class ValueContract:
    """What comes back as it was put, and how the directory is chosen from. Inherited by StoreContract."""

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
        granted = replace(samples.request(2), grant_id=ended.id, evidence="a plan that failed")

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
            assert tx.requests.claimed(granted.id) == (granted.ticket, granted.reason, granted.evidence)
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
            assert tx.requests.claimed(RequestId(samples.made("request", 99))) is None
            assert tx.grants.get(GrantId(samples.made("grant", 99))) is None
            assert tx.actions.get(ActionId(samples.made("action", 99))) is None
            assert tx.policies.current() is None
            assert tx.freezes.active() is None
            assert tx.keys.secret("none") is None

        await store.read(TENANT, look)
