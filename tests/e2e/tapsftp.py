"""What went through an SFTP server, read from its two streams alone: version 3 of the protocol, nothing of grantd's.

draft-ietf-secsh-filexfer-02; OpenSSH's extensions carry a path or a handle first, and are told by their names.
"""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

_WORDS: Final = {
    3: "open", 4: "close", 5: "read", 6: "write", 7: "lstat", 8: "fstat", 9: "setstat", 10: "fsetstat", 11: "opendir",
    12: "readdir", 13: "remove", 14: "mkdir", 15: "rmdir", 16: "realpath", 17: "stat", 18: "rename", 19: "readlink",
    20: "symlink",
}  # fmt: skip
_BY_HANDLE: Final = frozenset({"close", "read", "write", "fstat", "fsetstat", "readdir", "fsync", "fstatvfs"})
_PATHLESS: Final = frozenset({"limits", "users-groups-by-id", "home-directory"})
_TWO_PATHS: Final = frozenset({"rename", "symlink", "posix-rename", "hardlink"})
_RESULTS: Final = {
    0: "ok", 1: "eof", 2: "no_such_file", 3: "permission_denied", 4: "failure", 5: "bad_message", 8: "op_unsupported",
}  # fmt: skip
_INIT, _VERSION, _EXTENDED, _STATUS, _HANDLE, _DATA, _NAME = 1, 2, 200, 101, 102, 103, 104


@dataclass(slots=True)
class _File:
    path: str
    folder: bool = False
    writes: bool = False
    entries: int = 0
    got: bytes = b""
    put: bytes = b""


@dataclass(slots=True)
class Server:
    """What a server was asked and answered, as notes: word, paths, result, and of a file its bytes and SHA-256."""

    notes: list[dict[str, Any]] = field(default_factory=list)
    _files: dict[bytes, _File] = field(default_factory=dict)

    @classmethod
    def read(cls, asked: bytes, answered: bytes) -> Server:
        """Both streams, from their first byte to their last."""
        server = cls()
        requests: dict[int, deque[tuple[int, bytes]]] = defaultdict(deque)
        for kind, number, body in _packets(asked):
            if kind != _INIT:
                requests[number].append((kind, body))  # a client may use a number again once it was answered
        for kind, number, body in _packets(answered):
            if kind != _VERSION:  # the server's version answers nothing
                server._answered(*requests[number].popleft(), kind, body)
        return server

    def _answered(self, kind: int, body: bytes, answer: int, said: bytes) -> None:
        word, body = _named(kind, body)
        result = _RESULTS[struct.unpack(">I", said[:4])[0]] if answer == _STATUS else "ok"
        first, rest = _string(body) if word not in _PATHLESS else (b"", b"")
        file = self._files.get(first) if word in _BY_HANDLE else None
        if file is not None and word in ("read", "write", "readdir", "close"):
            self._moved(word, first, file, rest, answer, said)
            return
        path = file.path if file is not None else first.decode()
        note: dict[str, Any] = {"op": word, "result": result} | ({"path": path} if path else {})
        if word in _TWO_PATHS:
            # OpenSSH's server reads a link's target first
            one, two = (first, _string(rest)[0]) if word != "symlink" else (_string(rest)[0], first)
            note |= {"path": one.decode(), "to": two.decode()}
        self.notes.append(note)
        if answer == _HANDLE:
            flags = struct.unpack(">I", rest[:4])[0] if word == "open" else 0
            self._files[_string(said)[0]] = _File(path=path, folder=word == "opendir", writes=bool(flags & 2))

    def _moved(self, word: str, handle: bytes, file: _File, rest: bytes, answer: int, said: bytes) -> None:
        if word == "read" and answer == _DATA:
            assert struct.unpack(">Q", rest[:8])[0] == len(file.got), "in order"
            file.got += _string(said)[0]
        elif word == "write":
            assert struct.unpack(">Q", rest[:8])[0] == len(file.put), "in order"
            file.put += _string(rest[8:])[0]
        elif word == "readdir" and answer == _NAME:
            file.entries += struct.unpack(">I", said[:4])[0]
        elif word == "close":
            self.notes.append(_end_of(self._files.pop(handle)))


def _end_of(file: _File) -> dict[str, Any]:
    if file.folder:
        return {"op": "list", "path": file.path, "result": "ok", "entries": file.entries}
    data = file.put if file.writes else file.got
    told = {"path": file.path, "result": "ok", "len": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return {"op": "put" if file.writes else "get"} | told


def _named(kind: int, body: bytes) -> tuple[str, bytes]:
    if kind != _EXTENDED:
        return _WORDS[kind], body
    name, rest = _string(body)
    return name.decode().partition("@")[0], rest


def _string(data: bytes) -> tuple[bytes, bytes]:
    length = int.from_bytes(data[:4], "big")
    return data[4 : 4 + length], data[4 + length :]


def _packets(stream: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(type, request's number, the rest) of every packet; each whole, and nothing behind the last."""
    at = 0
    while at < len(stream):
        length = int.from_bytes(stream[at : at + 4], "big")
        packet = stream[at + 4 : at + 4 + length]
        assert len(packet) == length, "cut off"
        yield packet[0], int.from_bytes(packet[1:5], "big"), packet[5:]
        at += 4 + length
