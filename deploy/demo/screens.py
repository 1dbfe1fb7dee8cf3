"""Real terminals in tmux: programs in panes, keys as a hand types them, and what stands on the screen."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_WAIT_S = 60.0
"""A patient limit: what is waited for comes in a moment, on a busy machine in several."""
_KEY_S = 0.03
_LOOK_S = 0.1
_OPTIONS = (
    ("-g", "remain-on-exit", "on"),
    ("-g", "remain-on-exit-format", ""),
    ("-s", "escape-time", "0"),
)  # fmt: skip


class NotShown(RuntimeError):
    """What was waited for did not come; the message holds the screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pane:
    """One program on a terminal of its own, or what it left there."""

    tmux: Tmux
    name: str
    status: Path
    """Where its exit status will stand: tmux itself loses one now and then."""

    def screen(self) -> str:
        """What is to be seen, without blanks at the ends of rows and without empty rows below."""
        rows = self.tmux.say("capture-pane", "-p", "-t", self.name).split("\n")
        return "\n".join(row.rstrip() for row in rows).rstrip()

    def ended(self, seconds: float = _WAIT_S) -> int:
        """The exit status, once the program is over."""
        self.until_it(lambda _: self.status.exists() and bool(self.status.read_text()), seconds=seconds)
        return int(self.status.read_text())

    def until(self, *texts: str, seconds: float = _WAIT_S) -> str:
        """The screen as soon as all of these stand on it. A text that a narrow screen broke in two counts too."""

        def shown(screen: str) -> bool:
            return all(text in screen or text in screen.replace("\n", "") for text in texts)

        return self.until_it(shown, seconds=seconds)

    def until_it(self, holds: Callable[[str], bool], *, seconds: float = _WAIT_S) -> str:
        """The screen as soon as it is as wanted. Raises NotShown, with the screen as it is instead."""
        end = time.monotonic() + seconds
        while not holds(screen := self.screen()):
            if time.monotonic() > end:
                raise NotShown(f"not what was waited for:\n{screen}")
            time.sleep(_LOOK_S)
        return screen

    def type(self, text: str) -> None:
        """Characters, one at a time."""
        for character in text:
            self.tmux.say("send-keys", "-t", self.name, "-l", character)
            time.sleep(_KEY_S)

    def press(self, *keys: str) -> None:
        """Keys by tmux's names: Enter, Tab, C-r, Escape."""
        for key in keys:
            self.tmux.say("send-keys", "-t", self.name, key)
            time.sleep(_KEY_S)

    def paste(self, text: str) -> None:
        """As a terminal pastes: bracketed where the program asked for that."""
        self.tmux.say("set-buffer", "--", text)
        self.tmux.say("paste-buffer", "-p", "-r", "-t", self.name)

    def resize(self, columns: int, rows: int) -> None:
        """Another size of its window."""
        self.tmux.say("resize-window", "-t", self.name, "-x", str(columns), "-y", str(rows))

    def close(self) -> None:
        """Hangs up."""
        self.tmux.say("kill-pane", "-t", self.name)


class Tmux:
    """A server of its own, on a socket in `folder`; nothing of this machine's own set-up. Ends with `close`."""

    def __init__(self, program: str, folder: Path) -> None:
        self._words = [program, "-S", str(folder / "tmux"), "-f", "/dev/null"]
        self._folder, self._panes, self._begun = folder, 0, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def window(self, words: Sequence[str], *, columns: int, rows: int, **environment: str) -> Pane:
        """A program in a window of its own, which stays when the program has ended."""
        if not self._begun:
            self._begin()
        sets = [word for name, value in environment.items() for word in ("-e", f"{name}={value}")]
        return self._pane(words, "new-session", "-x", str(columns), "-y", str(rows), *sets)

    def before(self, pane: Pane, words: Sequence[str]) -> Pane:
        """A second program to the left of another."""
        return self._pane(words, "split-window", "-h", "-b", "-t", pane.name)

    def _pane(self, words: Sequence[str], *how: str) -> Pane:
        self._panes += 1
        status = self._folder / f"tmux-{self._panes}.status"
        line = f"{shlex.join(words)}; echo $? > {shlex.quote(str(status))}"
        name = self.say(*how, "-d", "-P", "-F", "#{pane_id}", line).strip()
        return Pane(tmux=self, name=name, status=status)

    def _begin(self) -> None:
        self._begun = True
        self.say("new-session", "-d", "exec sleep infinity")  # so that options are set before anything can end
        for words in _OPTIONS:
            self.say("set-option", *words)

    def say(self, *words: str) -> str:
        """One command of tmux."""
        done = subprocess.run(  # noqa: S603  a program found on this machine
            [*self._words, *words],
            check=True, capture_output=True, text=True, timeout=30,
            env={**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"},
        )  # fmt: skip
        return done.stdout

    def close(self) -> None:
        """Ends the server and everything on it."""
        if self._begun:
            with contextlib.suppress(subprocess.CalledProcessError):
                self.say("kill-server")
