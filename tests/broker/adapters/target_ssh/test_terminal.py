"""A command in a terminal on a real sshd: bytes, size, Ctrl-C, signals, and its end, measured on the process."""

from __future__ import annotations

import asyncio

import pytest

from broker.core.action import Outcome
from broker.core.errors import TargetFault
from broker.core.terminal import Signal, Size, Terminal
from broker.service.ports import Chunk, TargetProcess
from tests.broker.adapters.target_ssh.test_ending import QUIET, gone
from tests.broker.adapters.target_ssh.world import World, alive, drained
from tests.pace import Since

pytestmark = pytest.mark.sshd
BOTH = pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "pooled"])


async def in_terminal(real: World, command: str, *, keyboard: bool = False, **changes: object) -> TargetProcess:
    """A command that runs in a terminal."""
    terminal = Terminal(size=Size(columns=101, rows=37))
    changes = {"pty": terminal if keyboard else terminal.without_keyboard(), "wants_stdin": keyboard, **changes}
    return await real.targets.start(real.plan(command, sealed=True, **changes))


async def said(process: TargetProcess, word: bytes) -> bytes:
    """What it wrote, up to where the word stands in it."""
    text = b""
    async with asyncio.timeout(5):
        while word not in text:
            chunk = await process.read()
            assert isinstance(chunk, Chunk), (chunk, text)
            text += chunk.data
    return text


async def test_it_is_a_terminal_of_that_size_and_kind(real: World) -> None:
    """The command leads a session on a pty; TERM is the plan's, the certificate permits the pty; streams are one."""
    script = "tty >/dev/null && stty size; echo $TERM; echo err >&2; ps -o tpgid=,pgid=,sid= -p $$; exit 5"
    ran = await drained(await in_terminal(real, script, env={"TERM": "xterm-256color"}))
    size, kind, err, ids = ran.out.decode().splitlines()
    assert (size, kind, err) == ("37 101", "xterm-256color", "err")
    assert len(set(ids.split())) == 1, "in front, leader of group and session"
    assert (ran.err, ran.outcome) == (b"", Outcome(exit_status=5, signal="", reason=""))
    assert real.signer.asked[-1].permit_pty
    assert "$SSH_ORIGINAL_COMMAND" in real.signer.asked[-1].force_command


async def test_without_a_terminal_the_certificate_permits_none(real: World) -> None:
    """I-07: only what the plan needs."""
    assert (await real.run("tty", sealed=True)).outcome.exit_status == 1
    assert not real.signer.asked[-1].permit_pty


async def test_a_window_that_changes_changes_it(real: World) -> None:
    """SIGWINCH and the new size."""
    process = await in_terminal(real, "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done")
    await said(process, b"ready")
    await process.resize(Size(columns=90, rows=20))
    assert b"20 90" in await said(process, b"90")
    await process.cut()


async def test_ctrl_c_interrupts_what_stands_in_front(real: World) -> None:
    """Also where no keyboard is passed on; what was interrupted says so by its signal."""
    process = await in_terminal(real, "echo $$; exec sleep 300")
    pid = int((await said(process, b"\n")).split()[0])
    await process.signal(Signal.INT)
    assert (await drained(process)).outcome == Outcome(exit_status=None, signal="INT", reason="")
    await gone([pid], within=1.0)


async def test_a_keyboard_reaches_it(real: World) -> None:
    """What is typed is echoed by the terminal, and read."""
    process = await in_terminal(real, "read -r line; echo got:$line", keyboard=True)
    await process.write(b"hello\r")
    ran = await drained(process)
    assert ran.out == b"hello\r\ngot:hello\r\n"


@BOTH
@pytest.mark.parametrize("name", [Signal.INT, Signal.USR1, Signal.TERM], ids=str)
async def test_a_signal_arrives_without_a_terminal_too(real: World, name: Signal, *, sealed: bool) -> None:
    """sshd refuses signals beside a force-command: the wrapper passes them on, the reaper for reads."""
    command = "trap 'echo INT; exit 3' INT; trap 'echo USR1; exit 4' USR1; echo ready; while :; do sleep 0.02; done"
    process = await real.targets.start(real.plan(command, sealed=sealed))
    await said(process, b"ready")
    await process.signal(name)
    ran = await drained(process)
    if name is Signal.TERM:
        assert ran.outcome == Outcome(exit_status=None, signal="TERM", reason="")
    else:
        assert (ran.out, ran.outcome.exit_status) == (name.encode() + b"\n", {"INT": 3, "USR1": 4}[name])


async def test_a_signal_asked_for_runs_nothing_a_second_time(real: World) -> None:
    """I-10: what a force-command forces is run once; a second session of the connection only signals."""
    process = await real.targets.start(real.plan("echo once; sleep 300", sealed=True))
    await said(process, b"once\n")
    await process.signal(Signal.USR1)
    ran = await drained(process)
    assert (ran.out, ran.outcome.signal) == (b"", "USR1")


async def test_a_tree_that_ignores_everything_is_gone_after_cut(real: World) -> None:
    """I-01, also with a terminal."""
    process = await in_terminal(real, QUIET)
    pids = [int(pid) for pid in (await said(process, b"\n")).split(b"\n")[0].split()]
    since = Since()
    await process.cut()
    assert since.s() < 1.0
    await gone(pids, within=1.0)


JOBS = "set -m; (trap '' HUP TERM INT; echo $BASHPID; while :; do sleep 0.05; done) & {then}"


@pytest.mark.parametrize("how", ["cut", "hang up", "time", "by itself"])
async def test_jobs_with_groups_of_their_own_end_with_it(real: World, how: str) -> None:
    """A shell on a terminal gives each job a group of its own: the whole session ends, however it ends."""
    seconds = 0.8 if how == "time" else 60.0
    command = JOBS.replace("{then}", "sleep 0.2" if how == "by itself" else "wait")
    process = await in_terminal(real, command, seconds_left=seconds)
    (pid,) = [int(word) for word in (await said(process, b"\n")).split() if word.isdigit()]
    assert alive(pid)
    if how == "cut":
        await process.cut()
    elif how == "hang up":
        process._connection.abort()  # type: ignore[attr-defined]  # noqa: SLF001  what a cable does
    elif how == "by itself":
        assert (await drained(process)).outcome.exit_status == 0
    await gone([pid], within=2.0)


async def test_a_login_shell_is_one(real: World) -> None:
    """`bash --login` in a terminal: a prompt, job control, `exit`."""
    process = await in_terminal(real, "bash --login", keyboard=True, env={"TERM": "xterm"})
    await process.write(b"sleep 300 & echo $-:$((40 + 2))\r")
    assert b"m" in (await said(process, b":42")).split(b":42")[0].split()[-1]
    await process.write(b"exit 4\r")
    await process.write(b"exit 4\r")  # a first one may say that there are jobs
    ran = await drained(process)
    assert ran.outcome.exit_status == 4


async def test_a_target_that_gives_no_terminal_says_so(bare: World) -> None:
    """PermitTTY no: a fixed phrase, and the command did not run."""
    with pytest.raises(TargetFault) as refused:
        await in_terminal(bare, "echo no")
    assert refused.value.code == "no_terminal"
