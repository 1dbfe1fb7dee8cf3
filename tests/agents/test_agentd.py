"""The helper that `grantctl run` is faster with: the same in every respect, for one user, and never in the way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from grantd.cli import thin
from grantd.cli.agentd.running import Invocation
from grantd.cli.agentd.start import write_launcher
from grantd.v1.action_pb2 import Action, ActionState, ExecuteRequest, ExecuteResponse
from tests.agents.console import GRANTCTL, Console
from tests.agents.desk import NOT_DONE, Desk, helping, until
from tests.agents.fake_broker import FakeBroker
from tests.agents.refusal import Context, refuse
from tests.agents.test_cli import AWAITING, ended, finishing, grant


def refuses(_: ExecuteRequest, context: Context) -> Iterator[ExecuteResponse]:
    """A broker that knows no such grant."""
    if context.is_active():
        refuse(context, grpc.StatusCode.NOT_FOUND, "not_found", "no such grant\x1b", way_out="look")
    yield ExecuteResponse()


EVERYTHING = bytes(range(256)) * 40
SCRIPTS: dict[str, tuple[object, tuple[str, ...], bytes]] = {
    "streams and status": (
        finishing(
            ExecuteResponse(stdout=EVERYTHING), ExecuteResponse(stderr=b"\x1b[31mred"),
            action=ended(ActionState.ACTION_STATE_FAILED, exit_status=42),
        ),
        ("run", "deploy@web1", "--", "printf", "a b", "$HOME\udcff"), b"",
    ),
    "declared stdin": (
        lambda r, _: iter([
            ExecuteResponse(stdout=r.start.command.stdin),
            ExecuteResponse(finished=ended(ActionState.ACTION_STATE_SUCCEEDED, exit_status=0)),
        ]),
        ("run", "gr_1", "--stdin", "--reason", "why", "--", "cat"), b"in\x00\xff",
    ),
    "a signal": (
        finishing(action=ended(ActionState.ACTION_STATE_FAILED, signal="KILL")), ("run", "gr_1", "--", "x"), b"",
    ),
    "denied": (
        finishing(action=ended(ActionState.ACTION_STATE_DENIED, note="tier.x\x1b")), ("run", "gr_1", "--", "x"), b"",
    ),
    "cut": (finishing(action=ended(ActionState.ACTION_STATE_CUT, note="expired")), ("run", "gr_1", "--", "x"), b""),
    "waited, then refused": (
        lambda _, __: iter([AWAITING, ExecuteResponse(finished=ended(ActionState.ACTION_STATE_DENIED, note="no"))]),
        ("run", "gr_1", "--", "x"), b"",
    ),
    "still waiting": (lambda _, __: iter([AWAITING]), ("run", "gr_1", "--wait-for", "1s", "--", "x"), b""),
    "JSON": (
        finishing(ExecuteResponse(stdout=b"\xff"), action=ended(ActionState.ACTION_STATE_SUCCEEDED, exit_status=0)),
        ("run", "-o", "json", "web1", "--", "x"), b"",
    ),
    "a refusal": (refuses, ("run", "gr_1", "--", "x"), b""),
    "a refusal in JSON": (refuses, ("run", "gr_1", "-o", "json", "--", "x"), b""),
    "no grant": (finishing(action=Action()), ("run", "db7", "--", "x"), b""),
    "too long": (finishing(action=Action()), ("run", "gr_1", "--", "x" * 20_000), b""),
    "resumed": (
        finishing(action=ended(ActionState.ACTION_STATE_DENIED, note="no")), ("run", "--resume", "ac_1"), b"",
    ),
}  # fmt: skip


def test_all_is_as_without_it(broker: FakeBroker, desk: Desk, helper: subprocess.Popen[bytes]) -> None:
    """Status, standard output, standard error and what the broker is told, for every way in which a run can end."""
    broker.grants = [grant(id="gr_other", target_name="db1"), grant()]
    for name, (script, words, stdin) in SCRIPTS.items():
        broker.execute = script  # type: ignore[assignment]
        broker.action = Action(id="ac_1", state=ActionState.ACTION_STATE_AWAITING)
        broker.started.clear()
        ran = desk.by_helper(*words, stdin=stdin)
        told = [request.start.command for request in broker.started]
        broker.started.clear()
        expected = desk.without(*words, stdin=stdin)
        assert ran.returncode != NOT_DONE, name
        assert (ran.returncode, ran.stdout) == (expected.returncode, expected.stdout), (name, ran, expected)
        assert clocks(ran.stderr) == clocks(expected.stderr), name
        assert told == [request.start.command for request in broker.started], name


def clocks(text: bytes) -> bytes:
    """Without the seconds that are left, which run."""
    return text.partition(b" left")[2] or text


def test_a_terminal_sees_the_same(broker: FakeBroker, desk: Desk, helper: subprocess.Popen[bytes]) -> None:
    """Colours, and nothing of the target's that commands the terminal."""
    broker.execute = finishing(  # type: ignore[assignment]
        AWAITING, ExecuteResponse(stdout=b"\x1b[2Jx\xc3"), ExecuteResponse(stdout=b"\xa4\n"),
        action=ended(ActionState.ACTION_STATE_SUCCEEDED, exit_status=0),
    )  # fmt: skip
    seen = []
    for words, switch in (
        (desk.words("run", "gr_1", "--", "x"), ""),
        ([GRANTCTL, "--profile", str(desk.home), "run", "gr_1", "--", "x"], "off"),
    ):
        with Console(words, env=desk.environment(**{thin.SWITCH: switch})) as console:
            assert console.wait() == 0
            seen.append(console.raw)
    assert seen[0] == seen[1]
    assert b"\\x1b[2Jx\xc3\xa4" in seen[0]


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--help"), ("run",), ("run", "web1"), ("run", "--unknown", "web1", "--", "x"), ("whoami",),
        ("run", "--profile", "/x", "gr_1", "--", "x"), ("run", "--stdin-file", "/etc/hostname", "gr_1", "--", "x"),
    ],
)  # fmt: skip
def test_what_it_does_not_do_is_not_begun(desk: Desk, helper: subprocess.Popen[bytes], words: tuple[str, ...]) -> None:
    """Help, mistakes, files: the whole grantctl answers."""
    assert desk.by_helper(*words).returncode == NOT_DONE


def endless(broker: FakeBroker) -> Callable[[ExecuteRequest, Context], Iterator[ExecuteResponse]]:
    """A command that runs until its caller leaves."""

    def script(_: ExecuteRequest, context: Context) -> Iterator[ExecuteResponse]:
        context.add_callback(broker.cancelled.set)
        yield ExecuteResponse(action=Action(id="ac_1", state=ActionState.ACTION_STATE_RUNNING))
        while context.is_active():
            yield ExecuteResponse(stdout=b"." * 1000)
            time.sleep(0.01)

    return script


@pytest.mark.parametrize(
    ("number", "status", "said"), [(signal.SIGINT, 130, b"interrupted\n"), (signal.SIGKILL, -9, b"")]
)
def test_whoever_leaves_ends_the_command(
    broker: FakeBroker, desk: Desk, helper: subprocess.Popen[bytes], number: signal.Signals, status: int, said: bytes
) -> None:
    """Ctrl-C and even SIGKILL: the broker hears that the caller is gone, as without a helper."""
    broker.execute = endless(broker)
    with subprocess.Popen(
        desk.words("run", "gr_1", "--", "x"), env=desk.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        until(lambda: bool(broker.started))
        time.sleep(0.2)
        process.send_signal(number)
        assert process.communicate(timeout=30)[1] == said
        assert process.returncode == status
    assert broker.cancelled.wait(30)


def test_one_who_does_not_read_holds_nobody_up(broker: FakeBroker, desk: Desk, helper: subprocess.Popen[bytes]) -> None:
    """A full pipe blocks its own run alone; a reader that went away ends it."""
    broker.execute = endless(broker)
    stuck = [
        subprocess.Popen(desk.words("run", "gr_1", "--", "x"), env=desk.environment(), stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    try:
        until(lambda: len(broker.started) == 3)
        time.sleep(1)
        broker.execute = finishing(action=ended(ActionState.ACTION_STATE_SUCCEEDED, exit_status=0))  # type: ignore[assignment]
        assert desk.by_helper("run", "gr_1", "--", "x").returncode == 0
        assert stuck[0].stdout is not None
        stuck[0].stdout.close()
        assert stuck[0].wait(10) == 1
    finally:
        for process in stuck:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def test_a_stream_that_cannot_be_written_ends_one_run(
    broker: FakeBroker, desk: Desk, helper: subprocess.Popen[bytes]
) -> None:
    """A full disk: status 1, and the helper goes on."""
    broker.execute = finishing(  # type: ignore[assignment]
        ExecuteResponse(stdout=b"x"), action=ended(ActionState.ACTION_STATE_SUCCEEDED, exit_status=0)
    )
    words, env = desk.words("run", "gr_1", "--", "x"), desk.environment()
    with Path("/dev/full").open("wb") as full:
        assert subprocess.run(words, env=env, stdout=full, check=False).returncode == 1
    assert subprocess.run(words, env=env, stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_a_helper_that_dies_is_told_and_nothing_runs_twice(
    broker: FakeBroker, desk: Desk, helper: subprocess.Popen[bytes]
) -> None:
    """Once it runs, it is not begun anew: 69 and a sentence."""
    broker.execute = endless(broker)
    with subprocess.Popen(
        desk.words("run", "gr_1", "--", "x"), env=desk.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        until(lambda: bool(broker.started))
        helper.kill()
        said = process.communicate(timeout=30)[1]
    assert (process.returncode, len(broker.started)) == (69, 1)
    assert b"the helper ended" in said
    broker.execute = finishing(action=ended(ActionState.ACTION_STATE_SUCCEEDED, exit_status=5))  # type: ignore[assignment]
    ran = subprocess.run(
        [GRANTCTL, "--profile", str(desk.home), "run", "gr_1", "--", "x"], env=desk.environment(), check=False
    )
    assert ran.returncode == 5, "its socket still lies there, and nobody misses it"


def test_a_new_sign_in_is_noticed(broker: FakeBroker, desk: Desk, helper: subprocess.Popen[bytes]) -> None:
    """The key that was replaced is not used any more; a profile that was opened to others is not used at all."""
    shown = list[bytes]()

    def script(_: ExecuteRequest, context: Context) -> Iterator[ExecuteResponse]:
        shown.append(context.auth_context()["x509_pem_cert"][0])  # type: ignore[arg-type]  # a tuple of bytes
        yield ExecuteResponse(finished=ended(ActionState.ACTION_STATE_SUCCEEDED, exit_status=0))

    broker.execute = script
    before = (desk.home / "client.pem").read_bytes()
    assert desk.by_helper("run", "gr_1", "--", "x").returncode == 0
    assert desk.without("login").returncode == 0
    assert desk.by_helper("run", "gr_1", "--", "x").returncode == 0
    assert [pem.strip() for pem in shown] == [before.strip(), (desk.home / "client.pem").read_bytes().strip()]
    (desk.home / "client.key").chmod(0o644)
    assert desk.by_helper("run", "gr_1", "--", "x").returncode == NOT_DONE


def test_it_ends_when_nobody_needs_it(desk: Desk) -> None:
    """Idle for as long as was said: gone, with its socket."""
    with helping(desk, "--idle", "1s") as process:
        assert process.wait(15) == 0
    assert not (desk.runtime / "grantd" / thin.SOCKET).exists()


def test_it_starts_behind_and_only_where_wanted(broker: FakeBroker, desk: Desk) -> None:
    """`GRANTCTL_AGENTD=start`: the first run starts it, the second finds it."""
    broker.execute = finishing(action=ended(ActionState.ACTION_STATE_SUCCEEDED, exit_status=0))  # type: ignore[assignment]
    path = desk.runtime / "grantd" / thin.SOCKET
    whole = [GRANTCTL, "--profile", str(desk.home), "run", "gr_1", "--", "x"]
    assert subprocess.run(whole, env=desk.environment(), check=False).returncode == 0
    assert not path.exists()
    assert subprocess.run(whole, env=desk.environment(**{thin.SWITCH: "start"}), check=False).returncode == 0
    until(path.exists, 20)
    assert desk.by_helper("run", "gr_1", "--", "x").returncode == 0
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    os.kill(int.from_bytes(credentials[:4], sys.byteorder), signal.SIGTERM)
    until(lambda: not path.exists())


def test_the_launcher_is_grantctl(
    broker: FakeBroker, desk: Desk, helper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """It does a run by the helper, and everything else as grantctl."""
    broker.execute = finishing(  # type: ignore[assignment]
        ExecuteResponse(stdout=b"out"), action=ended(ActionState.ACTION_STATE_FAILED, exit_status=7)
    )
    path = tmp_path / "grantctl"
    write_launcher(path)
    for words, status in ((("run", "gr_1", "--", "x"), 7), (("whoami",), 0), (("run",), 2)):
        ran = subprocess.run(
            [str(path), "--profile", str(desk.home), *words], env=desk.environment(), capture_output=True, check=False
        )
        assert ran.returncode == status, ran.stderr


def test_the_thin_client_imports_next_to_nothing() -> None:
    """What it imports is what every run waits for."""
    folder = Path(thin.__file__).parent
    code = f"""if True:
        import sys
        before = set(sys.modules)
        sys.path.append({str(folder)!r})
        import thin
        print(*sorted(set(sys.modules) - before))
    """
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {
        "_socket",
        "os",
        "os.path",
        "posixpath",
        "genericpath",
        "stat",
        "_stat",
        "thin",
        "_collections_abc",
    }


@pytest.mark.parametrize("words", [["gr_1", "--", "a", "b"], ["--cwd", "/x", "web1", "--raw", "--", "--x"]])
def test_words_are_read_as_click_reads_them(words: list[str]) -> None:
    """The same parser as grantctl's own."""
    told = Invocation.parse(words)
    assert told is not None
    assert told.words == tuple(words[words.index("--") + 1 :])
