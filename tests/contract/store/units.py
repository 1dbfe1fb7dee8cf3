"""Units of work: alone, whole, and heard of by their callers. A part of the contract of every Store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from broker.adapters.store.backend import MAX_WAITING
from broker.adapters.store.faults import BUSY, CLOSED, READ_ONLY, REFUSED
from broker.adapters.store.postgres import CONNECTIONS
from broker.adapters.store.store import SqlStore
from broker.core.errors import StoreFault
from broker.service.ports import Tx
from tests.broker.adapters.store import samples
from tests.broker.adapters.store.fixtures import TENANT
from tests.contract.store.races import adds_team, race


class UnitContract:
    """Units of work: alone, whole, and heard of by their callers. Inherited by StoreContract."""

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
