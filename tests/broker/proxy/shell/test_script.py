"""A shell without a terminal: line after line through the gate, and nothing after the first that did not run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncssh
import pytest

from broker.core.action import ActionState
from broker.proxy.shell import script as scripts
from tests.broker.proxy.shell.world import SHELL, actions, allowed
from tests.broker.proxy.world import Gate, until


async def scripted(front: Gate, script: bytes) -> asyncssh.SSHCompletedProcess:
    """What a whole script came to."""
    client = await front.connect(await front.admit(flags=SHELL))
    async with asyncio.timeout(20):
        ran = await client.run(input=script, encoding=None)
    client.abort()
    return ran


async def test_each_line_is_an_action_and_streams_stay_apart(front: Gate, folder: Path) -> None:
    """I-18: in order, with directory and variables carried; output is the programs' own, byte by byte."""
    script = f"""# first
cd {folder}
export LANG=C
pwd; echo err >&2
for i in 1 2
do echo "$i $LANG"
done
ls /nowhere-at-all
echo last
"""
    ran = await scripted(front, script.encode())
    assert ran.stdout == f"{folder}\n1 C\n2 C\nlast\n".encode()
    assert isinstance(ran.stderr, bytes)
    assert ran.stderr.startswith(b"err\n")
    assert b"/nowhere-at-all" in ran.stderr
    assert ran.exit_status == 0
    assert len(await actions(front)) == 5
    assert (await actions(front))[2].command == b"export LANG='C'; for i in 1 2\ndo echo \"$i $LANG\"\ndone"


async def test_the_first_line_that_does_not_run_ends_it(front: Gate) -> None:
    """What follows was written for a world in which it had run."""
    ran = await scripted(front, b"echo one\napt-get install -y hello\necho two\n")
    assert (ran.stdout, ran.exit_status) == (b"one\n", 126)
    assert isinstance(ran.stderr, bytes)
    assert b"nothing of the rest was run" in ran.stderr
    assert [action.state for action in await actions(front)] == [ActionState.SUCCEEDED, ActionState.DENIED]


async def test_what_would_not_stay_ends_it(front: Gate) -> None:
    """An alias that is silently nothing would change what the rest means."""
    ran = await scripted(front, b"alias x=y\necho two\n")
    assert (ran.stdout, ran.exit_status) == (b"", 126)


async def test_a_line_waits_for_a_person(front: Gate) -> None:
    """And goes on when it was allowed."""
    async with asyncio.TaskGroup() as group:
        running = group.create_task(scripted(front, b"touch /tmp\nexit 7\necho never\n"))
        await allowed(front)
    ran = running.result()
    assert isinstance(ran.stderr, bytes)
    assert b"waiting for a person" in ran.stderr
    assert (ran.stdout, ran.exit_status) == (b"", 7)


async def test_an_unfinished_end_is_refused(front: Gate) -> None:
    """A script that was cut off in the middle of a line does not run that line."""
    ran = await scripted(front, b"echo 'one")
    assert (ran.stdout, ran.exit_status) == (b"", 126)
    assert front.house.targets.plans == []


async def test_rows_that_are_hard_to_read_hold_nobody_up(front: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-60, I-61: 16 KiB of brackets that never close cost their reader minutes; the broker goes on meanwhile."""
    monkeypatch.setattr(scripts, "_READ_WITHIN_S", 0.2)
    lags, ended = list[float](), asyncio.Event()

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        while not ended.is_set():
            before = loop.time()
            await asyncio.sleep(0.01)
            lags.append(loop.time() - before)

    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        ran = await scripted(front, b"a=( \n" * 3_000)
        ended.set()
    assert ran.exit_status == 126
    assert max(lags) < 2, "the loop stood still"
    assert await actions(front) == [], "half a line is refused by the gate"


async def test_a_client_that_leaves_ends_what_runs(front: Gate) -> None:
    """I-02, F06: also what is quiet and reads nothing; nothing of the rest is run."""
    client = await front.connect(await front.admit(flags=SHELL))
    process = await client.create_process(encoding=None)
    process.stdin.write(b"sleep 60\necho never\n")
    await until(lambda: len(front.house.targets.plans) == 1)
    client.abort()
    await until(lambda: not front.door_busy())
    assert [(action.command, action.state) for action in await actions(front)] == [(b"sleep 60", ActionState.CUT)]
