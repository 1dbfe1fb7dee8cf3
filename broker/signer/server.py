"""The signer's Unix socket: who may talk, how much, and for how long. Knows nothing of certificates.

A peer is its kernel-checked uid and, in the embedded default, its pid (SO_PEERCRED); no byte of an unknown peer is
read.
"""

from __future__ import annotations

import contextlib
import socket
import stat
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from broker.core.errors import Fault
from broker.core.signing import (
    HEADER_BYTES,
    Answer,
    Ask,
    FrameError,
    body_bytes,
    decode_ask,
    encode_answer,
    frame,
)

MAX_CONNECTIONS = 8
REST_OF_FRAME_SECONDS = 5.0
"""From the first byte of a question to its last, and for an answer to be taken."""
LOOK_UP_SECONDS = 1.0
"""At least as often, Python looks for signals that came at a bad moment."""
MAX_SOCKET_PATH = 100  # sun_path is 108 bytes
_UCRED = struct.Struct("3i")

log = structlog.get_logger()


class SocketFault(Fault):
    """The signer cannot listen where it was told to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedPeer:
    """Who may ask. `pid` None allows every process of the uid (systemd units of their own)."""

    uid: int
    pid: int | None

    def admits(self, connection: socket.socket) -> bool:
        """What the kernel says about the process that connected."""
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, _ = _UCRED.unpack(raw)
        return uid == self.uid and self.pid in (None, pid)


def listen(path: Path, *, own_uid: int, allowed: AllowedPeer) -> socket.socket:
    """A listening socket at `path`, its leftover of an earlier run replaced. Raises SocketFault."""
    if len(str(path).encode()) > MAX_SOCKET_PATH:
        raise SocketFault(f"the socket's path is longer than {MAX_SOCKET_PATH} bytes: {path}")
    with contextlib.suppress(FileNotFoundError):
        _remove_leftover(path, own_uid)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        # the peer check is the lock; the mode only has to let another uid come as far as it
        path.chmod(0o600 if allowed.uid == own_uid else 0o666)
        listener.listen(MAX_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise SocketFault(f"cannot listen at {path}: {error.strerror}") from error
    return listener


def serve(listener: socket.socket, allowed: AllowedPeer, answer: Callable[[Ask], Answer]) -> None:
    """Accepts for ever, one thread a connection, at most MAX_CONNECTIONS of them; ends by an exception alone."""
    slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
    # a signal that comes just before the call waits for its return: SIGTERM, or the parent's end, may be that signal
    listener.settimeout(LOOK_UP_SECONDS)
    while True:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        if not allowed.admits(connection):
            log.warning("signer.peer_refused")
            connection.close()
        elif not slots.acquire(blocking=False):
            log.warning("signer.too_many_connections", limit=MAX_CONNECTIONS)
            connection.close()
        else:
            threading.Thread(target=_converse, args=(connection, answer, slots), daemon=True).start()


def _converse(connection: socket.socket, answer: Callable[[Ask], Answer], slots: threading.BoundedSemaphore) -> None:
    try:
        with connection:
            while ask := _read_ask(connection):
                connection.sendall(frame(encode_answer(answer(ask))))
    except FrameError as error:
        log.warning("signer.frame_refused", why=error.what)
    except OSError as error:
        log.info("signer.connection_lost", why=error.strerror)
    finally:
        slots.release()


def _read_ask(connection: socket.socket) -> Ask | None:
    """The next question, None where the peer is done. Waits without limit for its first byte only."""
    connection.settimeout(None)
    first = connection.recv(1)
    if not first:
        return None
    connection.settimeout(REST_OF_FRAME_SECONDS)
    size = body_bytes(first + _exactly(connection, HEADER_BYTES - 1))
    return decode_ask(_exactly(connection, size))


def _exactly(connection: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            raise FrameError("the question ends too early")
        received += part
    return bytes(received)


def _remove_leftover(path: Path, own_uid: int) -> None:
    found = path.lstat()
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != own_uid:
        raise SocketFault(f"{path} is there and is not a socket of this signer")
    path.unlink()
