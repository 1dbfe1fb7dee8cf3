"""A program that a test types to while it runs."""

from __future__ import annotations

import subprocess
import threading
from typing import Self


class Typed:
    """A program whose stdin a test types and whose output it reads as it comes."""

    def __init__(self, words: list[str]) -> None:
        self.out = self.err = b""
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        self._threads = [threading.Thread(target=read, daemon=True) for read in (self._read_out, self._read_err)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join(5)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def type(self, data: bytes) -> None:
        """Bytes of stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def hang_up(self) -> None:
        """Ends it at once."""
        self._process.kill()

    def ended(self) -> bool:
        """Whether it ended by itself."""
        return self._process.poll() is not None

    def _read_out(self) -> None:
        assert self._process.stdout is not None
        while data := self._process.stdout.read(4096):
            self.out += data

    def _read_err(self) -> None:
        assert self._process.stderr is not None
        while data := self._process.stderr.read(4096):
            self.err += data
