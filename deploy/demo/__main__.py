"""The story, step by step. Exit status 0 only if every step showed what it is there to show."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from deploy.demo.approver import Script, approver
from deploy.demo.opening import Opening, Seen, played
from deploy.demo.stage import Spoken, Stage, finish

_TTL_S = 12
"""How long the lease lasts that ends in the middle of a command."""
_REFUSED, _EXPIRED, _SSH_FAILED = 4, 5, 255
"""Exit statuses: grantctl's for a no and for an end, ssh's own failure."""


class Story(Opening):
    """One telling."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._approver = approver(stage)
        self._grant = ""
        self._write_session = ""

    def steps(self) -> list[Callable[[], Seen]]:
        """As Opening."""
        return [
            self.starts, self.people, self.host, self.requests, self.reads, self.writes, self.installs, self.stock_ssh,
            self.direct, self.expires, self.replays, self.audit,
        ]  # fmt: skip

    # ---- the steps ---------------------------------------------------------------------------------------------------
    def requests(self) -> Seen:
        """The agent asks for access: policy gives agents of the host's team a lease.

        Commands are decided one by one.
        """
        asked = self._request("10m", "look after the web server")
        self._grant = asked.json()[0].get("grant_id", "") if asked.status == 0 else ""
        return self._row("access requested", f"lease {self._grant}", bool(self._grant))

    def reads(self) -> Seen:
        """A read runs without asking anybody."""
        ran = self._show(
            "grantctl run web1 -- 'uname -a'", self._stage.ctl("builder", "run", self._grant, "--", "uname -a")
        )
        return self._row("read", "ran at once, nobody was asked", ran.status == 0 and "Linux" in ran.out)

    def writes(self) -> Seen:
        """A write asks: the approver sees the exact bytes and signs them with their own key."""
        path = self._stage.folder / "made by the agent"
        command = f"touch '{path}'"
        card, ran = self._asked(command, yes=True)
        sessions = self._stage.ctl("owner", "sessions", "list", "-o", "json").json()
        self._write_session = next((s["id"] for s in sessions if s.get("command") and "action_id" in s), "")
        exact = isinstance(self._approver, Script) and command in card
        shown = exact or not isinstance(self._approver, Script)
        return self._row(
            "write", "asked; the exact bytes were shown; approved; ran", ran.status == 0 and path.exists() and shown
        )

    def installs(self) -> Seen:
        """An install asks, the approver says no, and the agent is told why."""
        _, ran = self._asked("apt-get install -y nginx", yes=False)
        told = ran.err.strip().rpartition(": ")[2]
        return self._row("install", f"denied; the agent was told: {told}", ran.status == _REFUSED)

    def stock_ssh(self) -> Seen:
        """A stock ssh client goes through the gateway, through the same gate."""
        if shutil.which("ssh") is None:
            return self._row("stock ssh", "this machine has no ssh client: step left out", True)  # noqa: FBT003  a row's verdict
        ran = self._ssh([f"{self._login}+web1@127.0.0.1", "uname -s"])
        shell = self._ssh([f"{self._login}+web1@127.0.0.1"])
        refused = shell.status != 0 and "shell request failed" in shell.err
        return self._row("stock ssh", "exec ran; a shell was refused", ran.out.strip() == "Linux" and refused)

    def direct(self) -> Seen:
        """What the agent holds is useless at the host itself: tried directly, its sshd refuses."""
        if shutil.which("ssh") is None:
            return self._row("agent's credential at the host", "this machine has no ssh client: step left out", True)  # noqa: FBT003
        tried = self._ssh(
            [
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
                f"{self._login}@127.0.0.1",
                "true",
            ],
            port=self._port,
        )
        return self._row(
            "agent's credential at the host", "refused by the host's own sshd", tried.status == _SSH_FAILED
        )

    def expires(self) -> Seen:
        """A lease ends in the middle of a command: it is cut, on the host too."""
        short = self._request(f"{_TTL_S}s", "follow a log for a moment").json()[0]["grant_id"]
        log = self._stage.folder / "a log to follow"
        log.write_text("first line\n")
        words = f"tail -f '{log}'"
        shown = f"grantctl run {short} -- {words!r}   (the lease lasts {_TTL_S} s)"
        ran = self._show(shown, self._stage.ctl("builder", "run", short, "--", words))
        late = self._lateness(short)
        gone = not _still_runs(str(log))
        where = "gone" if gone else "STILL THERE"
        print(f"   the session closed {late:.3f} s after the end; the process on the host is {where}")
        cut = ran.status == _EXPIRED and gone and late <= 1.0
        return self._row("expiry", f"cut {late:.3f} s after the end, the process on the host too", cut)

    def _lateness(self, grant: str) -> float:
        """Seconds from a lease's end to the end of its session, both as the broker wrote them down."""
        lease = self._stage.ctl("builder", "grants", "show", grant, "-o", "json").json()[0]
        sessions = self._stage.ctl("owner", "sessions", "list", "-o", "json").json()
        closed = next(session["closed_at"] for session in sessions if session["grant_id"] == grant)
        return (_moment(closed) - _moment(lease["not_after"])).total_seconds()

    def replays(self) -> Seen:
        """The owner replays the recording of the write; the sealed file verifies without any key."""
        stage, session, file = self._stage, self._write_session, self._stage.folder / "write.grec"
        why = ["--reason", "demonstration"]
        played = self._show("grantctl sessions play SESSION", stage.ctl("owner", "sessions", "play", session, *why))
        fetch = ["sessions", "fetch", session, *why, "--out", str(file)]
        self._show("grantctl sessions fetch SESSION --out write.grec", stage.ctl("owner", *fetch))
        checked = self._show("grantd verify write.grec", stage.grantd("verify", str(file)))
        good = played.status == checked.status == 0 and "touch" in played.out
        return self._row("recording", "replayed; the sealed file verified without a key", good)

    def audit(self) -> Seen:
        """The audit log leaves as a bundle that a stranger can check offline, without asking anybody."""
        stage, bundle = self._stage, self._stage.folder / "bundle"
        stage.ctl("owner", "audit", "export", str(bundle), "--recordings", "--reason", "demonstration")
        checked = self._show("grantd verify bundle", stage.grantd("verify", str(bundle)))
        size = re.search(r"size (\d+)", checked.out)
        return self._row(
            "audit", f"{size.group(1) if size else 0} entries verified offline", checked.status == 0 and bool(size)
        )

    # ---- what steps share --------------------------------------------------------------------------------------------
    def _request(self, ttl: str, reason: str) -> Spoken:
        words = ["request", "web1", self._login, "--ceiling", "install", "--ttl", ttl, "--reason", reason, "-o", "json"]
        asked = self._stage.ctl("builder", *words)
        plain = Spoken(
            status=asked.status,
            out=f"grant {asked.json()[0].get('grant_id', '-')}" if asked.json() else "",
            err=asked.err,
        )
        self._show(f"grantctl request web1 {self._login} --ceiling install --ttl {ttl} --reason '{reason}'", plain)
        return asked

    def _asked(self, command: str, *, yes: bool) -> tuple[str, Spoken]:
        """Runs a command that waits for a person, and has it decided."""
        print(f"   $ grantctl run web1 -- {command!r} &", flush=True)
        waiting = self._stage.behind("builder", "run", self._grant, "--reason", "keep the site up", "--", command)
        item = self._pending()
        card = self._approver.decide(item, yes=yes)
        if card:
            print("\n".join(f"   | {line}" for line in card.splitlines() if line.strip()))
        out, err = waiting.communicate(timeout=120)
        ran = Spoken(status=waiting.returncode, out=out, err=err)
        self._show("(the agent's command)", ran)
        return card, ran

    def _pending(self) -> str:
        for _ in range(100):
            found = self._stage.ctl("approver", "approve", "-o", "json").json()
            if found:
                return str(found[0]["id"])
            time.sleep(0.2)
        raise RuntimeError("nothing waits for the approver")

    def _ssh(self, words: list[str], *, port: int | None = None) -> Spoken:
        folder = self._stage.profile("builder") / "ssh" / self._grant
        if not folder.exists():
            self._show(f"grantctl ssh-cert {self._grant}", self._stage.ctl("builder", "ssh-cert", self._grant))
        key = folder / "id_ed25519"
        options = ["-o", "IdentitiesOnly=yes", "-o", f"CertificateFile={key}-cert.pub", "-o", "BatchMode=yes"]
        known = (
            [] if port else ["-o", f"UserKnownHostsFile={folder / 'known_hosts'}", "-o", "StrictHostKeyChecking=yes"]
        )
        gateway = port or self._stage.ports[2]
        return self._show(
            f"ssh -p {gateway} {' '.join(words)}",
            finish(["ssh", "-p", str(gateway), "-i", str(key), *options, *known, *words]),
        )


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _still_runs(marker: str) -> bool:
    """Whether a process of this machine still has `marker` in its words."""
    for words in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = words.read_bytes()
        except OSError:
            continue
        if marker.encode() in text and b"tail" in text.split(b"\0")[0]:
            return True
    return False


if __name__ == "__main__":
    sys.exit(played(Story))
