"""The helper that `grantctl run` is faster with: the same in every respect, for one user, and never in the way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from grantd.cli import thin
from grantd.cli.agentd.helper import AlreadyRunning, Helper
from grantd.cli.agentd.running import Invocation
from grantd.cli.agentd.start import write_launcher
from grantd.v1.action_pb2 import Action, ActionState, ExecuteRequest, ExecuteResponse
from tests.agents.conftest import Person
from tests.agents.console import GRANTCTL, Console
from tests.agents.fake_broker import FakeBroker
from tests.agents.refusal import Context, refuse
from tests.agents.test_cli import AWAITING, ended, finishing, grant
from tests.pace import Since

NOT_DONE = 99
# what a process says that was to do it by the helper or not at all
THIN = (
    f"import sys; from grantd.cli import thin; s = thin.attempt(sys.argv[1:]); sys.exit({NOT_DONE} if s is None else s)"
)
Ran = subprocess.CompletedProcess[bytes]


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A runtime directory; short, because a socket's path may not be long."""
    made = Path(tempfile.mkdtemp(prefix="gr"))
    yield made
    shutil.rmtree(made)


@dataclass(frozen=True, slots=True)
class Desk:
    """A profile, a runtime directory, and grantctl with both."""

    home: Path
    runtime: Path

    def environment(self, **more: str) -> dict[str, str]:
        """For programs that may find the helper."""
        return {**os.environ, "XDG_RUNTIME_DIR": str(self.runtime), thin.SWITCH: "", "PYTHONUTF8": "1", **more}

    def words(self, *words: str) -> list[str]:
        """By the helper or not at all."""
        return [sys.executable, "-c", THIN, "--profile", str(self.home), *words]

    def by_helper(self, *words: str, stdin: bytes = b"", **env: str) -> Ran:
        """To its end."""
        return subprocess.run(
            self.words(*words), input=stdin, capture_output=True, check=False, timeout=30, env=self.environment(**env)
        )

    def without(self, *words: str, stdin: bytes = b"") -> Ran:
        """As if there were no helper."""
        return subprocess.run(
            [GRANTCTL, "--profile", str(self.home), *words], input=stdin, capture_output=True, check=False, timeout=30,
            env=self.environment(**{thin.SWITCH: "off"}),
        )  # fmt: skip


@pytest.fixture
def desk(person: Person, runtime: Path) -> Desk:
    """Nobody listens yet."""
    return Desk(person.profile.directory, runtime)


@contextlib.contextmanager
def helping(desk: Desk, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """`grantctl agentd` in front."""
    with subprocess.Popen(
        [GRANTCTL, "agentd", *words], env=desk.environment(), stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as process:
        path = desk.runtime / "grantd" / thin.SOCKET
        deadline = time.monotonic() + 20
        while not path.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture
def helper(desk: Desk) -> Iterator[subprocess.Popen[bytes]]:
    """Listening."""
    with helping(desk) as process:
        yield process


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


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits for something that will be so."""
    since = Since()
    while not holds():
        assert since.s() < seconds
        time.sleep(0.01)


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


def test_it_is_its_users_alone(desk: Desk, helper: subprocess.Popen[bytes]) -> None:
    """The socket is 0600 in a directory 0700, one helper a user, and no core file has the key."""
    directory = desk.runtime / "grantd"
    assert (directory.stat().st_mode & 0o777, (directory / thin.SOCKET).stat().st_mode & 0o777) == (0o700, 0o600)
    second = subprocess.run([GRANTCTL, "agentd"], env=desk.environment(), capture_output=True, check=False, timeout=30)
    assert (second.returncode, b"a helper runs already" in second.stderr) == (2, True)
    limits = Path(f"/proc/{helper.pid}/limits").read_text()
    assert next(line for line in limits.splitlines() if "core file" in line).split()[4] == "0"
    directory.chmod(0o755)
    assert desk.by_helper("run", "gr_1", "--", "x").returncode == NOT_DONE, "an open directory is nobody's"


@pytest.mark.parametrize(("other", "answer"), [(0, thin.NOT_MINE), (1, b"")], ids=["the user", "another user"])
async def test_other_users_get_no_answer(runtime: Path, other: int, answer: bytes) -> None:
    """Whatever the modes say, the kernel says who is there: SO_PEERCRED."""
    directory = runtime / "grantd"
    directory.mkdir(mode=0o700)
    helper = Helper(directory=directory, idle=timedelta(seconds=30), uid=os.geteuid() + other)

    def ask() -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(directory / thin.SOCKET))
            with contextlib.suppress(BrokenPipeError):
                socket.send_fds(connection, [b"\0\0\0\x01x"], [2, 2, 2])
            try:
                return connection.recv(1)
            except ConnectionResetError:
                return b""

    async with asyncio.TaskGroup() as group:
        serving = group.create_task(helper.serve())
        await asyncio.to_thread(until, (directory / thin.SOCKET).exists)
        assert await asyncio.to_thread(ask) == answer
        serving.cancel()


def test_nothing_begins_without_the_word(broker: FakeBroker, desk: Desk, helper: subprocess.Popen[bytes]) -> None:
    """A process that gave up in time does it itself; the helper, which heard no go, does not do it as well."""
    broker.execute = finishing(action=ended(ActionState.ACTION_STATE_SUCCEEDED, exit_status=0))  # type: ignore[assignment]
    message = b"\0".join([thin.PROTOCOL, thin.stamp(), os.fsencode(desk.home), b"", b"gr_1", b"--", b"never"])
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(desk.runtime / "grantd" / thin.SOCKET))
        socket.send_fds(connection, [len(message).to_bytes(thin.LENGTH_BYTES, "big") + message], [2, 2, 2])
        assert connection.recv(1) == thin.ACCEPTED
        connection.sendall(thin.INTERRUPT)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b"", "another word than go"
    assert desk.by_helper("run", "gr_1", "--", "x").returncode == 0
    assert [request.start.command.line for request in broker.started] == [b"x"]


def test_a_helper_that_does_not_answer_is_not_waited_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped, or busy for too long: the whole grantctl does it."""
    directory = desk.runtime / "grantd"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(desk.runtime))
    monkeypatch.delenv(thin.SWITCH, raising=False)
    monkeypatch.setattr(thin, "_speaks_utf8", lambda: True)
    monkeypatch.setattr(thin, "_ANSWER_SECONDS", 0.1)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / thin.SOCKET))
        listener.listen()
        assert thin.attempt(["--profile", str(desk.home), "run", "gr_1", "--", "x"]) is None


def test_another_users_socket_is_given_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams are handed only to the same user's process."""
    directory = desk.runtime / "grantd"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(desk.runtime))
    monkeypatch.delenv(thin.SWITCH, raising=False)
    monkeypatch.setattr(thin, "peer_of", lambda _: os.geteuid() + 1)
    monkeypatch.setattr(thin, "_speaks_utf8", lambda: True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / thin.SOCKET))
        listener.listen()
        assert thin.attempt(["--profile", str(desk.home), "run", "gr_1", "--", "x"]) is None
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "message",
    [b"", b"\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x05abcde", b"\0\0\0\x02abc", b"\0\0\0\x00"],
    ids=["nothing", "half a length", "too long", "no descriptors", "too much", "empty"],
)
def test_words_that_are_no_message_end_only_their_connection(
    broker: FakeBroker, desk: Desk, helper: subprocess.Popen[bytes], message: bytes
) -> None:
    """And the next run is done."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(desk.runtime / "grantd" / thin.SOCKET))
        connection.sendall(message)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    broker.execute = finishing(action=ended(ActionState.ACTION_STATE_SUCCEEDED, exit_status=0))  # type: ignore[assignment]
    assert desk.by_helper("run", "gr_1", "--", "x").returncode == 0


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


def test_only_one_helper_a_user(runtime: Path) -> None:
    """The lock, not the socket, says who is there."""
    directory = runtime / "grantd"
    directory.mkdir(mode=0o700)

    async def twice() -> None:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(Helper(directory=directory, idle=timedelta(seconds=30), uid=os.geteuid()).serve())
            await asyncio.to_thread(until, (directory / thin.SOCKET).exists)
            with pytest.raises(AlreadyRunning):
                await Helper(directory=directory, idle=timedelta(seconds=30), uid=os.geteuid()).serve()
            first.cancel()

    asyncio.run(twice())
