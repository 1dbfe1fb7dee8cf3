"""Only the named peer is heard, only whole frames are read, and nobody can hold the signer up (I-26, I-60)."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from broker.core.cert import Ca
from broker.core.signing import Answer, Ask, AskCa, Signed
from broker.core.signwire import HEADER_BYTES, body_bytes, decode_answer, encode_ask, frame
from broker.signer import server
from broker.signer.server import MAX_BATCH, MAX_CONNECTIONS, AllowedPeer, SocketFault, listen, serve

ME = AllowedPeer(uid=os.geteuid(), pid=os.getpid())
QUESTION = frame(encode_ask(AskCa(ca=Ca.EGRESS)))
NOBODY = 65534


def _answer(ask: Ask) -> Answer:
    assert isinstance(ask, AskCa)
    return Signed(blob=ask.ca.encode())


@contextlib.contextmanager
def serving(
    path: Path, allowed: AllowedPeer, answer: Callable[[Ask], Answer] = _answer, batches: list[int] | None = None
) -> Iterator[None]:
    """The signer's socket loop in a thread of this process. `batches` is told how many questions came together."""

    def answers(asks: Sequence[Ask]) -> list[Answer]:
        if batches is not None:
            batches.append(len(asks))
        return [answer(ask) for ask in asks]

    listener = listen(path, own_uid=os.geteuid(), allowed=allowed)

    def run() -> None:
        with contextlib.suppress(OSError):  # the listener was shut down
            serve(listener, allowed, answers)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        listener.close()
        thread.join()


@pytest.fixture(autouse=True)
def _looks_up_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop notices a closed listener when it looks up."""
    monkeypatch.setattr(server, "LOOK_UP_SECONDS", 0.05)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A socket that answers this process."""
    with serving(tmp_path / "s", ME):
        yield tmp_path / "s"


def connect(path: Path) -> socket.socket:
    """A connection that gives up after a while."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(str(path))
    return connection


def asked(connection: socket.socket) -> Answer:
    """The answer to one question."""
    connection.sendall(QUESTION)
    header = connection.recv(HEADER_BYTES, socket.MSG_WAITALL)
    return decode_answer(connection.recv(body_bytes(header), socket.MSG_WAITALL))


def is_closed(connection: socket.socket) -> bool:
    """Whether the signer hung up without a word."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_many_questions_on_one_connection(path: Path) -> None:
    """The broker keeps its connection; each question gets its answer."""
    with connect(path) as connection:
        for _ in range(3):
            assert asked(connection) == Signed(blob=b"egress")


def test_a_question_may_come_in_pieces(path: Path) -> None:
    """How the kernel cuts the bytes does not matter."""
    with connect(path) as connection:
        for byte in QUESTION[:-1]:
            connection.sendall(bytes([byte]))
        connection.sendall(QUESTION[-1:])
        assert body_bytes(connection.recv(HEADER_BYTES, socket.MSG_WAITALL)) > 0


def _each_in_turn(connection: socket.socket, cas: Sequence[Ca]) -> None:
    for ca in cas:
        header = connection.recv(HEADER_BYTES, socket.MSG_WAITALL)
        assert decode_answer(connection.recv(body_bytes(header), socket.MSG_WAITALL)) == Signed(blob=ca.encode())


def test_what_waits_is_answered_together_and_in_order(tmp_path: Path) -> None:
    """A peer may ask on before it was answered; a batch has its bound, and none is lost behind it."""
    batches: list[int] = []
    cas = [*Ca] * 40
    with serving(tmp_path / "s", ME, batches=batches), connect(tmp_path / "s") as connection:
        connection.sendall(b"".join(frame(encode_ask(AskCa(ca=ca))) for ca in cas))
        _each_in_turn(connection, cas)
    assert sum(batches) == len(cas)
    assert max(batches) == MAX_BATCH


def test_half_a_question_behind_others_holds_none_of_them_up(path: Path) -> None:
    """What is whole is answered; the rest of the last one is waited for as a first one's is."""
    with connect(path) as connection:
        connection.sendall(QUESTION + QUESTION + QUESTION[:-3])
        _each_in_turn(connection, [Ca.EGRESS] * 2)
        connection.sendall(QUESTION[-3:])
        _each_in_turn(connection, [Ca.EGRESS])


@pytest.mark.parametrize("forged", [b"\x02" + QUESTION[1:], frame(b"{}")])
def test_a_forged_frame_behind_others_takes_nothing_from_them(path: Path, forged: bytes) -> None:
    """Those before it are answered, it is not, and what comes behind it is never read."""
    with connect(path) as connection:
        connection.sendall(QUESTION + QUESTION + forged + QUESTION)
        _each_in_turn(connection, [Ca.EGRESS] * 2)
        assert is_closed(connection)


@pytest.mark.parametrize(
    "forged",
    [
        b"\x00" + QUESTION[1:],
        b"\x02" + QUESTION[1:],
        b"\x01\xff\xff\xff\xff",
        b"\x01\x00\x03\x00\x00",
        b"\x01\x00\x00\x00\x00",
        frame(b"{}"),
        frame(QUESTION),
        QUESTION[:-1] + b"\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01" + bytes(300),
    ],
)
def test_forged_frames_end_the_connection_alone(path: Path, forged: bytes) -> None:
    """Another version, length, verb or protocol: hung up without an answer, and the next peer is served."""
    with connect(path) as connection:
        connection.sendall(forged)
        assert is_closed(connection)
    with connect(path) as connection:
        assert asked(connection) == Signed(blob=b"egress")


def test_half_a_frame_is_no_question(path: Path) -> None:
    """A peer that stops inside a frame gets no answer, wherever it stops."""
    for size in (1, HEADER_BYTES, len(QUESTION) - 1):
        with connect(path) as connection:
            connection.sendall(QUESTION[:size])
            connection.shutdown(socket.SHUT_WR)
            assert is_closed(connection)


def test_a_slow_frame_is_cut(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever begins a frame finishes it in time."""
    monkeypatch.setattr(server, "REST_OF_FRAME_SECONDS", 0.1)
    with connect(path) as connection:
        connection.sendall(QUESTION[:-1])
        assert is_closed(connection)


def test_connections_are_bounded_and_come_back(path: Path) -> None:
    """One connection more than the limit is hung up; once one is closed there is room again."""
    held = [connect(path) for _ in range(MAX_CONNECTIONS)]
    assert [asked(connection) for connection in held] == [Signed(blob=b"egress")] * MAX_CONNECTIONS
    with connect(path) as one_more:
        assert is_closed(one_more)
    held.pop().close()
    for _ in range(100):
        with connect(path) as again, contextlib.suppress(BrokenPipeError):  # hung up before the question was written
            again.sendall(QUESTION)
            if not is_closed(again):
                break
    else:
        pytest.fail("a closed connection never made room")
    for connection in held:
        connection.close()


_STRANGER = """
import os, socket, sys
# changes user by itself: another one may not even be able to start this interpreter
if os.geteuid() != int(sys.argv[3]): os.setuid(int(sys.argv[3]))
s = socket.socket(socket.AF_UNIX); s.settimeout(5)
try:
    s.connect(sys.argv[1]); s.sendall(bytes.fromhex(sys.argv[2]))
    print(s.recv(1).hex() or "closed")
except PermissionError:
    print("not even the door")
except (BrokenPipeError, ConnectionResetError):
    print("closed")
"""


def _as_another_process(path: Path, uid: int) -> str:
    command = [sys.executable, "-c", _STRANGER, str(path), QUESTION.hex(), str(uid)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_another_process_of_the_same_user_is_not_heard(path: Path) -> None:
    """In the embedded default the broker's pid alone may ask, whoever its user's other programs are."""
    assert _as_another_process(path, os.geteuid()) == "closed"


def test_a_whole_user_may_be_allowed(tmp_path: Path) -> None:
    """Where both are services of their own, the uid decides."""
    with serving(tmp_path / "s", AllowedPeer(uid=os.geteuid(), pid=None)):
        assert _as_another_process(tmp_path / "s", os.geteuid()) == "01"


def test_the_kernel_names_the_peer() -> None:
    """Another uid or pid than allowed is not admitted, by what SO_PEERCRED says."""
    near, far = socket.socketpair()
    with near, far:
        assert ME.admits(near)
        assert AllowedPeer(uid=os.geteuid(), pid=None).admits(near)
        assert not AllowedPeer(uid=os.geteuid() + 1, pid=None).admits(near)
        assert not AllowedPeer(uid=os.geteuid() + 1, pid=os.getpid()).admits(near)
        assert not AllowedPeer(uid=os.geteuid(), pid=os.getpid() + 1).admits(near)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_not_heard(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Real processes of two users: the allowed one is answered, the other is not, root included."""
    import tempfile  # noqa: PLC0415  pytest's own directories are closed to other users

    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        mine, theirs = Path(directory) / "mine", Path(directory) / "theirs"
        with serving(mine, ME), serving(theirs, AllowedPeer(uid=NOBODY, pid=None)):
            assert _as_another_process(mine, NOBODY) == "not even the door"
            mine.chmod(0o666)
            assert _as_another_process(mine, NOBODY) == "closed"
            assert _as_another_process(theirs, NOBODY) == "01"
            assert _as_another_process(theirs, 0) == "closed"


def test_a_leftover_socket_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    """After a crash the old socket goes; a file of somebody's stays and stops the start."""
    path = tmp_path / "s"
    listen(path, own_uid=os.geteuid(), allowed=ME).close()
    listen(path, own_uid=os.geteuid(), allowed=ME).close()
    assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()
    path.write_text("keep me")
    with pytest.raises(SocketFault):
        listen(path, own_uid=os.geteuid(), allowed=ME)
    assert path.read_text() == "keep me"


@pytest.mark.parametrize("name", ["x" * 120, "missing/s"], ids=["too long", "missing"])
def test_a_place_that_cannot_be_says_so(tmp_path: Path, name: str) -> None:
    """Too long for the kernel, or no such directory: a fault of ours with the path in it."""
    with pytest.raises(SocketFault):
        listen(tmp_path / name, own_uid=os.geteuid(), allowed=ME)


_SIGNALLED_ELSEWHERE = """
import signal, sys, threading, time
from broker.signer.server import AllowedPeer, listen, serve
from pathlib import Path

def stop(number, at):
    raise SystemExit(7)

def another():
    time.sleep(0.3)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    time.sleep(60)

signal.signal(signal.SIGTERM, stop)
threading.Thread(target=another, daemon=True).start()
me = AllowedPeer(uid=int(sys.argv[2]), pid=None)
serve(listen(Path(sys.argv[1]), own_uid=me.uid, allowed=me), me, lambda asks: [])
"""


def test_a_signal_that_wakes_nobody_is_still_heard(path: Path) -> None:
    """A SIGTERM that does not break into accept(), as one just before it, ends the signer: no orphan keeps the keys."""
    command = [sys.executable, "-c", _SIGNALLED_ELSEWHERE, str(path), str(os.geteuid())]
    assert subprocess.run(command, timeout=50, check=False).returncode == 7
