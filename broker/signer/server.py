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
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import structlog

from broker.core.errors import Fault
from broker.core.signing import Answer, Ask
from broker.core.signwire import HEADER_BYTES, FrameError, body_bytes, decode_ask, encode_answer, frame

MAX_CONNECTIONS = 8
REST_OF_FRAME_SECONDS = 5.0
"""From the first byte of a question to its last, and for an answer to be taken."""
MAX_BATCH = 64
"""Questions that share one fsync: the first of them waits for the work on the last."""
_AT_ONCE = 64 * 1024
"""Bytes taken from the socket at once: what waited there while the last answers were on their way to the disk."""
LOOK_UP_SECONDS = 1.0
"""At least as often, Python looks for signals that came at a bad moment."""
MAX_SOCKET_PATH = 100  # sun_path is 108 bytes
_UCRED = struct.Struct("3i")

log = structlog.get_logger()
Answers: TypeAlias = Callable[[Sequence[Ask]], Sequence[Answer]]
"""One answer a question, in their order."""


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


def serve(listener: socket.socket, allowed: AllowedPeer, answers: Answers) -> None:
    """Accepts for ever, one thread a connection, at most MAX_CONNECTIONS of them; ends by an exception alone.

    A peer may ask again before it was answered; what is waiting is answered together, in the order of the questions.
    """
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
            threading.Thread(target=_converse, args=(connection, answers, slots), daemon=True).start()


def _converse(connection: socket.socket, answers: Answers, slots: threading.BoundedSemaphore) -> None:
    try:
        with connection:
            questions = _Questions(connection)
            while asks := questions.waiting():
                connection.settimeout(REST_OF_FRAME_SECONDS)
                connection.sendall(b"".join(frame(encode_answer(each)) for each in answers(asks)))
    except FrameError as error:
        log.warning("signer.frame_refused", why=error.what)
    except OSError as error:
        log.info("signer.connection_lost", why=error.strerror)
    finally:
        slots.release()


class _Questions:
    """Questions as they come in over one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._came, self._at = b"", 0
        """Bytes that came, and how many of them were taken."""

    def waiting(self) -> list[Ask]:
        """All that are here, at least one; none where the peer is done. Waits without limit for a first byte only.

        Raises:
            FrameError: the next one is not a question; those before it were given out.
            OSError: it did not come in time.
        """
        if self._at == len(self._came):
            self._connection.settimeout(None)
            self._came, self._at = self._connection.recv(_AT_ONCE), 0
            if not self._came:
                return []
        asks = [self._first()]
        with contextlib.suppress(FrameError):  # found again once these are answered, as the first of its batch
            while len(asks) < MAX_BATCH and (body := self._whole()) is not None:
                asks.append(self._taken(body))
        return asks

    def _first(self) -> Ask:
        """The next question, waited for."""
        until = time.monotonic() + REST_OF_FRAME_SECONDS
        while (body := self._whole()) is None:
            left = until - time.monotonic()
            if left <= 0:
                raise FrameError("the question does not end")
            self._connection.settimeout(left)
            part = self._connection.recv(_AT_ONCE)
            if not part:
                raise FrameError("the question ends too early")
            self._came, self._at = self._came[self._at :] + part, 0
        return self._taken(body)

    def _whole(self) -> bytes | None:
        """The body of the next question, if all of it is here. Raises FrameError: none begins like this."""
        begin = self._at + HEADER_BYTES
        if len(self._came) < begin:
            return None
        end = begin + body_bytes(self._came[self._at : begin])
        return self._came[begin:end] if len(self._came) >= end else None

    def _taken(self, body: bytes) -> Ask:
        ask = decode_ask(body)
        self._at += HEADER_BYTES + len(body)
        return ask


def _remove_leftover(path: Path, own_uid: int) -> None:
    found = path.lstat()
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != own_uid:
        raise SocketFault(f"{path} is there and is not a socket of this signer")
    path.unlink()
