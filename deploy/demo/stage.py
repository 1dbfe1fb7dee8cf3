"""The stage: temporary folder, free ports, the broker as a process, grantctl as two people and an agent use it."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
_WAIT_S = 120.0
_PORTS = range(20_000, 32_000)


@dataclass(slots=True, kw_only=True)
class Spoken:
    """One finished command."""

    status: int
    out: str
    err: str

    def json(self) -> list[dict[str, Any]]:
        """Its standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]


@dataclass(slots=True, kw_only=True)
class Stage:
    """What the story plays on. Everything lives under `folder`; `close` ends every process that it started."""

    folder: Path
    ports: list[int]
    broker: subprocess.Popen[bytes] | None = None
    started: list[subprocess.Popen[Any]] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.folder / "grantd.toml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def profile(self, who: str) -> Path:
        """Where somebody's profile lies; the owner's is made by init."""
        return self.data / "owner" if who == "owner" else self.folder / who

    def grantd(self, *words: str) -> Spoken:
        """Runs a command of the daemon."""
        return finish([str(BIN / "grantd"), *words])

    def ctl(self, who: str, *words: str, stdin: str | None = None) -> Spoken:
        """Runs grantctl as somebody."""
        return finish(self.ctl_words(who, *words), stdin=stdin)

    def ctl_words(self, who: str, *words: str) -> list[str]:
        """The words of a grantctl command, for those who run it themselves."""
        return [str(BIN / "grantctl"), "--profile", str(self.profile(who)), *words]

    def behind(self, who: str, *words: str) -> subprocess.Popen[str]:
        """Starts grantctl as somebody, without waiting for it."""
        process = subprocess.Popen(  # noqa: S603  our own program
            self.ctl_words(who, *words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def serve(self) -> None:
        """Starts the broker and waits until its doors are open."""
        log = self.folder / "broker.log"
        words = [str(BIN / "grantd"), "serve", "--config", str(self.config)]
        with log.open("ab") as out:
            self.broker = subprocess.Popen(  # noqa: S603  our own program
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
        self.started.append(self.broker)
        end = time.monotonic() + _WAIT_S
        while b'"broker.started"' not in log.read_bytes():
            if self.broker.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the broker did not start: see {log}")
            time.sleep(0.05)

    def close(self) -> None:
        """Ends what was started, youngest first."""
        for process in reversed(self.started):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in reversed(self.started):
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_ports(base_count: int) -> list[int]:
    """That many consecutive free ports on loopback, and one more for the target.

    Below those that the kernel hands out: until they are used, another client on this machine would be given one.
    """
    while True:
        base = secrets.choice(_PORTS)
        wanted = list(range(base, base + base_count + 1))
        if all(_is_free(port) for port in wanted):
            return wanted


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def finish(words: list[str], *, stdin: str | None = None) -> Spoken:
    """Runs a program to its end, without colours."""
    done = subprocess.run(  # noqa: S603  our own programs
        words,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    return Spoken(status=done.returncode, out=done.stdout, err=done.stderr)
