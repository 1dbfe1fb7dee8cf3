"""`grantctl run` by the per-user helper, where one answers: this process hands over its streams and waits for a status.

What is imported here is what every `grantctl run` waits for: modules that Python has loaded anyway, and one in C.
Where it is not certain that the helper does the very same, nothing is handed over, and the whole grantctl does it.
"""

import _socket
import os
import sys

PROTOCOL = b"1"
SOCKET = "agentd.sock"
SWITCH = "GRANTCTL_AGENTD"
"""Environment variable: `off` leaves the helper alone, `start` starts one behind the first run that found none."""
LENGTH_BYTES = 4
NOT_MINE, ACCEPTED, GO, INTERRUPT, STATUS = b"N", b"A", b"G", b"I", b"S"
INTERRUPTED = 130
UNREACHABLE = 69
_ANSWER_SECONDS = 3.0
_CREDENTIALS_BYTES = 12
_KIND_AND_OTHERS = 0o170077
_PRIVATE_DIRECTORY = 0o040000


def attempt(words: list[str]) -> int | None:
    """The exit status of a run that the helper did; None where it did nothing."""
    profile, words = (words[1], words[2:]) if words[:1] == ["--profile"] and len(words) > 1 else ("", words)
    if words[:1] != ["run"] or os.environ.get(SWITCH) == "off" or not _speaks_utf8():
        return None
    if not hasattr(_socket, "SO_PEERCRED"):
        return None  # a system that does not say who is at the other end
    where, directory = socket_path(), _profile(profile or os.environ.get("GRANTCTL_PROFILE", ""))
    if where is None or directory is None:
        return None
    fields = [PROTOCOL, stamp(), *map(os.fsencode, (directory, os.environ.get("NO_COLOR", ""), *words[1:]))]
    helper = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        return _converse(helper, where, b"\0".join(fields))
    except OSError:
        return None  # before GO nothing was begun; after it _finish has the word
    finally:
        helper.close()


def socket_path() -> str | None:
    """Where the helper of this user listens; None where there is no place that is this user's alone."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    directory = f"{runtime}/grantd"
    try:
        status = os.lstat(directory)
    except OSError:
        return None
    is_own = status.st_uid == os.geteuid() and status.st_mode & _KIND_AND_OTHERS == _PRIVATE_DIRECTORY
    return f"{directory}/{SOCKET}" if runtime.startswith("/") and is_own else None


def stamp() -> bytes:
    """Which code this is: a helper of another version or place is not asked for the same."""
    changed = os.stat(__file__).st_mtime_ns  # noqa: PTH116  pathlib is what every run would wait for
    return f"{__file__}:{changed}".encode()


def peer_of(connection: _socket.socket) -> int:
    """The user at the other end of a Unix socket."""
    credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _CREDENTIALS_BYTES)
    return int.from_bytes(credentials[4:8], sys.byteorder)


def _converse(helper: _socket.socket, where: str, message: bytes) -> int | None:
    helper.settimeout(_ANSWER_SECONDS)
    helper.connect(where)
    if peer_of(helper) != os.geteuid():
        return None
    data = len(message).to_bytes(LENGTH_BYTES, "big") + message
    streams = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
    sent = helper.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
    if sent < len(data):
        helper.sendall(data[sent:])
    if helper.recv(1) != ACCEPTED:
        return None
    helper.sendall(GO)
    return _finish(helper)


def _finish(helper: _socket.socket) -> int:
    """The status of what runs by now. Ctrl-C asks the helper to end it; a second one leaves without an answer."""
    try:
        helper.settimeout(None)
        answer = _answer(helper)
    except OSError:
        answer = b""
    if answer[:1] == STATUS and len(answer) > 1:
        return answer[1]
    sys.stderr.write("grantctl: the helper ended while the command ran; the broker ends the command\n")
    return UNREACHABLE


def _answer(helper: _socket.socket) -> bytes:
    answer = b""
    interrupted = False
    while len(answer) < len(STATUS) + 1:
        try:
            more = helper.recv(2 - len(answer))
        except KeyboardInterrupt:
            if interrupted:
                return STATUS + bytes([INTERRUPTED])
            interrupted = True
            helper.sendall(INTERRUPT)
            continue
        if not more:
            break
        answer += more
    return answer


def _speaks_utf8() -> bool:
    """The helper writes UTF-8 and reads words as UTF-8."""
    used = (sys.getfilesystemencoding(), getattr(sys.stdout, "encoding", ""), getattr(sys.stderr, "encoding", ""))
    return all((name or "").lower() == "utf-8" for name in used)


def _profile(chosen: str) -> str | None:
    """The directory of a profile, as grantd.profile.locate finds it; None for the spellings that it is left to."""
    if "/" in chosen:
        return chosen if chosen.startswith("/") else None
    if chosen in (".", ".."):
        return None
    home = os.environ.get("HOME", "")
    base = os.environ.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home.startswith("/") else "")
    return f"{base}/grantd/{chosen or 'default'}" if base.startswith("/") else None
