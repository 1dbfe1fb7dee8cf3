"""How every story begins: a broker, people and an agent, a host; and how a step is told."""

from __future__ import annotations

import getpass
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy.demo import target
from deploy.demo.stage import Spoken, Stage, free_ports

_RULE = "-" * 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One row of the table at the end."""

    step: str
    seen: str
    ok: bool


class Opening:
    """The steps that set everything up, each with the product's own programs, and what came of it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._login = getpass.getuser()
        self._rows: list[Seen] = []
        self._host: target.Host | None = None
        self._port = 0
        """Of the host itself."""

    def steps(self) -> list[Callable[[], Seen]]:
        """What is told, in order."""
        return [self.starts, self.people, self.host]

    def tell(self) -> list[Seen]:
        """All of it; stops at the first step that cannot be done at all."""
        for number, step in enumerate(self.steps(), 1):
            print(f"\n{_RULE}\n{number}. {step.__doc__}\n", flush=True)
            row = step()
            self._rows.append(row)
            print(f"\n   {'ok  ' if row.ok else 'NOT '} {row.seen}", flush=True)
        return self._rows

    def close(self) -> None:
        """Ends everything that was started."""
        self._stage.close()
        if self._host is not None:
            self._host.stop()

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
        host = self._host = target.start(stage.folder / "host", stage.ports[-1])
        self._port = host.port
        print(f"   the host is {host.kind}, on 127.0.0.1:{host.port}, login {self._login}")
        words = ["target", "add", "web1", f"127.0.0.1:{host.port}", "--login", self._login, "--tier", "approval"]
        added = stage.ctl("owner", *words, "--team", "web", "--host-key", str(host.host_key), "--no-check")
        self._show(
            f"grantctl target add web1 127.0.0.1:{host.port} --login {self._login} --tier approval --team web",
            added,
        )
        if added.status == 0:
            host.trust(added.out, self._login)
        checked = self._show("grantctl target check web1", stage.ctl("owner", "target", "check", "web1"))
        good = checked.status == 0 or host.kind.startswith("an SSH")
        return self._row("host added and checked", f"{checked.out.count('  ok')} checks from outside passed", good)

    # ---- what steps share --------------------------------------------------------------------------------------------
    def _show(self, words: str, spoken: Spoken) -> Spoken:
        print(f"   $ {words}")
        for line in [*spoken.out.splitlines(), *spoken.err.splitlines()]:
            print(f"     {line}")
        if spoken.status:
            print(f"     (exit status {spoken.status})")
        return spoken

    def _row(self, step: str, seen: str, ok: bool) -> Seen:  # noqa: FBT001  a row's verdict
        return Seen(step=step, seen=seen if ok else f"NOT AS EXPECTED: {seen}", ok=ok)


def played(story: type[Opening]) -> int:
    """Tells a story in a temporary folder, which is kept where something went wrong; the exit status."""
    folder = Path(tempfile.mkdtemp(prefix="grantd-demo-"))
    os.umask(0o077)
    telling, rows, whole = story(Stage(folder=folder, ports=free_ports(5))), list[Seen](), False
    try:
        rows = telling.tell()
        whole = all(row.ok for row in rows)
    finally:
        telling.close()
        if whole:
            shutil.rmtree(folder)
        else:
            print(f"\nkept for a look: {folder}", file=sys.stderr)
    width = max(len(row.step) for row in rows)
    print(f"\n{_RULE}\nWhat was seen\n")
    for row in rows:
        print(f"  {'ok ' if row.ok else 'NOT'}  {row.step:<{width}}  {row.seen}")
    return 0 if whole else 1


def _approval_key(path: Path) -> Path:
    from broker.init import make_approval_key  # noqa: PLC0415  what init does for the owner

    make_approval_key(path)
    return path
