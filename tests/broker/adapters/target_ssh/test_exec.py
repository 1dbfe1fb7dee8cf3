"""Commands on a real sshd: exact bytes, exact endings, nothing lost either way."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.core.action import Outcome
from broker.core.wrapper import ENVIRONMENT
from broker.service.ports import Chunk, Stream
from tests.broker.adapters.target_ssh.world import World, world
from tests.peers_sshd import StartSshd

pytestmark = pytest.mark.sshd
BOTH = pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "pooled"])
hostile = st.text(
    st.one_of(
        st.sampled_from("\n\t '\"\\$`!*?~#&|;<>(){}[]^%-\u00e9\u4e2d\u202e\x1b"),
        st.characters(codec="utf-8", exclude_characters="\0"),
    ),
    max_size=300,
)


@pytest.fixture
def lasting(sshd_factory: StartSshd, runner: asyncio.Runner) -> Iterator[World]:
    """An sshd and an adapter for tests that are no coroutines."""
    made = world(sshd_factory)
    yield runner.run(made.__aenter__())
    runner.run(made.__aexit__(None, None, None))


def _said(text: str) -> str:
    """A command that prints exactly this text, in one of bash's quotings."""
    return "printf %s $'" + "".join(f"\\x{byte:02x}" for byte in text.encode()) + "'" if len(text) % 2 else _plain(text)


def _plain(text: str) -> str:
    return "printf %s '" + text.replace("'", "'\"'\"'") + "'"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=hostile)
def test_pooled_reads_run_the_exact_bytes(lasting: World, runner: asyncio.Runner, text: str) -> None:
    """I-10: what was decided is what bash gets, whatever characters it holds."""
    ran = runner.run(lasting.run(_said(text), sealed=False))
    assert (ran.out, ran.err, ran.outcome.exit_status) == (text.encode(), b"", 0)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=hostile)
def test_sealed_commands_run_the_exact_bytes(lasting: World, runner: asyncio.Runner, text: str) -> None:
    """I-10: the same through a certificate's force-command."""
    ran = runner.run(lasting.run(_said(text), sealed=True))
    assert (ran.out, ran.err, ran.outcome.exit_status) == (text.encode(), b"", 0)


@BOTH
async def test_sixteen_kibibytes_of_quotes_arrive(real: World, *, sealed: bool) -> None:
    """The largest command in its worst spelling still runs."""
    command = "printf %s " + '"\'"' * 5000
    ran = await real.run(command, sealed=sealed)
    assert ran.out == b"'" * 5000


@BOTH
@pytest.mark.parametrize(
    ("command", "outcome"),
    [
        ("exit 0", Outcome(exit_status=0, signal="", reason="")),
        ("exit 7", Outcome(exit_status=7, signal="", reason="")),
        ("exit 255", Outcome(exit_status=255, signal="", reason="")),
        ("nosuchcommand", Outcome(exit_status=127, signal="", reason="")),
        ("-rf", Outcome(exit_status=127, signal="", reason="")),
        ("kill -9 $$", Outcome(exit_status=None, signal="KILL", reason="")),
        ("kill -TERM $$", Outcome(exit_status=None, signal="TERM", reason="")),
        ("kill -SEGV $$", Outcome(exit_status=None, signal="SEGV", reason="")),
    ],
)
async def test_status_and_signal_are_the_commands_own(
    real: World, command: str, outcome: Outcome, *, sealed: bool
) -> None:
    """The wrapper leaves no trace in how a command ends."""
    assert (await real.run(command, sealed=sealed)).outcome == outcome


@BOTH
async def test_64_mb_each_way_arrive_whole(real: World, *, sealed: bool) -> None:
    """0 bytes lost: 64 MB in, 64 MB out, SHA-256 equal on both sides, while the reader is slow at first."""
    block = hashlib.sha256(b"seed").digest() * 32768  # 1 MiB
    process = await real.targets.start(real.plan("tee >(sha256sum >&2)", sealed=sealed, wants_stdin=True))
    got, err = hashlib.sha256(), b""

    async def feed() -> None:
        for _ in range(64):
            await process.write(block)
        await process.write_eof()

    async with asyncio.TaskGroup() as group:
        group.create_task(feed())
        await asyncio.sleep(0.3)
        while isinstance(chunk := await process.read(), Chunk):
            if chunk.stream is Stream.OUT:
                got.update(chunk.data)
            else:
                err += chunk.data
    wanted = hashlib.sha256(block * 64).hexdigest()
    assert chunk == Outcome(exit_status=0, signal="", reason="")
    assert (got.hexdigest(), err.split()[0].decode()) == (wanted, wanted)


@BOTH
async def test_streams_stay_apart(real: World, *, sealed: bool) -> None:
    """stdout and stderr are told apart, each in its order, and a pooled read's mark is seen by nobody."""
    ran = await real.run("for i in 1 2 3; do echo out$i; echo err$i >&2; done", sealed=sealed)
    assert (ran.out, ran.err) == (b"out1\nout2\nout3\n", b"err1\nerr2\nerr3\n")


@BOTH
async def test_without_stdin_a_command_reads_its_end_at_once(real: World, *, sealed: bool) -> None:
    """Nothing waits for input that cannot come."""
    assert (await real.run("cat; echo done", sealed=sealed)).out == b"done\n"


@BOTH
async def test_the_environment_is_the_fixed_one(real: World, *, sealed: bool) -> None:
    """Whatever sshd, PAM or a start-up file set, the command sees the fixed environment, its login and the plan's."""
    ran = await real.run("env -0", sealed=sealed, env={"LANG": "C.UTF-8", "TERM": "vt100"})
    seen = dict(line.split("=", 1) for line in ran.out.decode().strip("\0").split("\0"))
    own = {"PWD", "SHLVL", "_"}  # bash's
    assert seen.keys() == {*ENVIRONMENT, "HOME", "USER", "LOGNAME", "SHELL", "LANG", *own}
    assert {**ENVIRONMENT, "LANG": "C.UTF-8", "TERM": "vt100"}.items() <= seen.items()


@BOTH
async def test_no_startup_file_is_read(real: World, *, sealed: bool) -> None:
    """Not even one that the environment names: what ran is what was approved."""
    ran = await real.run(
        'echo "${BASH_ENV-}${ENV-}"; shopt -q login_shell && echo login; [[ $- == *i* ]] && echo -i', sealed=sealed
    )
    assert ran.out == b"\n"


@BOTH
async def test_the_working_directory_is_the_plans(real: World, *, sealed: bool) -> None:
    """A directory that cannot be entered is an ending, never a run somewhere else."""
    assert (await real.run("pwd", sealed=sealed, cwd="/usr/share")).out == b"/usr/share\n"
    missing = await real.run("pwd", sealed=sealed, cwd="/no/such 'place")
    assert (missing.out, missing.outcome.exit_status) == (b"", 126)
    assert missing.err == b"grantd: the working directory cannot be entered\n"


async def test_git_diff_runs_no_program_of_the_repository(real: World) -> None:
    """A repository that names an external diff, a hook path or an fsmonitor gets none of them run by a read."""
    prepare = (
        "cd $(mktemp -d) && pwd && git init -q . && echo one >f && git add f"
        " && git -c user.name=n -c user.email=e commit -qm m && echo two >>f"
        " && printf '#!/bin/sh\\ntouch \"$0.ran\"\\n' >x && chmod +x x"
        ' && git config diff.external "$PWD/x" && git config core.fsmonitor "$PWD/x" && ls'
    )
    folder = (await real.run(prepare, sealed=True)).out.split(b"\n")[0].decode()
    ran = await real.run("git status --short; git diff; ls", sealed=False, cwd=folder)
    assert b"+two" in ran.out
    assert b"x.ran" not in ran.out
    assert ran.outcome.exit_status == 0
