"""The gated shell as a person sees it, in real terminals: `python -m deploy.demo.shell` prints every screen.

Two panes of tmux: an agent's `grantctl ssh` on the left, the approver's `grantctl approve` on the right.
"""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from deploy.demo.opening import Opening, Seen, played
from deploy.demo.screens import Pane, Tmux
from deploy.demo.stage import Stage

_WIDE, _HIGH = 200, 40
_CODE = re.compile(r"type ([a-z2-7]{6}) and Enter")
_IDS = re.compile(r"^ ?(action|request) +([a-z]{2}_[a-z2-7]{26})", re.MULTILINE)
_SETTLED_S = 1.0
"""Longer than the approver's prompt lets a screen stand before it takes keys."""
_KEY_S = 0.1
_SHORT_S = 80
"""How long the access lasts whose end is looked at: both warnings come before it."""


class ShellStory(Opening):
    """One hour at the prompt in two minutes."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        program = shutil.which("tmux")
        if program is None or shutil.which("ssh") is None:
            raise RuntimeError("this needs tmux and OpenSSH's client on this machine")
        self._tmux = Tmux(program, stage.folder)
        self._site = stage.folder / "site"
        self._person: Pane
        self._approver: Pane
        self._brief: Pane
        self._session = ""

    def steps(self) -> list[Callable[[], Seen]]:
        """As Opening."""
        return [
            self.starts, self.people, self.host, self.opens, self.reads, self.writes, self.moves, self.edits,
            self.installs, self.searches, self.leaves, self.expires, self.replays, self.exports, self.finds,
        ]  # fmt: skip

    def close(self) -> None:
        """As Opening."""
        self._tmux.close()
        super().close()

    # ---- the steps ---------------------------------------------------------------------------------------------------
    def opens(self) -> Seen:
        """A prompt is asked for, like any access; the approver sees what it is and signs."""
        self._site.mkdir()
        (self._site / "index.html").write_text("<h1>It works</h1>\n")
        self._second_agent()
        self._brief = self._tmux.window(self._ssh("nightly", f"{_SHORT_S}s", "look at the queue"), columns=100, rows=20)
        self._brief.until("waits for an approver")
        self._approver = self._tmux.window(self._stage.ctl_words("approver", "approve"), columns=_WIDE, rows=_HIGH)
        self._person = self._tmux.before(self._approver, self._ssh("builder", "20m", "the site is down"))
        self._person.until("waits for an approver")
        self._decide("shell")
        self._brief.until("$")
        self._brief.type("echo half a li")
        self._decide("shell")
        self._show_screen("the prompt", self._person.until("each line is decided", "~ $"))
        return self._row("a prompt", "asked for, approved with a typed code, open", True)  # noqa: FBT003  until raises

    def reads(self) -> Seen:
        """A read runs at once; its class stands behind it while it is typed."""
        self._person.type("uname -sr")
        self._show_screen("typed, before Enter", self._person.until("uname -sr  read"))
        self._person.press("Enter")
        screen = self._person.until("Linux ")
        self._show_screen("run", screen)
        return self._row("read", "ran at once, nobody was asked", "waiting" not in screen)

    def writes(self) -> Seen:
        """A write waits in place; a person approves it beside, and it runs."""
        self._line(f"touch {self._site}/maintenance")
        self._person.until("waiting for a person to allow this")
        self._show_screen("waiting", self._both("type y and Enter"))
        early = (self._site / "maintenance").exists()
        self._decide("touch")
        self._show_screen("allowed", self._person.until("grantd: allowed"))
        self._prompt()
        return self._row(
            "write", "waited; ran once it was allowed", not early and (self._site / "maintenance").exists()
        )

    def moves(self) -> Seen:
        """`cd` stays; a relative path is read from there."""
        self._line(f"cd {self._site}")
        self._prompt()
        self._line("cat index.html")
        screen = self._person.until("It works")
        self._show_screen("in the folder", screen)
        return self._row("cd and a relative path", "the file of that folder was read", True)  # noqa: FBT003  until raises

    def edits(self) -> Seen:
        """`vim` has the whole terminal and the keyboard, once a person allowed it; then the prompt is back."""
        if shutil.which("vim") is None:
            return self._row("vim", "this machine has no vim: step left out", True)  # noqa: FBT003  a row's verdict
        self._line("vim index.html")
        self._show_screen("a keyboard goes with it", self._both("vim index.html", "and Enter"))
        self._decide("vim")
        self._show_screen("in vim", self._person.until("index.html", "~", "1,1"))
        for key in ("Escape", ":", "q", "!", "Enter"):
            self._person.press(key)
        screen = self._prompt()
        self._show_screen("and back", screen)
        return self._row("vim and back", "asked, drawn, left; the prompt is where it was", "It works" in screen)

    def installs(self) -> Seen:
        """An install is above what was granted: denied, with the reason, and nothing ran."""
        self._line("apt-get install -y nginx")
        screen = self._person.until("policy does not allow this")
        self._prompt()
        self._show_screen("denied", screen)
        return self._row("install", "denied by policy, in words", "[126]" in self._person.screen())

    def searches(self) -> Seen:
        """What a hand does all day: a paste of ten lines, Ctrl-R, Tab, a smaller window."""
        self._person.paste("".join(f"echo {number}\n" for number in range(1, 11)))
        pasted = self._person.until("echo 10")
        self._show_screen("ten lines pasted: nothing ran", pasted)
        self._person.press("C-c")
        self._prompt()
        self._person.press("C-r")
        self._person.type("cat")
        self._show_screen("Ctrl-R", self._person.until("search cat: cat index.html"))
        self._person.press("C-c")
        self._person.press("C-u")
        self._person.type("cat ind")
        self._person.press("Tab")
        self._show_screen("Tab", self._person.until("cat index.html "))
        self._person.press("C-u")
        self._line("touch second")
        self._person.until("waiting for a person")
        self._person.resize(81, _HIGH)
        narrow = self._person.until("waiting for a person")
        self._show_screen("half as wide, while a person is waited for", narrow)
        self._person.press("C-c")
        taken = self._person.until("taken back")
        self._person.resize(_WIDE, _HIGH)
        self._prompt()
        nothing = not (self._site / "second").exists()
        return self._row("daily keys", "paste, search, completion, resize, taking back", nothing and "taken" in taken)

    def leaves(self) -> Seen:
        """`exit`."""
        self._line("exit")
        status = self._person.ended()
        self._show_screen(f"left, exit status {status}", self._person.screen())
        listed = self._stage.ctl("owner", "sessions", "list", "-o", "json").json()
        self._session = next(each["id"] for each in reversed(listed) if each["kind"] == "shell" and self._is_main(each))
        return self._row("leaving", f"session {self._session}", bool(self._session))

    def expires(self) -> Seen:
        """The other access was short: warnings a minute and ten seconds before, the reason at the end."""
        status = self._brief.ended(_SHORT_S + 30)
        screen = self._brief.screen()
        self._show_screen(f"the end of a short access, exit status {status}", screen)
        warned = "access ends in 60 s" in screen and "access ends in 10 s" in screen
        return self._row("expiry", "two warnings, then the reason", warned and "ended: expired" in screen)

    def replays(self) -> Seen:
        """The recording in a terminal: play, step to decisions, search, leave."""
        words = self._stage.ctl_words("owner", "sessions", "play", self._session, "--reason", "demonstration")
        player = self._tmux.window(words, columns=110, rows=30)
        player.until("1x")
        player.press("n", "n", "Space")
        self._show_screen("at a decision", player.until("paused"))
        player.press("/")
        player.type("works")
        player.press("Enter")
        self._show_screen("a word that was looked for", player.until("found: works"))
        player.press("q")
        return self._row("replay", "played, stepped, searched", player.ended() == 0)

    def exports(self) -> Seen:
        """The recording as files for other programs: asciicast 2 and 3, one HTML page, text."""
        forms = {"v2.cast": ("--cast", "v2"), "v3.cast": ("--cast", "v3"), "html": ("--html",), "txt": ("--text",)}
        found = []
        for ending, how in forms.items():
            path = self._stage.folder / f"session.{ending}"
            words = ["sessions", "export", self._session, *how, "--reason", "demonstration", "--out", str(path)]
            self._show(f"grantctl sessions export SESSION {' '.join(how)}", self._stage.ctl("owner", *words))
            text = path.read_text()
            print(f"     {path.name}: {len(text)} characters")
            found.append("It works" in text or ending == "html")
        for row in _shown(self._stage.folder / "session.txt", "works"):
            print(f"     {row}")
        return self._row("exports", "four forms, and what was read stands in them", all(found))

    def finds(self) -> Seen:
        """A word in all recordings."""
        told = self._show(
            "grantctl sessions grep works --reason demonstration",
            self._stage.ctl("owner", "sessions", "grep", "works", "--reason", "demonstration"),
        )
        return self._row("grep", "found where it was shown", told.status == 0 and "It works" in told.out)

    # ---- hands -------------------------------------------------------------------------------------------------------
    def _second_agent(self) -> None:
        stage = self._stage
        join = str(stage.folder / "nightly.join")
        stage.ctl("owner", "agent", "add", "nightly", "--team", "web", "--out", join)
        stage.ctl("nightly", "login", "--join", join)

    def _ssh(self, who: str, ttl: str, reason: str) -> list[str]:
        asked = ["--ceiling", "execute", "--ttl", ttl, "--reason", reason]
        return self._stage.ctl_words(who, "ssh", f"{self._login}@web1", *asked)

    def _line(self, text: str) -> None:
        self._prompt()
        self._person.type(text)
        self._person.press("Enter")

    def _prompt(self) -> str:
        """The screen once the prompt stands there, with nothing typed."""
        while True:
            screen = self._person.until("$")
            if screen.rstrip().endswith("$") or _last(screen).endswith("$"):
                return screen
            time.sleep(0.1)

    def _both(self, *texts: str) -> str:
        self._approver.until(*texts)
        return self._person.until("waiting for a person")

    def _decide(self, text: str) -> None:
        """Reads the card that holds the text, and approves as its foot says."""
        self._approver.until(text, "and Enter")
        time.sleep(_SETTLED_S)
        card = _card(self._approver.screen())
        code = _CODE.search(card.replace("\n", " "))
        for key in ("a", *code.group(1)) if code else ("y",):
            self._approver.type(key)
            time.sleep(_KEY_S)
        self._show_screen("the approver", card)
        self._approver.press("Enter")
        self._approver.until(f"{_item(card)}: approved")

    def _is_main(self, session: dict[str, object]) -> bool:
        return session.get("identity_name") == "builder"

    def _show_screen(self, caption: str, screen: str) -> None:
        rows = screen.split("\n")
        width = max([*map(len, rows), len(caption) + 4])
        print(f"   +- {caption} {'-' * (width - len(caption) - 1)}+")
        for row in rows:
            print(f"   | {row.ljust(width)} |")
        print(f"   +{'-' * (width + 2)}+", flush=True)


def _card(screen: str) -> str:
    """The question that stands last on the approver's screen."""
    before, head, rest = screen.rpartition("\u2500\u2500 ")
    return f"{head}{rest}" if before else screen


def _item(card: str) -> str:
    """The id of what a card asks about."""
    named: dict[str, str] = dict(_IDS.findall(card))
    return named.get("action") or named["request"]


def _last(screen: str) -> str:
    return next((row.rstrip() for row in reversed(screen.split("\n")) if row.strip()), "")


def _shown(path: Path, word: str) -> list[str]:
    return [row for row in path.read_text().splitlines() if word in row]


if __name__ == "__main__":
    sys.exit(played(ShellStory))
