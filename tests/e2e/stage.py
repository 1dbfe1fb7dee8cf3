"""A house to walk through: broker and signer as processes, a real sshd, people and agents with their own profiles.

Everything lives below one folder and on loopback; `close` ends every process that was started. People's profiles are
made by the SDK (quick); what a person would type goes through `ctl`, with grantctl as a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncssh
from google.protobuf.duration_pb2 import Duration

from grantd import Client, asking, records, stepup, trust
from grantd.cli.signing import find
from grantd.cli.sshfiles import SshFiles, write
from grantd.enrolment import Join, enrol
from grantd.v1 import access_pb2, admin_pb2, approval_pb2, audit_pb2, options_pb2, session_pb2
from grantd.v1.action_pb2 import ActionState
from tests.e2e.founded import copied
from tests.e2e.programs import Spoken, finish, wait_until
from tests.e2e.running import Running, followed
from tests.peers_sshd import Sshd
from tests.processes import descendants

BIN = Path(sys.executable).parent
START_SECONDS = 30.0
TEAM = "web"
ASKS, FREE = "web1", "lab1"
"""Two names of one host: on the first everything above read asks, on the second (tier trusted) writes run."""
PEOPLE = {"approver": "manager", "second": "manager"}
AGENTS = ("builder", "other")


def found(folder: Path, base_port: int, *more: str) -> None:
    """Runs `grantd init` for a house in `folder`: its configuration and data."""
    places = ("--config", str(folder / "grantd.toml"), "--data", str(folder / "data"))
    made = finish([str(BIN / "grantd"), "init", *places, "--base-port", str(base_port), *more])
    assert made.status == 0, made.err


class House:
    """See the module. Made by `build`, ended by `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = _free_ports(5)
        self.broker: subprocess.Popen[bytes] | None = None
        self.sshd: Sshd
        self.prefix: list[str] = []
        """Words before `grantd serve`, such as unshare's."""
        self._clients: dict[str, Client] = {}
        self._sshd_lines: dict[int, set[str]] = {}

    # ---- places ------------------------------------------------------------------------------------------------------
    @property
    def config(self) -> Path:
        return self.folder / "grantd.toml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "broker.log"

    def profile(self, who: str) -> Path:
        """Where somebody's profile lies; the owner's is made by init."""
        return self.data / "owner" if who == "owner" else self.folder / who

    # ---- life --------------------------------------------------------------------------------------------------------
    @classmethod
    def build(
        cls, folder: Path, *, settings: str = "", prefix: list[str] | None = None, shell: Path | None = None,
        database: str = "",
    ) -> House:  # fmt: skip
        """A broker that serves, a host that trusts it under two names, two managers, two agents; see founded.py.

        `shell`: what stands where the login's shell would, on the host; `database`: the URL of a migrated one.
        """
        house = cls(folder)
        house.prefix = prefix or []
        try:
            if database:
                found(folder, house.ports[0], "--database", database)
            else:
                copied(folder, house.ports, found)
            house.config.write_text(house.config.read_text() + settings)
            house.serve()
            house.sshd = Sshd.start(folder / "host", user_cas=(), principals={}, shell=shell)
            house._move_in()
        except BaseException:
            house.close()
            raise
        return house

    def serve(self) -> None:
        """Starts the broker and waits until its doors are open; raises with its last words where it does not start."""
        words = [*self.prefix, "setpriv", "--pdeathsig=TERM", str(BIN / "grantd"), "serve", "--config"]
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.broker = subprocess.Popen(
                [*words, str(self.config)], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        wait_until(
            lambda: b'"broker.started"' in self.log.read_bytes()[before:] or not self.is_serving(), START_SECONDS
        )
        if not self.is_serving():
            raise RuntimeError(self.log.read_text()[-2000:])

    def is_serving(self) -> bool:
        """Whether the broker's process lives."""
        return self.broker is not None and self.broker.poll() is None

    @property
    def pid(self) -> int:
        """The broker itself, below whatever stands before it."""
        assert self.broker is not None
        for pid in (self.broker.pid, *descendants(self.broker.pid)):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if any(word.endswith(b"/grantd") for word in words[:3]) and b"serve" in words[:4]:
                return pid
        raise RuntimeError("the broker does not run")

    def kill(self) -> None:
        """SIGKILL, as the kernel or an operator would; returns when the process is gone."""
        assert self.broker is not None
        os.kill(self.pid, signal.SIGKILL)
        self.broker.wait(60)
        self.forget()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.broker is not None
        if self.is_serving():
            self.broker.send_signal(signal.SIGTERM)
        status = self.broker.wait(60)
        self.forget()
        return status

    def forget(self) -> None:
        """Closes every client's connection; the next use opens a new one."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def close(self) -> None:
        """Ends everything that was started."""
        self.forget()
        if self.broker is not None and self.is_serving():
            self.broker.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.broker.wait(60)
            if self.is_serving():
                self.broker.kill()
                self.broker.wait()
        if hasattr(self, "sshd"):
            self.sshd.stop()

    # ---- programs ----------------------------------------------------------------------------------------------------
    def grantd(self, *words: str) -> Spoken:
        """A command of the daemon, to its end."""
        return finish([str(BIN / "grantd"), *words])

    def ctl(self, who: str, *words: str, stdin: bytes | None = None) -> Spoken:
        """grantctl as somebody, to its end."""
        return finish(self.ctl_words(who, *words), stdin=stdin)

    def ctl_words(self, who: str, *words: str) -> list[str]:
        """The words of a grantctl command, for those who run it themselves."""
        return [str(BIN / "grantctl"), "--profile", str(self.profile(who)), *words]

    def ssh_files(self, grant: str, who: str = "builder") -> SshFiles:
        """Key and certificate of a grant, as `grantctl ssh-cert` writes them."""
        client = self.client(who)
        return write(self.profile(who) / "ssh" / grant, lambda public: client.issue_ssh(grant, public))

    def ssh_options(self, files: SshFiles) -> list[str]:
        """What a stock ssh needs to use them; nothing of this machine's own ssh set-up."""
        pairs = {
            "CertificateFile": files.certificate,
            "UserKnownHostsFile": files.known_hosts,
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": "10",
        }
        return ["-F", "none", "-i", str(files.key), *(w for k, v in pairs.items() for w in ("-o", f"{k}={v}"))]

    def ssh(self, files: SshFiles, *words: str, before: tuple[str, ...] = (), stdin: bytes | None = None) -> Spoken:
        """A stock ssh through the gateway: options `before` the destination, `words` after it."""
        to = f"{files.user}@{files.host}"
        return finish(["ssh", *self.ssh_options(files), "-p", str(files.port), *before, to, *words], stdin=stdin)

    # ---- people and agents -------------------------------------------------------------------------------------------
    def client(self, who: str) -> Client:
        """Somebody's SDK client; the same one until `forget`."""
        if who not in self._clients:
            self._clients[who] = Client(self.profile(who))
        return self._clients[who]

    def grant(
        self, target: str = FREE, *, ttl: float = 300, ceiling: str = "install", who: str = "builder",
        flags: tuple[str, ...] = (),
    ) -> str:  # fmt: skip
        """A lease; its TTL runs from first use. A person decides where it has flags."""
        client = self.client(who)
        asked = client.request_access(
            target, self.sshd.login, ceiling=ceiling, ttl=timedelta(seconds=ttl), reason="a test", flags=flags
        )
        if flags:
            self.decide(asked.id)
            asked = client.call(client.access.GetRequest, access_pb2.GetRequestRequest(request_id=asked.id)).request
        return asking.require_grant(asked)

    def run(self, grant: str, line: bytes | str, who: str = "builder", **more: Any) -> Running:  # noqa: ANN401  execute's
        """Starts a command on a thread; the caller watches it."""
        return followed(self.client(who).execute(grant, line, **more))

    def resume(self, action_id: str, who: str = "builder") -> Running:
        """Goes on with an action."""
        return followed(self.client(who).resume(action_id))

    def decide(self, item_id: str, *, yes: bool = True, who: str = "approver", note: str = "") -> None:
        """Signs a decision as a person's own tool would: the record is rebuilt from the fields that were shown."""
        client = self.client(who)
        item = client.call(client.approvals.GetPending, approval_pb2.GetPendingRequest(id=item_id)).item
        asks = item.WhichOneof("record") == "access"
        record = records.access_record(item.access) if asks else records.action_record(item.action)
        signed = record if yes else records.denial_record(record)
        request = approval_pb2.DecideRequest(
            id=item_id,
            verdict=options_pb2.VERDICT_APPROVE if yes else options_pb2.VERDICT_DENY,
            digest=item.digest,
            signature=find(client.profile, None).sign(records.APPROVAL_NAMESPACE, signed),
            note=note,
        )
        client.call(client.approvals.Decide, request)

    def approved(self, grant: str, line: bytes | str, **more: Any) -> Running:  # noqa: ANN401  execute's
        """Runs a command that a person has to allow, and allows it."""
        running = self.run(grant, line, **more)
        self.decide(running.until(ActionState.ACTION_STATE_AWAITING).id)
        return running

    def signed(self, change: stepup.Change, *, by: tuple[str, ...] = ("owner",)) -> None:
        """Puts the signer's statement into a change, and step-up signatures under both."""
        first = self.client(by[0])
        trust.state(first, change, tenant=first.whoami().tenant, now=datetime.now(UTC))
        for who in by:
            client = self.client(who)
            me = client.whoami()
            change.step_ups.append(
                stepup.step_up(
                    change,
                    find(client.profile, None).sign,
                    tenant=me.tenant,
                    person_id=me.identity_id,
                    now=datetime.now(UTC),
                )
            )

    def add_person(self, name: str, role: str) -> None:
        """A person of the team, enrolled, with an approval key of their own."""
        key = self.folder / f"{name}_key"
        made = asyncssh.generate_private_key("ssh-ed25519")
        made.write_private_key(str(key))
        key.chmod(0o600)
        message = admin_pb2.AddPersonRequest(
            idempotency_key=asking.new_key(),
            name=name,
            role=role,
            teams=[TEAM],
            approval_keys=[made.export_public_key().decode().strip()],
            join_for=Duration(seconds=600),
        )
        self.signed(message)
        owner = self.client("owner")
        told = owner.call(owner.admin.AddPerson, message)
        enrol(Join.of(told.join, name=name, secret=told.join_secret), self.folder / name, approval_key=str(key))

    def add_agent(self, name: str, *, owner: str = "") -> bytes:
        """An agent of the team, enrolled. Returns its join secret, which is spent by then."""
        message = admin_pb2.AddAgentRequest(
            idempotency_key=asking.new_key(), name=name, teams=[TEAM], owner=owner, join_for=Duration(seconds=600)
        )
        client = self.client("owner")
        told = client.call(client.admin.AddAgent, message)
        enrol(Join.of(told.join, name=name, secret=told.join_secret), self.folder / name)
        return told.join_secret

    def add_target(self, name: str, tier: options_pb2.AutonomyTier.ValueType, host: Sshd | None = None) -> None:
        """The house's sshd, or another `host`, under a new name; the host is told what grantd printed for it."""
        host = host or self.sshd
        message = admin_pb2.PutTargetRequest(
            idempotency_key=asking.new_key(),
            target=admin_pb2.Target(
                name=name,
                host=host.host,
                port=host.port,
                host_key=host.host_key,
                tier=tier,
                teams=[TEAM],
                logins=[admin_pb2.TargetLogin(name=host.login)],
            ),
        )
        self.signed(message)
        owner = self.client("owner")
        told = owner.call(owner.admin.PutTarget, message)
        lines = self._sshd_lines.setdefault(host.port, set())
        lines |= set(told.sshd_lines.splitlines())
        host.trust({line for line in lines if line.startswith("ssh-ed25519 ")})
        host.allow(host.login, {line for line in lines if line.startswith("grantd:")})

    def _move_in(self) -> None:
        owner = self.client("owner")
        owner.call(owner.admin.AddTeam, admin_pb2.AddTeamRequest(idempotency_key=asking.new_key(), name=TEAM))
        for name, role in PEOPLE.items():
            self.add_person(name, role)
        for name in AGENTS:
            self.add_agent(name)
        self.add_target(ASKS, options_pb2.AUTONOMY_TIER_APPROVAL)
        self.add_target(FREE, options_pb2.AUTONOMY_TIER_TRUSTED)

    # ---- what the broker wrote down ----------------------------------------------------------------------------------
    def audit(self, name: str = "") -> list[dict[str, Any]]:
        """The log's entries in order, those of one event where `name` is given."""
        client, found, seq = self.client("owner"), list[dict[str, Any]](), 0
        while True:
            page = client.call(client.audit.ListEvents, audit_pb2.ListEventsRequest(from_seq=seq, reason="a test"))
            found += [json.loads(e.entry) | {"event": e.name} for e in page.events if name in ("", e.name)]
            seq = page.next_seq
            if not seq:
                return found

    def audited(self, name: str, holds: Callable[[dict[str, Any]], bool], seconds: float = 10.0) -> dict[str, Any]:
        """The first entry of that event for which it holds; entries take their place in the log within a second."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = [entry for entry in self.audit(name) if holds(entry)]
            return bool(found)

        wait_until(there, seconds, every=0.2)
        return found[0]

    def session(self, session_id: str) -> session_pb2.Session:
        """One session, as the owner sees it."""
        client = self.client("owner")
        request = session_pb2.GetSessionRequest(session_id=session_id)
        return client.call(client.sessions.GetSession, request).session

    def played(self, session_id: str) -> list[session_pb2.PlayRecordingResponse]:
        """A recording's events."""
        client = self.client("owner")
        request = session_pb2.PlayRecordingRequest(session_id=session_id, reason="a test")
        return list(client.stream(client.sessions.PlayRecording, request))

    def metrics(self) -> dict[str, float]:
        """Every sample by its name and labels, as a scraper sees it now."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[3]}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        samples = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def logged(self) -> list[dict[str, Any]]:
        """The broker's log so far, every line parsed."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def _free_ports(count: int) -> list[int]:
    """Consecutive free ports on loopback, below those that the kernel hands out."""
    for base in range(20_000 + os.getpid() % 1000 * 10, 32_000, count):
        ports = [base + n for n in range(count)]
        if all(_is_free(port) for port in ports):
            return ports
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
