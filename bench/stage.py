"""What is measured, as real processes: an sshd of its own, a broker with its signer, an agent, an approver.

Nothing is spared the broker: SQLite with FULL, recordings on disk, one durable decision a command.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Final, Self

import asyncssh

from bench.approver import Approver
from deploy.demo.stage import Spoken, Stage, free_ports
from grantd.client import Client
from tests.peers_sshd import Sshd

TARGET: Final = "web1"
FAR_TARGET: Final = "far1"
FREE_TARGET: Final = "free1"
PEER: Final = "bench-peer"
"""The principal of the certificate that the other clients log in with."""
_TTL: Final = timedelta(hours=1)
_LAST_CHARACTERS: Final = 4_000
_SESSIONS: Final = 64
"""Sessions that sshd allows on one connection, for every client alike."""


class BenchStage:
    """Everything that is running, below one folder. Leaving the context ends all of it."""

    def __init__(self, folder: Path) -> None:
        self._broker = Stage(folder=folder, ports=free_ports(5))
        self._stack = ExitStack()
        self.folder = folder
        self.peer_key = folder / "peer_key"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._broker.close)
            self.sshd = self._start_sshd(stack)
            self._start_broker()
            self._enrol()
            self._trust()
            self.owner = stack.enter_context(Client(self._broker.profile("owner")))
            self.agent = stack.enter_context(Client(self.agent_profile))
            self.approver = stack.enter_context(Approver(self._broker.profile("owner"), on_failure=self.agent.close))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:  # the folder goes with the stage: say now what the broker said last
            log = (self.folder / "broker.log").read_text(errors="backslashreplace")
            sys.stderr.write(log[-_LAST_CHARACTERS:])
        self._stack.close()

    @property
    def agent_profile(self) -> Path:
        return self._broker.profile("builder")

    @property
    def data(self) -> Path:
        """The broker's own directory."""
        return self._broker.data

    @property
    def broker_pid(self) -> int:
        assert self._broker.broker is not None
        return self._broker.broker.pid

    def new_folder(self) -> Path:
        """An empty folder on the same disk."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def grant(self, target: str = TARGET, *, flags: tuple[str, ...] = ()) -> str:
        """A new lease: reads run at once, everything above asks."""
        return self.agent.obtain(target, self.sshd.login, ceiling="write", ttl=_TTL, reason="benchmark", flags=flags)

    def second_sshd(self) -> Sshd:
        """A jump host: another sshd, which lets the other clients in and nobody else."""
        sshd = Sshd.start(
            self.folder / "jump", user_cas=[self._peer_ca], principals={self.sshd.login: [PEER]},
            config="AllowTcpForwarding yes",
        )  # fmt: skip
        self._stack.callback(sshd.stop)
        return sshd

    def start_legs(self) -> tuple[subprocess.Popen[str], int]:
        """The broker's two legs alone, as a process (bench.legs), and its port; it trusts the other clients."""
        told = {
            "host": self.sshd.host, "port": self.sshd.port, "login": self.sshd.login, "host_key": self.sshd.host_key,
            "key": str(self.peer_key), "ca": self._peer_ca, "principal": PEER,
            "own_host_key": str(self.sshd.files.host_key),
        }  # fmt: skip
        settings = self.folder / "legs.json"
        settings.write_text(json.dumps(told))
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.legs", str(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._stack.callback(_ended, process)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    def add_far_target(self, port: int) -> None:
        """The same sshd under another name, at a port where its answers take their time."""
        self._add_target(FAR_TARGET, port, tier="approval")

    def add_free_target(self) -> None:
        """The same sshd where writes run unasked, and files may be moved without a person."""
        self._add_target(FREE_TARGET, self.sshd.port, tier="trusted")

    def check_bundle(self, name: str) -> str:
        """What `grantd verify` says about the whole log; raises if it finds anything wrong."""
        bundle = self.folder / name
        self._must(self._broker.ctl("owner", "audit", "export", str(bundle), "--reason", "benchmark"))
        return self._must(self._broker.grantd("verify", str(bundle))).out

    def _start_sshd(self, stack: ExitStack) -> Sshd:
        ca = asyncssh.generate_private_key("ssh-ed25519")
        key = asyncssh.generate_private_key("ssh-ed25519")
        self.peer_key.touch(mode=0o600)
        key.write_private_key(str(self.peer_key))
        certificate = ca.generate_user_certificate(key, PEER, principals=[PEER])
        certificate.write_certificate(f"{self.peer_key}-cert.pub")
        self._peer_ca = ca.export_public_key().decode()
        sshd = Sshd.start(
            self.folder / "sshd", user_cas=[self._peer_ca], principals={}, config=f"MaxSessions {_SESSIONS}"
        )
        stack.callback(sshd.stop)
        (self.folder / "known_hosts").write_text(f"[{sshd.host}]:{sshd.port} {sshd.host_key}\n")
        return sshd

    def _start_broker(self) -> None:
        stage = self._broker
        words = ["--config", str(stage.config), "--data", str(stage.data), "--base-port", str(stage.ports[0])]
        self._must(stage.grantd("init", *words))
        stage.serve()

    def _enrol(self) -> None:
        join = str(self.folder / "builder.join")
        self._must(self._broker.ctl("owner", "team", "add", "web"))
        self._must(self._broker.ctl("owner", "agent", "add", "builder", "--team", "web", "--out", join))
        self._must(self._broker.ctl("builder", "login", "--join", join))

    def _trust(self) -> None:
        self._principals = [PEER]
        self._add_target(TARGET, self.sshd.port, tier="approval")

    def _add_target(self, name: str, port: int, *, tier: str) -> None:
        sshd = self.sshd
        words = ["target", "add", name, f"{sshd.host}:{port}", "--login", sshd.login, "--tier", tier]
        host_key = str(sshd.files.host_key.with_suffix(".pub"))
        added = self._must(self._broker.ctl("owner", *words, "--team", "web", "--host-key", host_key, "--no-check"))
        lines = added.out.splitlines()
        sshd.trust([self._peer_ca, next(line for line in lines if line.startswith("ssh-ed25519 "))])
        self._principals.append(next(line for line in lines if line.startswith("grantd:")))
        sshd.allow(sshd.login, self._principals)

    def _must(self, spoken: Spoken) -> Spoken:
        if spoken.status:
            raise RuntimeError(f"the stage could not be set: {spoken.err or spoken.out}")
        return spoken


def _ended(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=20)
