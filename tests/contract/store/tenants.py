"""Tenants never meet (I-40). A part of the contract of every Store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from broker.adapters.store.faults import REFUSED
from broker.adapters.store.store import SqlStore
from broker.core.action import ActionState
from broker.core.approval import Subject
from broker.core.errors import Refusal, StoreFault
from broker.core.identity import IdentityKind
from broker.core.ids import SYSTEM_TENANT, TenantId
from broker.service.ports import Effect, Freeze, Tx
from tests.broker.adapters.store import samples
from tests.broker.adapters.store.fixtures import NOW, OTHER, TENANT


class TenantContract:
    """Tenants never meet (I-40). Inherited by StoreContract."""

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
                tx.requests.claimed(samples.request(9).id),
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
