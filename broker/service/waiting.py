"""Following an action from outside its stream: waiting for a change, taking it back. Starts nothing."""

from __future__ import annotations

from datetime import timedelta

from broker.core import action as actions
from broker.core.action import FINISHED, Action, ActionEvent, ActionState
from broker.core.errors import invalid, not_found
from broker.core.identity import Caller
from broker.core.ids import ActionId
from broker.service import story
from broker.service.live import Scope
from broker.service.ports import Tx
from broker.service.wake import PENDING, heard
from broker.service.world import World

MAX_WAIT = timedelta(seconds=55)
_LOOK_EVERY_S = 2.0
"""How late an ending by time, which rings for nobody in particular, is seen."""
_OPEN = frozenset({ActionState.AWAITING, ActionState.ALLOWED})
CUT_WITHIN = 1.0


class WaitingService:
    """WaitAction, CancelAction."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def get(self, caller: Caller, action_id: ActionId) -> Action:
        """One's own action."""
        return await self._world.store.read(caller.tenant, lambda tx: _own(tx, caller, action_id))

    async def wait(
        self, caller: Caller, action_id: ActionId, *, unless: ActionState | None, at_most: timedelta
    ) -> Action:
        """The action once it is no longer in the state `unless`, or as it is after `at_most`.

        With `unless` None it waits until the action is finished; `at_most` is no more than MAX_WAIT.
        """
        if not timedelta(0) <= at_most <= MAX_WAIT:
            raise invalid("bad_wait", "a wait lasts 0 to 55 seconds", "wait in several calls")
        end = self._world.clock.monotonic() + at_most.total_seconds()
        with self._world.bell.listen(caller.tenant, action_id) as rung:
            while True:
                rung.clear()
                action = await self.get(caller, action_id)
                left = end - self._world.clock.monotonic()
                if left <= 0 or action.state in FINISHED or unless not in (None, action.state):
                    return action
                await heard(rung, min(left, _LOOK_EVERY_S))

    async def cancel(self, caller: Caller, action_id: ActionId) -> Action:
        """Takes back an action that waits or may run, cuts one that runs; one that is over stays as it is."""
        now = self._world.clock.now()

        def unit(tx: Tx) -> Action:
            action = _own(tx, caller, action_id)
            if action.state not in _OPEN:
                return action
            cancelled = actions.advance(action, ActionEvent.CANCEL, note="taken back by its requester")
            tx.actions.put(cancelled)
            tx.audit.append(story.of_action("action.cancelled", cancelled, actor=caller.identity), now)
            return cancelled

        action = await self._world.store.run(caller.tenant, unit)
        self._world.bell.ring(action.tenant, PENDING, action.id)
        if action.state is ActionState.RUNNING and action.session_id is not None:
            scope = Scope(tenant=action.tenant, session=action.session_id)
            await self._world.live.cut(scope, "cancelled", within=CUT_WITHIN)
            return await self.get(caller, action_id)
        return action


def _own(tx: Tx, caller: Caller, action_id: ActionId) -> Action:
    action = tx.actions.get(action_id)
    if action is None or action.identity != caller.identity:
        raise not_found("action")
    return action
