"""Long work beside the loop: one piece at a time, and given up only when it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from threading import Event, Thread, current_thread, main_thread
from typing import Any

import pytest

from broker.core.roles import Role
from broker.service import rules, validate
from broker.service.aside import Aside
from policy.engine import shipped_policy
from tests.broker.service.test_rules import put
from tests.broker.service.world import House


async def test_a_call_that_is_given_up_keeps_its_place_until_it_is_done() -> None:
    """I-60: cancelled or not, its thread still works, so the next one waits."""
    aside, told, go = Aside(), list[str](), Event()

    def first() -> None:
        go.wait(5)
        told.append("first")

    async with asyncio.TaskGroup() as group:
        given_up = group.create_task(aside.run(first))
        await asyncio.sleep(0.01)
        given_up.cancel()
        group.create_task(aside.run(lambda: told.append("second")))
        await asyncio.sleep(0.05)
        assert not told
        go.set()
    assert given_up.cancelled()
    assert told == ["first", "second"]


async def test_no_policy_is_read_on_the_loop(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-60: 256 KiB take more than a second to read, and every session would stand still for that long."""
    threads: list[Thread] = []

    def watched(use: Callable[..., Any]) -> Callable[..., Any]:
        def told(sources: Mapping[str, str], *more: object) -> Any:  # noqa: ANN401  as what it stands for
            threads.append(current_thread())
            return use(sources, *more)

        return told

    monkeypatch.setattr(rules, "loaded", watched(rules.loaded))
    monkeypatch.setattr(validate, "validation", watched(validate.validation))
    owner = await house.add("owner", Role.OWNER)
    more = {**shipped_policy(), "own.toml": '[mytool]\nclass = "read"'}
    await house.cases.validate.validate(owner.caller, more)
    await put(house, more, owner)
    assert len(threads) == 2
    assert main_thread() not in threads
