"""Audit before effect: every act and its row commit together, or neither does (I-31, I-33, I-34)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest
from sqlalchemy import Connection, select

from broker.adapters.store import schema
from broker.core.action import Action
from broker.core.errors import StoreFault
from broker.core.identity import Caller, IdentityKind
from broker.core.ids import GrantId, TenantId
from broker.core.request import AccessRequest
from broker.core.roles import Role
from broker.service.people import Newcomer
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.somebody import Somebody
from tests.broker.service.test_identity import SSH_KEY, signed_in
from tests.broker.service.test_stepup import ADD, BODY, PUT, given
from tests.broker.service.world import READ, WRITE, House


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Somebody of each kind, and something in each state that an act needs."""

    house: House
    agent: Somebody
    owner: Somebody
    grant: GrantId
    fresh: GrantId
    pending: AccessRequest
    waiting: Action
    allowed: Action

    def newcomer(self, kind: IdentityKind, role: Role, *keys: str) -> Newcomer:
        return Newcomer(
            idempotency_key=self.house.key(), kind=kind, name="another", role=role, teams=frozenset({"ops"}), owner="",
            approval_keys=keys, join_for=None,
        )  # fmt: skip


async def staged(house: House) -> Stage:
    """The stage, made by the acts themselves."""
    agent, owner, person = await house.add("a"), await house.add("o", Role.OWNER), await house.add("p", Role.VIEWER)
    grant, fresh = await house.granted(agent), await house.granted(agent)
    allowed = (await house.propose(agent, grant, b"touch /srv/allowed")).action
    await house.decide(owner, allowed)
    return Stage(
        house=house, agent=agent, owner=owner, grant=grant, fresh=fresh, allowed=allowed,
        pending=await house.cases.access.request(person.caller, house.wish()),
        waiting=(await house.propose(agent, grant, WRITE)).action,
    )  # fmt: skip


async def _sweep(stage: Stage) -> object:
    stage.house.clock.forward(7200)
    return await stage.house.cases.ending.sweep(TENANT)


async def _freeze(stage: Stage) -> None:
    """It is pulled without the store; what counts here is what the store was told."""
    if not (await stage.house.cases.freeze.freeze(stage.owner.caller, "x")).recorded:
        raise StoreFault("not written yet")


Act = Callable[[Stage], Awaitable[object]]
ACTS: dict[str, tuple[Act, set[str]]] = {
    "request": (
        lambda s: s.house.cases.access.request(s.agent.caller, s.house.wish()),
        {"access.requested", "access.approved"},
    ),
    "cancel a request": (
        lambda s: s.house.cases.access.cancel(_asker(s), s.pending.id),
        {"access.cancelled"},
    ),
    "approve access": (lambda s: s.house.decide(s.owner, s.pending), {"approval.recorded", "access.approved"}),
    "approve a command": (lambda s: s.house.decide(s.owner, s.waiting), {"approval.recorded", "action.allowed"}),
    "run unattended": (
        lambda s: s.house.propose(s.agent, s.fresh, READ),
        {
            "grant.activated", "action.proposed", "action.allowed", "action.running", "session.opened",
            "recording.opened",
        },
    ),
    "ask": (lambda s: s.house.propose(s.agent, s.grant, b"touch /srv/2"), {"action.proposed", "action.awaiting"}),
    "start": (
        lambda s: s.house.cases.starting.start(s.agent.caller, s.allowed.id, door="grpc"),
        {"action.running", "session.opened", "recording.opened"},
    ),
    "take back": (lambda s: s.house.cases.waiting.cancel(s.agent.caller, s.waiting.id), {"action.cancelled"}),
    "issue a token": (
        lambda s: s.house.cases.issue.token(s.agent.caller, s.fresh),
        {"grant.activated", "credential.issued"},
    ),
    "issue a certificate": (
        lambda s: s.house.cases.issue.ssh(s.agent.caller, s.grant, SSH_KEY),
        {"credential.issued"},
    ),
    "suspend": (
        lambda s: s.house.cases.people.suspend(s.owner.caller, s.agent.id, "x", s.house.change("Suspend", BODY)),
        {"agent.removed", "grant.ending", "grant.revoked", "action.cancelled"},
    ),
    "freeze": (
        _freeze,
        {"system.frozen", "grant.ending", "grant.revoked", "action.cancelled"},
    ),
    "add an agent": (
        lambda s: s.house.cases.people.add_agent(s.owner.caller, s.newcomer(IdentityKind.AGENT, Role.AGENT)),
        {"agent.added", "enrolment.offered"},
    ),
    "add a person": (
        lambda s: s.house.cases.people.add_person(
            s.owner.caller, s.newcomer(IdentityKind.PERSON, Role.ADMIN, s.house.web1.host_key),
            s.house.change(ADD, BODY, s.owner),
        ),
        {"person.added", "enrolment.offered"},
    ),
    "add a team": (
        lambda s: s.house.cases.people.add_team(s.owner.caller, "web", idempotency_key="k"),
        {"team.added"},
    ),
    "put a target": (
        lambda s: s.house.cases.inventory.put(
            s.owner.caller, given(s.house), s.house.change(PUT, BODY, s.owner), idempotency_key="k"
        ),
        {"target.added"},
    ),
    "sign in": (lambda s: s.house.cases.enrol.sign_in(signed_in(s.house, s.owner)), {"identity.enrolled"}),
    "renew": (lambda s: s.house.cases.enrol.renew(s.agent.caller, s.agent.csr()), {"identity.renewed"}),
    "sweep": (_sweep, {"grant.ending", "grant.expired", "access.expired"}),
}  # fmt: skip


def _asker(stage: Stage) -> Caller:
    return replace(stage.owner.caller, identity=stage.pending.identity)


async def rows(house: House) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""

    def unit(conn: Connection) -> dict[str, list[tuple[object, ...]]]:
        tables = schema.metadata.sorted_tables
        return {table.name: sorted(map(tuple, conn.execute(select(table))), key=repr) for table in tables}

    return await house.store.inner.read_sql(TenantId(TENANT), unit)


@pytest.mark.parametrize("act", ACTS)
async def test_every_act_tells_the_log(house: House, act: str) -> None:
    """In the very transaction: a commit that fails, or an audit row that cannot be written, leaves not one row."""
    stage = await staged(house)
    do, told = ACTS[act]
    before, events = await rows(house), len(await house.events())
    house.store.commits_fail = True
    with pytest.raises(StoreFault):
        await do(stage)
    house.store.commits_fail = False
    assert await rows(house) == before
    house.audit_fails = True
    with pytest.raises(StoreFault):
        await do(stage)
    house.audit_fails = False
    assert await rows(house) == before
    house.world.live.reopen(TENANT)
    await do(stage)
    assert told <= set((await house.events())[events:])


async def test_reading_the_log_is_in_the_log(house: House) -> None:
    """I-33: who and why, before anything is answered; without the row there is no answer."""
    owner = await house.add("owner", Role.OWNER)
    audit = house.cases.audit
    house.audit_fails = True
    with pytest.raises(StoreFault):
        await audit.entries(owner.caller, from_seq=0, limit=10, reason="review")
    with pytest.raises(StoreFault):
        await audit.export(owner.caller, reason="review", recordings=True, disclosures=True)
    house.audit_fails = False
    assert await audit.entries(owner.caller, from_seq=0, limit=0, reason="review") == []
    await audit.export(owner.caller, reason="review", recordings=True, disclosures=True)
    assert await audit.head(owner.caller) is None
    assert await house.events() == ["audit.viewed", "audit.exported"]
