"""Asking for access and what becomes of it: from the wish to the end of the grant (I-01, I-03, I-12, I-19, I-31)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from broker.core.approval import Verdict
from broker.core.errors import Refusal
from broker.core.grant import GrantState
from broker.core.identity import Caller
from broker.core.ids import GrantId, RequestId, render
from broker.core.request import MAX_EVIDENCE_BYTES, MAX_REASON_BYTES, AccessRequest, RequestState
from broker.core.roles import Role
from broker.service.world import Limits
from policy.classes import CommandClass
from tests.broker.adapters.store.fixtures import NOW, TENANT
from tests.broker.service.world import READ, WRITE, House, refused
from tests.contract.store.races import race

NOBODYS = RequestId(render("request", bytes(16)))


async def test_the_whole_life_of_an_access(house: House) -> None:
    """Asked, approved, waiting, used, over: each step changes what it must and is in the log, in this order."""
    person, approver = await house.add("asker", Role.VIEWER), await house.add("approver", Role.MANAGER)
    request = await house.cases.access.request(person.caller, house.wish())
    assert (request.state, request.quorum, request.grant_id) == (RequestState.PENDING, 1, None)
    house.clock.forward(60)
    assert (await house.decide(approver, request)).state == "approved"
    request = await house.request(request)
    assert request.grant_id is not None
    grant = await house.grant(request.grant_id)
    assert (grant.state, grant.not_after) == (GrantState.APPROVED, None)
    assert grant.must_start_by == NOW + timedelta(seconds=60, minutes=15)

    house.clock.forward(600)
    ticket = await house.started(person, grant.id, READ)
    grant = await house.grant(grant.id)
    assert (grant.state, grant.not_after) == (GrantState.ACTIVE, house.clock.now() + timedelta(hours=1))
    assert (await house.run(ticket)).state == "succeeded"

    house.clock.forward(3600)
    assert await refused(house.propose(person, grant.id, READ)) == "grant_expired"
    due = await house.cases.ending.sweep(TENANT)
    assert [one.id for one in due.grants] == [grant.id]
    assert (await house.grant(grant.id)).state is GrantState.EXPIRED
    assert await house.events() == [
        "access.requested", "approval.recorded", "access.approved", "grant.activated", "action.proposed",
        "action.allowed", "action.running", "session.opened", "recording.opened", "credential.issued",
        "recording.closed", "session.closed", "action.succeeded", "grant.ending", "grant.expired",
    ]  # fmt: skip


async def test_an_agents_request_needs_nobody_where_policy_says_so(house: House) -> None:
    """And its TTL does not run before the first use."""
    agent = await house.add("deployer")
    grant = await house.grant(await house.granted(agent))
    assert (grant.state, grant.not_after, grant.identity_key) == (GrantState.APPROVED, None, agent.row.key)
    assert await house.events() == ["access.requested", "access.approved"]


async def test_a_grant_that_is_never_used_ends(house: House) -> None:
    """It has 15 minutes; then it is over at once, with its own reason."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    house.clock.forward(15 * 60)
    assert await refused(house.propose(agent, grant, READ)) == "grant_expired"
    await house.cases.ending.sweep(TENANT)
    ended = await house.grant(grant)
    assert (ended.state, ended.end_reason) == (GrantState.EXPIRED, "never_started")


async def test_policy_denies(house: House) -> None:
    """By rule; for an agent of another team the target does not even exist (I-46); both are in the log (I-31)."""
    await house.put_team("web")
    agent, stranger = await house.add("deployer"), await house.add("stranger", teams=["web"])
    long = house.wish(ttl=timedelta(hours=9))
    assert await refused(house.cases.access.request(agent.caller, long)) == "policy_denied"
    assert await refused(house.cases.access.request(stranger.caller, house.wish())) == "not_found"
    assert await house.events() == ["access.requested", "access.denied"] * 2


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"ttl": timedelta(0)}, "ttl_too_short"),
        ({"ttl": timedelta(seconds=-1)}, "ttl_too_short"),
        ({"ttl": timedelta(days=3650)}, "ttl_too_long"),
        ({"ttl": timedelta(seconds=1.5)}, "ttl_fraction"),
        ({"ttl": timedelta(hours=9)}, "policy_denied"),
        ({"flags": frozenset({"root"})}, "unknown_flag"),
        ({"reason": "x" * (MAX_REASON_BYTES + 1)}, "text_too_long"),
        ({"evidence": "é" * (MAX_EVIDENCE_BYTES // 2 + 1)}, "text_too_long"),
        ({"reason": "a\0b"}, "bad_text"),
        ({"ticket": "\ud800"}, "bad_text"),
        ({"target": "web9"}, "not_found"),
        ({"login": "root"}, "not_found"),
        ({"idempotency_key": ""}, "bad_idempotency_key"),
        ({"idempotency_key": "k" * 65}, "bad_idempotency_key"),
        ({"idempotency_key": "a\nb"}, "bad_idempotency_key"),
    ],
)
async def test_a_wish_that_cannot_be(house: House, changed: dict[str, object], code: str) -> None:
    """I-03 and friends: refused with a code of its own; nothing but a denial by policy leaves a row."""
    agent = await house.add("deployer")
    assert await refused(house.cases.access.request(agent.caller, house.wish(**changed))) == code
    assert bool(await house.events()) == (code == "policy_denied")


async def test_pending_limits(house: House) -> None:
    """I-19: five of one identity; a flood neither uses up another's five nor hides their request."""
    flooder, other = await house.add("flooder", Role.VIEWER), await house.add("other", Role.VIEWER)
    approver = await house.add("approver", Role.MANAGER)
    for _ in range(5):
        await house.cases.access.request(flooder.caller, house.wish())
    for _ in range(20):
        assert await refused(house.cases.access.request(flooder.caller, house.wish())) == "too_many_pending"
    mine = await house.cases.access.request(other.caller, house.wish())
    assert mine.id in {item.id for item in await house.pending_of(approver)}
    assert len(await house.pending_of(approver)) == 6


async def test_the_tenants_limit(house: House) -> None:
    """I-19: fifty in all, from ten identities; a decision makes room again."""
    approver = await house.add("approver", Role.MANAGER)
    askers = [await house.add(f"asker-{n}", Role.VIEWER) for n in range(11)]
    made = [await house.cases.access.request(one.caller, house.wish()) for one in askers[:10] for _ in range(5)]
    assert await refused(house.cases.access.request(askers[10].caller, house.wish())) == "too_many_pending"
    await house.decide(approver, made[0], Verdict.DENY)
    assert (await house.cases.access.request(askers[10].caller, house.wish())).state is RequestState.PENDING
    assert Limits().pending_per_tenant == 50


async def test_a_request_that_nobody_decides_expires(house: House) -> None:
    """After ten minutes it is expired, never denied; a vote at that very moment is late (I-01)."""
    person, approver = await house.add("asker", Role.VIEWER), await house.add("approver", Role.MANAGER)
    request = await house.cases.access.request(person.caller, house.wish())
    house.clock.forward(600)
    assert await house.pending_of(approver) == []
    assert await refused(house.decide(approver, request)) == "request_expired"
    assert (await house.cases.ending.sweep(TENANT)).decisions == 1
    assert (await house.request(request)).state is RequestState.EXPIRED
    assert (await house.events())[-1] == "access.expired"
    assert await refused(house.decide(approver, request)) == "already_decided"


async def test_taking_a_request_back(house: House) -> None:
    """Only one's own, only while it waits, twice is harmless."""
    person, other = await house.add("asker", Role.VIEWER), await house.add("other", Role.OWNER)
    request = await house.cases.access.request(person.caller, house.wish())
    assert await refused(house.cases.access.cancel(other.caller, request.id)) == "not_found"
    assert await refused(house.cases.access.cancel(person.caller, NOBODYS)) == "not_found"
    for _ in range(2):
        assert (await house.cases.access.cancel(person.caller, request.id)).state is RequestState.CANCELLED
    assert (await house.events()).count("access.cancelled") == 1
    decided = await house.cases.access.request(person.caller, house.wish())
    await house.decide(other, decided, Verdict.DENY)
    assert await refused(house.cases.access.cancel(person.caller, decided.id)) == "already_decided"


async def test_watching_a_request(house: House) -> None:
    """The watcher sees it wait, then decided, and then the stream ends."""
    person, approver = await house.add("asker", Role.VIEWER), await house.add("approver", Role.MANAGER)
    request = await house.cases.access.request(person.caller, house.wish())
    seen: list[AccessRequest] = []
    async for state in house.cases.access.watch(person.caller, request.id):
        seen.append(state)
        if len(seen) == 1:
            await house.decide(approver, request)
            house.world.bell.ring(TENANT, request.id)
    assert [one.state for one in seen] == ["pending", "approved"]


async def test_idempotency(house: House) -> None:
    """The same wish with the same key is the same request, 20 at once too; another wish with it is refused."""
    agent, other = await house.add("deployer"), await house.add("other")
    wish = house.wish(idempotency_key="k1")
    made = await race([house.cases.access.request(agent.caller, wish) for _ in range(20)])
    assert len({one.id for one in made if isinstance(one, AccessRequest)}) == 1
    assert (await house.events()).count("access.requested") == 1
    changed = house.wish(idempotency_key="k1", ceiling=CommandClass.READ)
    assert await refused(house.cases.access.request(agent.caller, changed)) == "idempotency_key_reused"
    theirs = await house.cases.access.request(other.caller, wish)
    assert theirs not in made


async def test_a_denied_wish_is_denied_again(house: House) -> None:
    """A retry with the same key gets the same answer, and no second row."""
    agent = await house.add("deployer")
    wish = house.wish(ttl=timedelta(hours=9))
    for _ in range(2):
        assert await refused(house.cases.access.request(agent.caller, wish)) == "policy_denied"
    assert (await house.events()).count("access.denied") == 1


async def test_lists_hold_what_one_may_see(house: House) -> None:
    """Newest first, in pages; an agent sees its own alone; a manager their teams' targets; the rest does not exist."""
    await house.put_team("web")
    await house.put_target("db1", teams=["web"])
    agent, other = await house.add("deployer"), await house.add("other", teams=["web"])
    manager, viewer = await house.add("manager", Role.MANAGER), await house.add("viewer", Role.VIEWER, teams=[])
    mine = []
    for _ in range(3):
        mine.append(await house.granted(agent))
        house.clock.forward(1)
    theirs = await house.granted(other, target="db1")

    async def listed(who: Caller, after: GrantId | None = None, limit: int = 0) -> list[GrantId]:
        page = await house.cases.access.list_grants(who, after=after, limit=limit)
        return [grant.id for grant in page.rows]

    assert await listed(agent.caller) == mine[::-1]
    assert await listed(agent.caller, limit=2) == [mine[2], mine[1]]
    assert await listed(agent.caller, after=mine[1]) == [mine[0]]
    assert await listed(manager.caller) == mine[::-1]
    assert await listed(manager.caller, limit=1) == [mine[2]]
    assert set(await listed(viewer.caller)) == {*mine, theirs}
    assert await refused(house.cases.access.get_grant(manager.caller, theirs)) == "not_found"
    assert await refused(house.cases.access.get_grant(agent.caller, theirs)) == "not_found"


async def test_a_grant_is_for_one_identity_and_one_key(house: House) -> None:
    """I-08: another agent does not find it; the same agent with another key is told why."""
    agent, other = await house.add("deployer"), await house.add("other")
    grant = await house.granted(agent)
    assert await refused(house.propose(other, grant, READ)) == "not_found"
    rekeyed = await house.add("deployer")
    assert await refused(house.propose(rekeyed, grant, READ)) == "key_changed"
    assert await refused(house.propose(agent, GrantId(render("grant", bytes(16))), READ)) == "not_found"


async def test_the_ceiling_of_a_grant_caps_every_command(house: House) -> None:
    """A grant for reading runs no write, whoever would approve it (I-04)."""
    agent = await house.add("deployer")
    grant = await house.granted(agent, ceiling=CommandClass.READ)
    with pytest.raises(Refusal, match="write is above what the grant allows"):
        await house.propose(agent, grant, WRITE)
    assert (await house.run(await house.started(agent, grant, READ))).state == "succeeded"
