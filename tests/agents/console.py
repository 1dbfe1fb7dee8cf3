"""A real terminal for a real program: a pty whose screen pyte draws, and whose keys are written with their pauses.

No test of the prompt simulates the kernel's line discipline: type-ahead, raw mode and hang-up are the real ones.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import pyte

from tests.pace import Since

GRANTCTL = str(Path(sys.executable).with_name("grantctl"))
HAND_SECONDS = 0.03
READING_SECONDS = 0.8
"""Longer than the prompt lets a screen settle."""
Ran = subprocess.CompletedProcess[bytes]


def grantctl(where: Path, *words: str, stdin: bytes = b"", cwd: Path | None = None) -> Ran:
    """Run it without a terminal."""
    command = [GRANTCTL, "--profile", str(where), *words]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=30, cwd=cwd)


class Console:
    """A program on a terminal of its own, as session leader with that controlling terminal."""

    def __init__(self, command: list[str], *, env: Mapping[str, str], columns: int = 100, rows: int = 60) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=5000)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self._master, slave = pty.openpty()
        self.resize(columns, rows, tell=False)
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1", **env},
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self._master)

    def resize(self, columns: int, rows: int, *, tell: bool = True) -> None:
        """Give the terminal another size; the kernel sends SIGWINCH."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if tell:
            self.screen.resize(rows, columns)

    def write(self, data: bytes) -> None:
        """In one piece, as a paste arrives."""
        os.write(self._master, data)

    def type(self, text: str) -> None:
        """As a hand does, after having read."""
        time.sleep(READING_SECONDS)
        self.read(0)
        for character in text:
            self.write(character.encode())
            time.sleep(HAND_SECONDS)
            self.read(0)

    def read(self, seconds: float) -> None:
        """Take in what the program writes for that long, or until it is gone."""
        deadline = time.monotonic() + seconds
        while select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return
            self.raw += data
            self._stream.feed(data)

    def expect(self, text: str, seconds: float = 10.0) -> None:
        """Until the text stands on the screen or above it."""
        since = Since()
        while text not in self.text():
            assert since.s() < seconds, f"{text!r} did not appear:\n{self.text()}"
            self.read(0.05)

    def text(self) -> str:
        """The scrollback and the screen."""
        above = ["".join(row[column].data for column in sorted(row)).rstrip() for row in self.screen.history.top]
        return "\n".join([*above, *(line.rstrip() for line in self.screen.display)])

    def wait(self, seconds: float = 10.0) -> int:
        """The exit code."""
        since = Since()
        while self.process.poll() is None and since.s() < seconds:
            self.read(0.05)
        self.read(0.05)
        return self.process.wait(1)

    def hang_up(self) -> None:
        """The window is closed: the kernel sends SIGHUP."""
        os.close(self._master)

    def is_raw(self) -> bool:
        """Whether the terminal's modes are those of the prompt."""
        return not termios.tcgetattr(self._master)[3] & termios.ICANON

    def signal(self, number: signal.Signals) -> None:
        """To the program itself."""
        self.process.send_signal(number)


@contextlib.contextmanager
def on_terminal(profile: Path, *arguments: str, columns: int = 100, rows: int = 60) -> Iterator[Console]:
    """grantctl with a profile, on a terminal."""
    command = [GRANTCTL, "--profile", str(profile), *arguments]
    with Console(command, env={"NO_COLOR": ""}, columns=columns, rows=rows) as console:
        yield console
