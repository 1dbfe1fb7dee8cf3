"""`grantctl ssh-proxy`: ssh's way to the gateway, for ProxyCommand. Moves bytes and understands none of them.

With `ProxyUseFdpass` ssh is handed the connected socket itself and no process stays between. Standard library alone.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import sys
import threading
from pathlib import Path
from typing import Final

from grantd.cli.ssh import kept

FAILED: Final = 255
"""What ssh itself says when a connection could not be made."""
_CONNECT_SECONDS: Final = 15.0
_CHUNK: Final = 64 * 1024


def run(profile: Path, host: str, user: str, *, fdpass: bool) -> int:
    """Connects standard input and output to the gateway, or hands the socket to ssh. The exit status.

    Where a user is named, only if there is a certificate for that user and host: without one nobody gets in.
    """
    if user and not _has_certificate(profile, host, user):
        return _fail(f"there is no certificate for {_plain(user)}@{_plain(host)}")
    gateway = kept.gateway_of(profile)
    if gateway is None:
        return _fail(f"no gateway is known for {_plain(host)} yet; grantctl ssh-cert asks for access and learns it")
    try:
        connection = socket.create_connection(gateway, timeout=_CONNECT_SECONDS)
    except OSError as failed:
        return _fail(f"the gateway {gateway[0]} port {gateway[1]} cannot be reached: {failed.strerror or failed}")
    with connection:
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if fdpass and stat.S_ISSOCK(os.fstat(1).st_mode):
            return _hand_over(connection)
        return _pump(connection)


def _has_certificate(profile: Path, host: str, user: str) -> bool:
    state = None if "/" in user + host else kept.state_in(kept.link_of(profile, user, host))
    return state is not None and state.is_usable(kept.Wish(), kept.now())


def _hand_over(connection: socket.socket) -> int:
    with socket.socket(fileno=os.dup(1)) as to_ssh:
        socket.send_fds(to_ssh, [b"\0"], [connection.fileno()])
    return 0


def _pump(connection: socket.socket) -> int:
    """Until the gateway closes. The end of standard input is passed on, and does not end what still comes back."""
    threading.Thread(target=_send, args=(connection,), daemon=True).start()
    try:
        while chunk := connection.recv(_CHUNK):
            _write(1, chunk)
    except OSError:
        return FAILED
    return 0


def _send(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := os.read(0, _CHUNK):
            connection.sendall(chunk)
        connection.shutdown(socket.SHUT_WR)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _fail(text: str) -> int:
    sys.stderr.write(f"grantctl: {text}\n")
    return FAILED


def _plain(text: str) -> str:
    """Only what is printable ASCII of a name that somebody else may have written."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:200]
