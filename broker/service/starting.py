"""Following a proposed action until people have decided, and starting it then: the way from a yes to a ticket."""

from __future__ import annotations

from collections.abc import AsyncIterator

from broker.core.action import Action, ActionState
from broker.core.errors import not_found
from broker.core.identity import Caller
from broker.core.ids import ActionId
from broker.service.closing import Closing
from broker.service.ports import Tx
from broker.service.shield import settled, to_the_end
from broker.service.sight import look
from broker.service.start import Start, Ticket
from broker.service.wake import heard
from broker.service.world import World


class StartingService:
    """Starts decided actions."""

    def __init__(self, world: World, start: Start, closing: Closing) -> None:
        self._world, self._start, self._closing = world, start, closing

    async def start(self, caller: Caller, action_id: ActionId, *, door: str) -> Ticket:
        """ALLOWED -> RUNNING for an action that waited.

        Everything is checked again in the transaction that starts it.
        """
        await self._look(caller, action_id)
        instant = self._world.ready(caller.tenant)

        def unit(tx: Tx) -> Ticket:
            action = tx.actions.get(action_id)
            if action is None or action.identity != caller.identity:
                raise not_found("action")
            grant, target, watchers = self._start.recheck(tx, action, now=instant.wall)
            self._world.leases.must_last(grant, instant)
            return self._start.begin(tx, action, grant, target, watchers=watchers, door=door, instant=instant)

        ticket, cancelled = await settled(self._world.store.run(caller.tenant, unit))
        if cancelled is not None:
            await to_the_end(self._closing.abandon(ticket))
            raise cancelled
        return ticket

    async def _look(self, caller: Caller, action_id: ActionId) -> None:
        """The transaction classifies the command again: so that it finds the answer remembered."""
        world = self._world
        action = await world.store.read(caller.tenant, lambda tx: tx.actions.get(action_id))
        if action is not None and action.identity == caller.identity:
            await look(await world.policies.current(world.store, caller.tenant), action.command)

    async def until_decided(self, caller: Caller, action_id: ActionId) -> AsyncIterator[Action]:
        """The action now and after each change, until it no longer waits for a person."""
        last: Action | None = None
        with self._world.bell.listen(caller.tenant, action_id) as rung:
            while last is None or last.state is ActionState.AWAITING:
                await heard(rung, 20)
                action = await self._world.store.read(caller.tenant, lambda tx: tx.actions.get(action_id))
                if action is None or action.identity != caller.identity:
                    raise not_found("action")
                if last is None or action.state is not last.state:
                    yield action
                last = action
