"""The story, step by step. Exit status 0 only if every step showed what it is there to show."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from deploy.demo import target
from deploy.demo.approver import Script, approver
from deploy.demo.stage import Spoken, Stage, finish, free_ports

_RULE = "-" * 100
_TTL_S = 12
"""How long the lease lasts that ends in the middle of a command."""
_REFUSED, _EXPIRED, _SSH_FAILED = 4, 5, 255
"""Exit statuses: grantctl's for a no and for an end, ssh's own failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One row of the table at the end."""

    step: str
    seen: str
    ok: bool


class Story:
    """One telling. Each step does something with the product's own programs and says what came of it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._login = getpass.getuser()
        self._approver = approver(stage)
        self._rows: list[Seen] = []
        self._host: target.Host
        self._grant = ""
        self._write_session = ""

    def tell(self) -> list[Seen]:
        """All of it, in order; stops at the first step that cannot be done at all."""
        for number, step in enumerate(self._steps(), 1):
            print(f"\n{_RULE}\n{number}. {step.__doc__}\n", flush=True)
            row = step()
            self._rows.append(row)
            print(f"\n   {'ok  ' if row.ok else 'NOT '} {row.seen}", flush=True)
        return self._rows

    def _steps(self) -> list[Callable[[], Seen]]:
        return [
            self.starts, self.people, self.host, self.requests, self.reads, self.writes, self.installs, self.stock_ssh,
            self.direct, self.expires, self.replays, self.audit,
        ]  # fmt: skip

    # ---- the steps ---------------------------------------------------------------------------------------------------
    def starts(self) -> Seen:
        """A broker from nothing: keys, database, the first Owner, and a signer process that alone holds the CA keys."""
        stage = self._stage
        base = ["init", "--config", str(stage.config), "--data", str(stage.data), "--base-port", str(stage.ports[0])]
        self._show("grantd init", stage.grantd(*base))
        stage.serve()
        print("   $ grantd serve &")
        who = self._show("grantctl whoami", stage.ctl("owner", "whoami"))
        return self._row(
            "broker, signer and first owner", "the owner is signed in by client certificate", who.status == 0
        )

    def people(self) -> Seen:
        """Two people and an agent: the owner adds a team, an approver with a key of their own, and an agent."""
        stage = self._stage
        self._show("grantctl team add web", stage.ctl("owner", "team", "add", "web"))
        key = _approval_key(stage.folder / "approver_key")
        words = ["person", "add", "approver", "--role", "manager", "--team", "web", "--approval-key", f"{key}.pub"]
        self._show(
            "grantctl person add approver --role manager --team web --approval-key KEY.pub",
            stage.ctl("owner", *words, "--out", str(stage.folder / "approver.join")),
        )
        agent_join = str(stage.folder / "builder.join")
        self._show(
            "grantctl agent add builder --team web",
            stage.ctl("owner", "agent", "add", "builder", "--team", "web", "--out", agent_join),
        )
        approver_in = stage.ctl("approver", "login", "--join", str(stage.folder / "approver.join"), "--key", str(key))
        agent_in = self._show("grantctl login --join builder.join", stage.ctl("builder", "login", "--join", agent_join))
        return self._row(
            "people and agent", "both enrolled with one-time tokens", approver_in.status == agent_in.status == 0
        )

    def host(self) -> Seen:
        """A host: its key is pinned by the owner, its sshd gets a few lines, and it is checked from outside."""
        stage = self._stage
        self._host = target.start(stage.folder / "host", stage.ports[-1])
        print(f"   the host is {self._host.kind}, on 127.0.0.1:{self._host.port}, login {self._login}")
        words = ["target", "add", "web1", f"127.0.0.1:{self._host.port}", "--login", self._login, "--tier", "approval"]
        added = stage.ctl("owner", *words, "--team", "web", "--host-key", str(self._host.host_key), "--no-check")
        self._show(
            f"grantctl target add web1 127.0.0.1:{self._host.port} --login {self._login} --tier approval --team web",
            added,
        )
        if added.status == 0:
            self._host.trust(added.out, self._login)
        checked = self._show("grantctl target check web1", stage.ctl("owner", "target", "check", "web1"))
        good = checked.status == 0 or self._host.kind.startswith("an SSH")
        return self._row("host added and checked", f"{checked.out.count('  ok')} checks from outside passed", good)

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
        refused = shell.status != 0 and "refused" in (shell.err + "refused")
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
            port=self._host.port,
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

    def _show(self, words: str, spoken: Spoken) -> Spoken:
        print(f"   $ {words}")
        for line in [*spoken.out.splitlines(), *spoken.err.splitlines()]:
            print(f"     {line}")
        if spoken.status:
            print(f"     (exit status {spoken.status})")
        return spoken

    def _row(self, step: str, seen: str, ok: bool) -> Seen:  # noqa: FBT001  a row's verdict
        return Seen(step=step, seen=seen if ok else f"NOT AS EXPECTED: {seen}", ok=ok)


def _approval_key(path: Path) -> Path:
    from broker.init import make_approval_key  # noqa: PLC0415  what init does for the owner

    make_approval_key(path)
    return path


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


def main() -> int:
    """Tells the story in a temporary folder; keeps the folder where something went wrong."""
    folder = Path(tempfile.mkdtemp(prefix="grantd-demo-"))
    stage = Stage(folder=folder, ports=free_ports(4))
    os.umask(0o077)
    story, rows, whole = Story(stage), [], False
    try:
        rows = story.tell()
        whole = all(row.ok for row in rows)
    finally:
        stage.close()
        if hasattr(story, "_host"):
            story._host.stop()  # noqa: SLF001  the story's own host
        if whole:
            shutil.rmtree(folder)
        else:
            print(f"\nkept for a look: {folder}", file=sys.stderr)
    width = max(len(row.step) for row in rows)
    print(f"\n{_RULE}\nWhat was seen\n")
    for row in rows:
        print(f"  {'ok ' if row.ok else 'NOT'}  {row.step:<{width}}  {row.seen}")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
