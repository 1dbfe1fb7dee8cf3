"""Who may speak to the helper of `grantctl run`: its own user, in its own words, and nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from grantd.cli import thin
from grantd.cli.agentd.helper import AlreadyRunning, Helper
from grantd.v1.action_pb2 import ActionState
from tests.agents.console import GRANTCTL
from tests.agents.desk import NOT_DONE, Desk, until
from tests.agents.fake_broker import FakeBroker
from tests.agents.test_cli import ended, finishing


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
