"""A login whose own start-up file is noisy, silent or hostile: its reads end with their time and their connection.

The start-up file runs before the mark, as the login. What it prints can neither hide a command's process group nor put
another in its place, since the reaper reads from the kernel which groups sshd started.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from broker.adapters.target_ssh import pool
from broker.core.errors import TargetFault
from broker.service.ports import Chunk, Stream, TargetProcess
from tests.broker.adapters.target_ssh.test_ending import gone
from tests.broker.adapters.target_ssh.world import World, alive, drained, world
from tests.pace import Since
from tests.peers_sshd import StartSshd

pytestmark = pytest.mark.sshd

NOISY = "head -c 5000 /dev/zero | tr '\\0' x >&2; echo >&2"
# what runs before the mark can read the whole text of the command: its own process holds it
_FORGE = (
    "c=$(tr '\\0' ' ' </proc/$$/cmdline); n=${{c#*echo grantd-}}; n=${{n%% *}};"
    ' [ ${{#n}} != 32 ] || echo "grantd-$n {group}" >&2'
)
NOBODY = _FORGE.format(group=4194111)
"""Marks a process that does not exist."""
PARENT = _FORGE.format(group="$PPID")
"""Marks a process that lives and is not a command's: sshd."""
SILENT = 'case "$BASH_EXECUTION_STRING" in *grantd-ready*) ;; *) exec 2>/dev/null;; esac'
"""Closes stderr, except for the reaper."""
HIDING = pytest.mark.parametrize("script", [NOISY, NOBODY, PARENT, SILENT], ids=["noisy", "nobody", "parent", "silent"])

Start = Callable[[str], AbstractAsyncContextManager[World]]


@pytest.fixture
def login(sshd_factory: StartSshd, tmp_path: Path) -> Start:
    """A target whose login shell, a bash, runs this script before every command."""

    @asynccontextmanager
    async def made(script: str) -> AsyncIterator[World]:
        file, ran = tmp_path / "startup", tmp_path / "ran"
        file.write_text(f"{script}\n: >{ran}\n")
        # below a shell (SHLVL) bash reads BASH_ENV, directly below sshd the login's own ~/.bashrc in its place
        async with world(sshd_factory, config=f"SetEnv BASH_ENV={file} SHLVL=5\n") as real:
            yield real
        assert ran.exists(), "the start-up file never ran: nothing was shown"

    return made


async def started(real: World, seconds: float = 60.0) -> tuple[TargetProcess, int]:
    """A read that would last, and its process id."""
    plan = real.plan("echo $$; exec sleep 300", sealed=False, seconds_left=seconds)
    process, text = await real.targets.start(plan), b""
    while b"\n" not in text:
        chunk = await process.read()
        assert isinstance(chunk, Chunk)
        text += chunk.data if chunk.stream is Stream.OUT else b""
    return process, int(text)


@HIDING
async def test_cut_ends_it(login: Start, script: str) -> None:
    """I-01: cut is over within a second, and so is what it cuts."""
    async with login(script) as real:
        process, pid = await started(real)
        since = Since()
        await process.cut()
        assert since.s() < 1.0
        await gone([pid], within=1.0)
        assert (await drained(process)).outcome.reason == "cut"


@HIDING
async def test_its_time_ends_it(login: Start, script: str) -> None:
    """I-01, I-05: the deadline is kept on the target, without a word of the broker."""
    async with login(script) as real:
        since = Since()
        _, pid = await started(real, seconds=0.8)
        assert alive(pid)
        await gone([pid], within=2.0)
        assert since.wall_s() > 0.6
        assert since.s() < 2.0


@HIDING
async def test_the_end_of_its_connection_ends_it(login: Start, script: str) -> None:
    """I-02: nothing of a grant outlives the grant's connection."""
    async with login(script) as real:
        pids = [(await started(real))[1] for _ in range(3)]
        await asyncio.sleep(0.1)
        assert all(alive(pid) for pid in pids)
        await real.targets.close()
        await gone(pids, within=1.0)


async def test_a_long_noise_reaches_the_reader_whole(login: Start) -> None:
    """Nothing of stderr is lost but the mark."""
    async with login(NOISY) as real:
        ran = await real.run("echo own >&2", sealed=False)
        assert ran.err.replace(b"x", b"") == b"\nown\n"
        assert ran.err.count(b"x") == 5000


async def test_a_read_that_never_marks_ends_its_connection(login: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-01: what cannot be ended alone is not let run on."""
    monkeypatch.setattr(pool, "START_SECONDS", 0.5)
    async with login(SILENT) as real:
        process, pid = await started(real)
        with pytest.raises(TargetFault) as lost:
            await drained(process)
        assert lost.value.code == "connection_lost"
        await gone([pid], within=1.0)


async def test_a_mark_of_another_read_ends_neither_before_its_time(login: Start, tmp_path: Path) -> None:
    """I-22: a read that takes another's name is ended with the connection; it cannot keep itself alive by it."""
    other = tmp_path / "other"
    async with login(f'read -r o <{other} || o=; [ ! "$o" ] || {{ {_FORGE.format(group="$o")}; }}') as real:
        _, victim = await started(real)
        other.write_text(f"{victim}\n")
        liar, pid = await started(real)
        await liar.cut()
        await gone([pid, victim], within=1.0)
