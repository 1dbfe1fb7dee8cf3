"""The registry of what runs: limits at the door, cuts that reach exactly their scope, and answers in bounded time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

import pytest

from broker.core.errors import Blame, Refusal
from broker.core.ids import GrantId, IdentityId, SessionId, TenantId
from broker.service.live import Cut, LiveRegistry, LiveSession, Scope
from tests.broker.adapters.store.fixtures import OTHER, TENANT
from tests.pace import Since

_numbers = itertools.count()


def session(tenant: TenantId = TENANT, *, grant: str = "gr_1", identity: str = "ag_1") -> LiveSession:
    """One that nobody runs yet."""
    return LiveSession(
        tenant=tenant, session=SessionId(f"se_{next(_numbers)}"), grant=GrantId(grant), identity=IdentityId(identity)
    )


@asynccontextmanager
async def running(registry: LiveRegistry, live: LiveSession, *, stubborn: bool = False) -> AsyncIterator[None]:
    """A task that ends its session when it is cut; a stubborn one when the block ends."""
    entered, leave = asyncio.Event(), asyncio.Event()

    async def run() -> None:
        with registry.enter(live, per_grant=99, in_all=999):
            entered.set()
            await (leave.wait() if stubborn else live.until_cut())

    async with asyncio.TaskGroup() as group:
        group.create_task(run())
        await entered.wait()
        yield
        leave.set()
        live.cut("end of the test")


async def test_limits_refuse_at_the_door_and_forget_who_left() -> None:
    """I-22, I-60: per grant and in all; the refusal says which, and leaves nothing counted."""
    registry = LiveRegistry()
    with ExitStack() as stack:
        for grant in ("gr_1", "gr_1", "gr_2"):
            stack.enter_context(registry.enter(session(grant=grant), per_grant=2, in_all=3))
        for limits, said in (({"per_grant": 2, "in_all": 9}, "the grant"), ({"per_grant": 9, "in_all": 3}, "broker")):
            with pytest.raises(Refusal, match=said) as caught, registry.enter(session(), **limits):
                pytest.fail("it was let in")
            assert (caught.value.code, caught.value.blame) == ("too_many_sessions", Blame.EXHAUSTED)
        assert registry.count() == 3
    assert registry.count() == 0
    with registry.enter(session(), per_grant=1, in_all=1):
        assert registry.count(TENANT) == 1
        assert registry.count(OTHER) == 0


async def test_a_session_that_fails_is_closed_and_counted_out() -> None:
    """`closed` means that nothing of it runs any more, however it ended."""
    registry, live = LiveRegistry(), session()
    with pytest.raises(OSError, match="broke"), registry.enter(live, per_grant=1, in_all=1):
        raise OSError("it broke")
    assert live.closed.is_set()
    assert registry.count() == 0


async def test_a_closed_tenant_lets_nobody_in() -> None:
    """I-61: needs no store; other tenants go on, and lifting it opens the door again."""
    registry = LiveRegistry()
    registry.close(TENANT, "for a drill")
    registry.close(TENANT, "for a drill")
    with pytest.raises(Refusal, match="frozen"), registry.enter(session(), per_grant=1, in_all=1):
        pytest.fail("it was let in")
    with pytest.raises(Refusal, match="frozen"):
        registry.must_be_open(TENANT)
    registry.must_be_open(OTHER)
    with registry.enter(session(OTHER), per_grant=1, in_all=9):
        registry.reopen(TENANT)
        with registry.enter(session(), per_grant=1, in_all=9):
            assert registry.count() == 2


ALL = [(t, g, i) for t in (TENANT, OTHER) for g in ("gr_1", "gr_2") for i in ("ag_1", "ag_2")]


@pytest.mark.parametrize(
    ("narrowed", "hit"),
    [({}, 4), ({"grant": "gr_1"}, 2), ({"identity": "ag_2"}, 2), ({"grant": "gr_2", "identity": "ag_1"}, 1)],
    ids=str,
)
async def test_a_cut_reaches_its_scope_and_nothing_else(narrowed: dict[str, str], hit: int) -> None:
    """I-02, I-40: never another tenant's, also where grant and identity look the same."""
    registry = LiveRegistry()
    lives = [session(t, grant=g, identity=i) for t, g, i in ALL]
    async with AsyncExitStack() as stack:
        for live in lives:
            await stack.enter_async_context(running(registry, live))
        scope = Scope(tenant=TENANT, **narrowed)  # type: ignore[arg-type]
        cut = await registry.cut(scope, "revoked", within=5)
        assert cut == Cut(sessions=hit, late=())
        assert [live for live in lives if live.closed.is_set()] == [live for live in lives if scope.covers(live)]


async def test_one_session_can_be_cut_alone() -> None:
    """TerminateSession ends one of a grant's sessions."""
    registry, one, other = LiveRegistry(), session(), session()
    async with running(registry, one), running(registry, other):
        assert (await registry.cut(Scope(tenant=TENANT, session=one.session), "terminated", within=5)).sessions == 1
        assert not other.closed.is_set()


async def test_a_stubborn_session_is_named_and_not_waited_for() -> None:
    """The cut answers in its time and says who is late: that is an alarm, not a hang (I-01)."""
    registry, slow, quick = LiveRegistry(), session(), session()
    async with running(registry, slow, stubborn=True), running(registry, quick):
        since = Since()
        cut = await registry.cut(Scope(tenant=TENANT), "expired", within=0.1)
        assert cut == Cut(sessions=2, late=(slow.session,))
        assert since.s() < 1.0
        assert registry.count() == 1


async def test_the_first_reason_stays() -> None:
    """A revocation during an expiry is no second end; all who wait hear the same."""
    live = session()
    live.cut("expired")
    live.cut("revoked")
    assert [await live.until_cut(), await live.until_cut()] == ["expired", "expired"]


async def test_a_waiter_that_gives_up_leaves_the_cut_for_others() -> None:
    """One task's timeout must not eat another's cut."""
    live = session()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await live.until_cut()
    live.cut("expired")
    assert await live.until_cut() == "expired"


async def test_a_cancelled_cut_leaves_no_task_behind() -> None:
    """The sessions stay cut, and nobody goes on waiting for them."""
    registry, live = LiveRegistry(), session()
    async with running(registry, live, stubborn=True):
        before = asyncio.all_tasks()
        cutting = asyncio.get_running_loop().create_task(registry.cut(Scope(tenant=TENANT), "revoked", within=60))
        await asyncio.sleep(0.01)
        cutting.cancel()
        await asyncio.wait([cutting])
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before
        assert await live.until_cut() == "revoked"


async def test_the_worst_recorder_is_the_lag() -> None:
    """Zero where nothing runs."""
    registry = LiveRegistry()
    assert registry.recorder_lag() == 0.0
    slow, quick = session(), session()
    slow.recorder_lag, quick.recorder_lag = lambda: 0.7, lambda: 0.1
    with registry.enter(quick, per_grant=9, in_all=9), registry.enter(slow, per_grant=9, in_all=9):
        assert registry.recorder_lag() == 0.7
