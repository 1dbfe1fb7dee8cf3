"""Ending: measured on the remote process, never on the socket. A closed channel ends nothing by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from broker.core.action import Outcome
from broker.core.errors import TargetFault
from broker.service.ports import Chunk, TargetProcess
from tests.broker.adapters.target_ssh.world import World, alive, drained
from tests.pace import Since
from tests.processes import descendants

pytestmark = pytest.mark.sshd
BOTH = pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "pooled"])
REPOSITORY = Path(__file__).resolve().parents[4]

# A tree of three that ignores every signal that can be ignored; its first line are the process ids.
STUBBORN = (
    "trap '' TERM HUP INT QUIT PIPE USR1 USR2;"
    " ( trap '' TERM HUP INT; ( trap '' TERM HUP INT; while :; do sleep 0.05; done ) & echo $BASHPID $! $$; {loop} ) &"
    " wait"
)
QUIET = STUBBORN.replace("{loop}", "while :; do sleep 0.05; done")
FLOOD = STUBBORN.replace("{loop}", "while :; do printf %65536s x; done")


async def started(real: World, command: str, *, sealed: bool, **changes: object) -> tuple[TargetProcess, list[int]]:
    """The process and the ids of its three remote processes."""
    process = await real.targets.start(real.plan(command, sealed=sealed, **changes))
    text = b""
    while b"\n" not in text:
        chunk = await process.read()
        assert isinstance(chunk, Chunk), chunk
        text += chunk.data
    return process, [int(pid) for pid in text.split(b"\n")[0].split()]


async def gone(pids: list[int], *, within: float) -> float:
    """Seconds until every process is gone; fails after `within`."""
    since = Since()
    while any(alive(pid) for pid in pids):
        assert since.s() < within, [pid for pid in pids if alive(pid)]
        await asyncio.sleep(0.005)
    return since.wall_s()


@BOTH
@pytest.mark.parametrize("command", [QUIET, FLOOD], ids=["quiet", "flood"])
async def test_a_tree_that_ignores_everything_is_gone_after_cut(real: World, command: str, *, sealed: bool) -> None:
    """I-01: cut ends the whole remote tree well within a second, also while it floods stdout and nobody reads."""
    process, pids = await started(real, command, sealed=sealed)
    await asyncio.sleep(0.1)
    since = Since()
    await process.cut()
    assert since.s() < 1.0
    await gone(pids, within=1.0)
    assert (await drained(process)).outcome == Outcome(exit_status=None, signal="", reason="cut")
    await process.cut()  # again: harmless


@BOTH
async def test_a_dropped_connection_ends_the_tree(real: World, *, sealed: bool) -> None:
    """The reaper and the watcher need nobody who tells them."""
    process, pids = await started(real, QUIET, sealed=sealed)
    process._connection.abort()  # type: ignore[attr-defined]  # noqa: SLF001  what a cable does
    await gone(pids, within=1.0)
    with pytest.raises(TargetFault) as lost:
        await drained(process)
    assert lost.value.code == "connection_lost"


@BOTH
async def test_the_time_is_over_on_the_target_itself(real: World, *, sealed: bool) -> None:
    """I-05: the target counts the seconds by its own steady clock and ends the tree without being told."""
    since = Since()
    process, pids = await started(real, QUIET, sealed=sealed, seconds_left=0.8)
    late = await gone(pids, within=2.0)
    assert since.wall_s() >= 0.8
    assert since.s() < 1.8
    assert (await drained(process)).outcome.signal in {"KILL", "TERM"}, late


async def test_the_end_of_the_grant_ends_what_still_runs(real: World) -> None:
    """I-02: end_grant takes the pooled connection and every read on it; nothing starts on the dead one."""
    process, pids = await started(real, QUIET, sealed=False)
    await real.targets.end_grant(real.target.tenant, real.grant)
    await real.targets.end_grant(real.target.tenant, real.grant)
    await gone(pids, within=1.0)
    with pytest.raises(TargetFault):
        await drained(process)


async def test_cutting_one_read_leaves_the_others(real: World) -> None:
    """One pooled connection, many reads: only the one that is cut ends."""
    first, dying = await started(real, FLOOD, sealed=False)
    second, staying = await started(real, QUIET, sealed=False)
    await first.cut()
    await gone(dying, within=1.0)
    await asyncio.sleep(0.1)
    assert all(alive(pid) for pid in staying)
    await second.cut()
    await gone(staying, within=1.0)


@BOTH
async def test_what_a_command_left_behind_goes_with_it(real: World, *, sealed: bool) -> None:
    """A background child in the command's group does not outlive the command; nothing is left of wrapper or reaper."""
    ran = await real.run("sleep 300 >/dev/null 2>&1 </dev/null & echo $!", sealed=sealed)
    await gone([int(ran.out)], within=1.0)
    await real.targets.close()
    await _nothing_left(real)


@BOTH
async def test_a_killed_broker_leaves_nothing_on_the_target(real: World, tmp_path: Path, *, sealed: bool) -> None:
    """kill -9 of the broker while a command runs: the remote tree is gone within a second."""
    client, pids = await _other_broker(real, tmp_path, sealed=sealed, seconds=60.0)
    client.kill()
    await gone(pids, within=1.0)
    client.wait()
    await _nothing_left(real)


@BOTH
async def test_a_stopped_broker_cannot_stretch_the_time(real: World, tmp_path: Path, *, sealed: bool) -> None:
    """I-05: SIGSTOP the broker: the deadline is kept on the target all the same."""
    client, pids = await _other_broker(real, tmp_path, sealed=sealed, seconds=1.5)
    client.send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(0.2)
        assert all(alive(pid) for pid in pids)
        await gone(pids, within=3.0)
    finally:
        client.kill()
        client.wait()


@BOTH
async def test_a_cancelled_start_leaves_nothing(real: World, *, sealed: bool) -> None:
    """Cancellation passes through at any moment, and what may have started ends."""
    for delay in (0.0, 0.002, 0.005, 0.01, 0.02, 0.04, 0.06, 0.0, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006):
        process = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                process = await real.targets.start(real.plan("sleep 77.123", sealed=sealed))
        if process is not None:
            await process.cut()
    await asyncio.sleep(1.0)  # for one that comes late
    since = Since()
    while any(b"77.123" in _words(pid) for pid in descendants(real.sshd.pid)):
        assert since.s() < 1.0
        await asyncio.sleep(0.02)
    await real.targets.close()
    await _nothing_left(real)


def _words(pid: int) -> bytes:
    with contextlib.suppress(OSError):  # it ended while we looked
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


async def _nothing_left(real: World) -> None:
    since = Since()
    while below := descendants(real.sshd.pid):
        assert since.s() < 2.0, [_words(pid) for pid in below]
        await asyncio.sleep(0.02)


async def _other_broker(
    real: World, folder: Path, *, sealed: bool, seconds: float
) -> tuple[subprocess.Popen[bytes], list[int]]:
    """A second process with the adapter, running QUIET against this sshd; and the remote process ids."""
    script = folder / "client.py"
    script.write_text(_CLIENT)
    out = folder / "pids"
    keys = folder / "key"
    keys.write_bytes(real.signer.private())
    arguments = [
        str(real.sshd.port),
        real.sshd.host_key,
        real.target.id,
        str(keys),
        str(int(sealed)),
        str(seconds),
        QUIET,
        str(out),
    ]
    client = subprocess.Popen(
        [sys.executable, str(script), *arguments], cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    )
    since = Since()
    while not out.exists() or len(out.read_text().split()) < 3:
        assert client.poll() is None
        assert since.s() < 15.0
        await asyncio.sleep(0.02)
    return client, [int(pid) for pid in out.read_text().split()]


_CLIENT = """
import asyncio, sys
from pathlib import Path
from tests.broker.adapters.target_ssh.world import second_broker
from tests.broker.adapters.target_ssh.test_ending import started

port, host_key, target, key, sealed, seconds, command, out = sys.argv[1:]

async def main():
    real = second_broker(port=int(port), host_key=host_key, target_id=target, key=Path(key).read_bytes())
    process, pids = await started(real, command, sealed=sealed == "1", seconds_left=float(seconds))
    Path(out).write_text(" ".join(map(str, pids)))
    await asyncio.sleep(60)

asyncio.run(main())
"""
