"""The kill switch for whoever sits at the broker's machine: a Unix socket, root or the broker's own user (I-61).

One JSON object a line each way: {"tenant": NAME or null, "reason": TEXT} in; {"sessions", "late", "recorded"} or
{"error", "way_out"} out. Needs no network, no certificate, no store and no turn of the loop; can do nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import struct
import threading
from pathlib import Path
from typing import Final

import structlog

from broker.core.errors import Fault, Refusal, StoreFault, invalid
from broker.rpc.server import CannotListen
from broker.service.switch import KillSwitch

log = structlog.get_logger()
MAX_LINE_BYTES: Final = 4_096
MAX_SOCKET_PATH: Final = 107
_PEER_SECONDS: Final = 2.0
_AGAIN_SECONDS: Final = 0.2
"""After a connection that could not be taken, as where no descriptor is free."""
_UCRED: Final = struct.Struct("3i")


class HostSocket:
    """Listens at `path` (0600) on a thread of its own from `start` to `stop`."""

    def __init__(self, path: Path, switch: KillSwitch) -> None:
        self._path, self._switch = path, switch
        self._listener: socket.socket | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="freeze-host", daemon=True)

    def start(self) -> None:
        """Raises CannotListen."""
        if len(str(self._path).encode()) > MAX_SOCKET_PATH:
            raise CannotListen(f"the socket's path is longer than {MAX_SOCKET_PATH} bytes: {self._path}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _remove_leftover(self._path)
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(str(self._path))
            self._path.chmod(0o600)
            self._listener.listen(4)
        except OSError as error:
            raise CannotListen(f"cannot listen at {self._path}: {error.strerror}") from error
        self._thread.start()

    def stop(self) -> None:
        """Takes nothing new."""
        self._stopping.set()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        """Until it is stopped, whatever goes wrong: there is no other way to pull the switch from here."""
        assert self._listener is not None  # noqa: S101  started by `start`
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if not self._stopping.wait(_AGAIN_SECONDS):
                    log.error("freeze.not_accepted", why=error.strerror)  # noqa: TRY400
                continue
            with connection:
                try:
                    self._answer(connection)
                except Exception:
                    log.exception("freeze.failed")

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(_PEER_SECONDS)
        try:
            _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
            if uid not in (0, os.geteuid()):
                log.warning("freeze.peer_refused", uid=uid)
                return
            said = self._pulled(_line(connection), uid)
            connection.settimeout(_PEER_SECONDS)
            connection.sendall(json.dumps(said).encode() + b"\n")
        except OSError as error:
            log.info("freeze.peer_lost", why=error.strerror)

    def _pulled(self, line: bytes, uid: int) -> dict[str, object]:
        try:
            tenant, reason = _asked(line)
            pulled = self._switch.by_host(tenant, uid, reason)
        except Refusal as refusal:
            return {"error": refusal.message, "way_out": refusal.way_out}
        except StoreFault as fault:
            return {"error": fault.what, "way_out": "everything is cut and nothing is issued while this process lives"}
        except Fault as fault:
            return {"error": fault.what, "way_out": ""}
        return {"sessions": pulled.sessions, "late": pulled.late, "recorded": pulled.recorded}


def _line(connection: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n") and len(received) <= MAX_LINE_BYTES:
        part = connection.recv(MAX_LINE_BYTES)
        if not part:
            break
        received += part
    return bytes(received)


def _asked(line: bytes) -> tuple[str | None, str]:
    try:
        table = json.loads(line) if len(line) <= MAX_LINE_BYTES else None
    except ValueError:
        table = None
    if not isinstance(table, dict) or set(table) != {"tenant", "reason"} or not isinstance(table["reason"], str):
        raise invalid("bad_message", "this is no pull of the kill switch", "use grantd freeze of this version")
    tenant = table["tenant"]
    if tenant is not None and not isinstance(tenant, str):
        raise invalid("bad_message", "a tenant is a name, or null for all", "use grantd freeze of this version")
    return tenant, table["reason"]


def _remove_leftover(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise CannotListen(f"{path} is there and is no socket")
        path.unlink()
