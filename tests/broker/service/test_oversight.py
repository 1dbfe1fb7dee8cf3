"""Whether input flows, by everything that may happen to a session that must be watched, and to one that need not be."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.core.ids import IdentityId
from broker.service.oversight import Oversight, Standing, Watcher

MANAGERS = frozenset({"manager"})


def watcher(name: str, role: str = "manager", *, attends: bool = True) -> Watcher:
    """Somebody who watches."""
    return Watcher(identity=IdentityId(f"pe_{name}"), name=name, role=role, key=name.encode(), attends=attends)


class Overseen(RuleBasedStateMachine):
    """A model: who is there is a plain list, and input flows by the sentence in `Standing.flows`."""

    def __init__(self) -> None:
        super().__init__()
        self.oversight = Oversight()
        self.there: list[tuple[Watcher, AbstractContextManager[None]]] = []
        self.demanded = self.paused = False

    @rule()
    def demand(self) -> None:
        self.oversight.demand(MANAGERS)
        self.demanded = True

    @rule()
    def attend(self) -> None:
        self._join(watcher(f"w{len(self.there)}"))

    @rule()
    def look(self) -> None:
        self._join(watcher("looker", attends=False))

    @rule()
    def attend_in_another_role(self) -> None:
        self._join(watcher(f"o{len(self.there)}", "owner"))

    @rule()
    def leave(self) -> None:
        if self.there:
            self.there.pop(0)[1].__exit__(None, None, None)

    @rule()
    def dismiss(self) -> None:
        if self.there:
            key = self.there[-1][0].key
            self.oversight.dismiss(key)
            assert all(each.dismissed.is_set() == (each.key == key) for each, _ in self.there)
            self.there = [pair for pair in self.there if pair[0].key != key]

    @rule()
    def pause(self) -> None:
        self.oversight.pause()
        self.paused = True

    @rule()
    def resume(self) -> None:
        self.oversight.resume()
        self.paused = False

    @invariant()
    def stands_as_the_model_says(self) -> None:
        attended = any(each.attends and (not self.demanded or each.role == "manager") for each, _ in self.there)
        standing = self.oversight.standing()
        assert standing == Standing(
            must_be_watched=self.demanded, paused=self.paused, attended=attended,
            watchers=tuple(sorted({each.name for each, _ in self.there})),
        )  # fmt: skip
        assert standing.flows is (not self.paused and (attended or not self.demanded))
        assert self.oversight.flows is standing.flows

    def _join(self, who: Watcher) -> None:
        context = self.oversight.watched_by(who)
        context.__enter__()
        self.there.append((who, context))


Overseen.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestOverseen = Overseen.TestCase


async def test_whoever_waits_for_the_input_goes_on_only_while_it_flows() -> None:
    """F14: at once, not at the next look; a word that comes and goes before the waiter runs does not let it through."""
    oversight = Oversight()
    await oversight.until_flows()
    oversight.demand(MANAGERS)
    waiting = asyncio.get_running_loop().create_task(oversight.until_flows())
    await asyncio.sleep(0)
    with oversight.watched_by(watcher("a")):
        pass
    await asyncio.sleep(0.01)
    assert not waiting.done()
    with oversight.watched_by(watcher("b")):
        await asyncio.wait_for(waiting, 20)
        oversight.pause()
        assert not oversight.flows


async def test_nothing_flows_once_it_was_stopped() -> None:
    """I-01: whoever watches, whoever resumes; and nothing flows in a line of a shell that was stopped."""
    shell, line = Oversight(), Oversight()
    with line.within(shell):
        assert (flows(shell), flows(line)) == (True, True)
        line.stop()
        assert (flows(shell), flows(line)) == (True, False)
    shell, line = Oversight(), Oversight()
    with line.within(shell):
        shell.stop()
        with shell.watched_by(watcher("a")):
            shell.resume()
            line.resume()
            assert (flows(shell), flows(line)) == (False, False)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(shell.until_flows(), 0.01)


async def test_changes_are_heard() -> None:
    """The event is set at the start and at each change, and carries nothing itself."""
    oversight = Oversight()
    with oversight.heeded() as changed:
        assert changed.is_set()
        changed.clear()
        with oversight.watched_by(watcher("a", attends=False)):
            assert changed.is_set()
            changed.clear()
        assert changed.is_set()


async def test_a_line_is_watched_and_paused_with_its_shell() -> None:
    """What must be watched flows while somebody in its role watches the shell around it; a pause there holds it too."""
    shell, line = Oversight(), Oversight()
    line.demand(MANAGERS)
    with line.within(shell):
        assert (flows(shell), flows(line)) == (True, False)
        with shell.watched_by(watcher("o", "owner")):
            assert not flows(line)
        with shell.watched_by(watcher("a")):
            assert flows(line)
            shell.pause()
            assert not flows(line)
            shell.resume()
            assert flows(line)
            assert line.standing().watchers == ("a",)
        assert not flows(line)
        with shell.watched_by(watcher("a")):
            shell.dismiss(b"a")
            assert not flows(line)
    with shell.watched_by(watcher("a")):
        assert not flows(line), "its shell is none of its any more"


def flows(oversight: Oversight) -> bool:
    """Whether input goes through there."""
    return oversight.flows
