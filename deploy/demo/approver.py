"""The approver: the person at this terminal, or without one a script that types into a real terminal of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import pexpect
import pyte

from deploy.demo.stage import Stage

_SCREEN = (50, 120)
_WAIT_S = 30.0
_CODE = re.compile(r"then type ([a-z2-7]{6}) and Enter")
_PAUSE_S = 0.4


class Person:
    """Whoever sits at this terminal."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def decide(self, item: str, *, yes: bool) -> str:
        """Hands the terminal over; what the person does is theirs."""
        hint = "approve it" if yes else "press d to deny it, and say why"
        print(f"\n   Your turn: {hint}. (q leaves without a decision.)\n", flush=True)
        words = self._stage.ctl_words("approver", "approve", item, "--once")
        subprocess.run(words, check=False)  # noqa: S603  our own program
        return ""


class Script:
    """Types what a person would, key by key, into a real pseudo-terminal, and keeps what the screen said."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def decide(self, item: str, *, yes: bool) -> str:
        """Decides `item`; returns the card as it stood on the screen."""
        words = self._stage.ctl_words("approver", "approve", item, "--once")
        child = pexpect.spawn(words[0], words[1:], dimensions=_SCREEN, encoding="utf-8", timeout=30)
        try:
            card = self._card(child)
            self._type(child, self._keys(card, yes=yes))
            child.expect([": approved", ": denied", pexpect.EOF])
            return card
        finally:
            child.close(force=True)

    def _card(self, child: pexpect.spawn[str]) -> str:
        """The screen, as a person would see it, once the card stands there and the prompt listens."""
        screen = pyte.Screen(_SCREEN[1], _SCREEN[0])
        stream = pyte.Stream(screen)
        end = time.monotonic() + _WAIT_S
        while time.monotonic() < end:
            try:
                stream.feed(child.read_nonblocking(4096, timeout=0.5))
            except pexpect.TIMEOUT:
                card = "\n".join(line.rstrip() for line in screen.display if line.strip())
                if "and Enter" in card:
                    return card
        raise RuntimeError("the approver's prompt did not come")

    def _keys(self, card: str, *, yes: bool) -> list[str]:
        if not yes:
            return ["d", *"not on this host", "\r"]
        code = _CODE.search(card)
        return ["a", *code.group(1), "\r"] if code else ["y", "\r"]

    def _type(self, child: pexpect.spawn[str], keys: list[str]) -> None:
        """One key at a time: two in one read would count as pasted, and pasted text never approves."""
        for key in keys:
            time.sleep(_PAUSE_S)
            child.send(key)


def approver(stage: Stage) -> Person | Script:
    """A person where there is a terminal to sit at."""
    return Person(stage) if sys.stdin.isatty() and sys.stdout.isatty() else Script(stage)
