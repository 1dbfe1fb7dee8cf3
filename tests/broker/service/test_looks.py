"""Where commands are classified: never while the store's one writer is held, and long lines not on the loop either."""

from __future__ import annotations

import threading

import pytest

from broker.core.action import ActionState, StdinMode
from broker.core.roles import Role
from broker.service import sight
from broker.service.propose import CommandInput
from policy import ruleset
from policy.catalog import Catalogue
from policy.engine import shipped_policy
from policy.shell import Verdict, classify_by
from tests.broker.service.test_deciding import put_policy
from tests.broker.service.world import WRITE, House

LONG = b"touch " + b" ".join(b"/srv/app/%d" % number for number in range(100))
OWN = {
    **shipped_policy(),
    "own.cedar": '@id("own") forbid (principal, action == Action::"run", resource) when { false };',
}


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """Every classification: the thread that it held, and the line. Nothing is remembered from before."""
    seen: list[tuple[str, bytes]] = []

    def classified(catalogue: Catalogue, command: bytes) -> Verdict:
        seen.append((threading.current_thread().name, command))
        return classify_by(catalogue, command)

    monkeypatch.setattr(ruleset, "classify_by", classified)
    sight._classified.cache_clear()  # noqa: SLF001
    return seen


def _forgotten(house: House, looked: list[tuple[str, bytes]]) -> None:
    """As after a start, or after a thousand other lines."""
    looked.clear()
    sight._classified.cache_clear()  # noqa: SLF001
    house.world.policies._seen.clear()  # noqa: SLF001


def _held(looked: list[tuple[str, bytes]]) -> set[str]:
    return {thread for thread, _ in looked}


@pytest.mark.parametrize("own", [False, True], ids=["shipped", "own"])
async def test_no_decision_holds_the_writer_for_the_classifier(
    house: House, looked: list[tuple[str, bytes]], *, own: bool
) -> None:
    """I-60: proposed, previewed and started, a line made to be hard costs its own tenant's wait and nobody else's."""
    agent, approver = await house.add("deployer"), await house.add("approver", Role.MANAGER)
    grant = await house.granted(agent)
    if own:
        await put_policy(house, OWN)
    main = threading.main_thread().name
    command = CommandInput(line=LONG, cwd="", env={}, stdin_mode=StdinMode.NONE, stdin=b"", pty=False)

    _forgotten(house, looked)
    await house.cases.propose.preview(agent.caller, grant, command)
    assert looked
    assert not _held(looked) & {main, "store-writer"}

    _forgotten(house, looked)
    action = (await house.propose(agent, grant, LONG)).action
    assert action.state is ActionState.AWAITING
    assert [line for _, line in looked] == [LONG], "once, and remembered"
    assert not _held(looked) & {main, "store-writer"}

    await house.decide(approver, action)
    _forgotten(house, looked)
    ticket = await house.cases.starting.start(agent.caller, action.id, door="grpc")
    assert ticket.action.state is ActionState.RUNNING
    assert [line for _, line in looked] == [LONG], "once, and remembered"
    assert not _held(looked) & {main, "store-writer"}


async def test_a_short_line_is_looked_at_where_it_is_asked(house: House, looked: list[tuple[str, bytes]]) -> None:
    """It costs less than a thread would; the writer is not held for it either."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    await put_policy(house, OWN)
    _forgotten(house, looked)
    await house.propose(agent, grant, WRITE)
    assert looked == [(threading.main_thread().name, WRITE)]


async def test_one_ruleset_read_twice_is_one(looked: list[tuple[str, bytes]]) -> None:
    """What makes an answer the same is the texts and the bytes, not the object that was made of the texts."""
    first, second = (ruleset.Ruleset.load(OWN, tried=True) for _ in range(2))
    other = ruleset.Ruleset.load(shipped_policy(), tried=True)
    assert sight.classify(first, WRITE) == sight.classify(second, WRITE) == sight.classify(other, WRITE)
    assert len(looked) == 2
