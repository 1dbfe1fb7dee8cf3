"""Work that goes on while keys change: reads, sealed commands, issues, stock ssh sessions, fresh TLS connections."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.core.sshwire import ed25519_blob
from grantd import Client, asking, keys
from grantd.channel import open_channel
from grantd.cli.sshfiles import write
from grantd.execution import Finished
from grantd.profile import Profile
from grantd.v1 import identity_pb2
from grantd.v1.action_pb2 import ActionState
from grantd.v1.identity_pb2_grpc import IdentityServiceStub
from tests.e2e.programs import wait_until
from tests.e2e.stage import FREE, House


@dataclass(slots=True, kw_only=True)
class Load:
    """Each kind of work on a thread of its own, turn after turn. `failed` stays empty where nothing was missed."""

    house: House
    turns: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[str, str]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begins; returns at once."""
        for kind, turn in self._kinds().items():
            self._threads.append(threading.Thread(target=self._go_on, args=(kind, turn)))
            self._threads[-1].start()
        self.another_turn()

    def another_turn(self) -> None:
        """Waits until every profile was renewed, and then each kind has begun and ended a turn, from now."""
        for kinds in (("connect and renew",), tuple(self._kinds())):
            self._until_turned({kind: self.turns[kind] + 2 for kind in kinds})

    def _until_turned(self, wanted: Mapping[str, int]) -> None:
        wait_until(lambda: bool(self.failed) or all(self.turns[kind] >= n for kind, n in wanted.items()), 60)

    def stop(self) -> None:
        """Ends it after the turns under way."""
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _kinds(self) -> dict[str, Callable[[], None]]:
        return {
            "read and write": self._commands,
            "issue": self._issue,
            "ssh": self._ssh,
            "connect and renew": self._connect,
        }

    def _go_on(self, kind: str, turn: Callable[[], None]) -> None:
        while not self._over.is_set():
            try:
                turn()
            except Exception as problem:  # noqa: BLE001  whatever it is, it is a request that failed
                self.failed.append((kind, repr(problem)))
            self.turns[kind] += 1

    def _commands(self) -> None:
        with Client(self.house.profile("builder")) as client:
            grant = self._grant(client)
            for line in ("uname", "touch grantd-rotating"):
                last = [each for each in client.execute(grant, line) if isinstance(each, Finished)][-1]
                assert last.action.state == ActionState.ACTION_STATE_SUCCEEDED, last.action

    def _issue(self) -> None:
        with Client(self.house.profile("builder")) as client:
            grant = self._grant(client)
            for _ in range(5):
                public = ed25519_blob(Ed25519PrivateKey.generate().public_key().public_bytes_raw())
                assert client.issue_ssh(grant, public).ssh_certificate

    def _ssh(self) -> None:
        house = self.house
        with Client(house.profile("builder")) as client:
            grant = self._grant(client)
            files = write(house.folder / "rotating" / grant, lambda public: client.issue_ssh(grant, public))
        said = house.ssh(files, "uname")
        assert (said.status, said.out) == (0, "Linux\n"), said.err

    def _grant(self, client: Client) -> str:
        login = self.house.sshd.login
        asked = client.request_access(FREE, login, ceiling="install", ttl=timedelta(seconds=300), reason="a test")
        return asking.require_grant(asked)

    def _connect(self) -> None:
        for who in ("builder", "owner", "approver"):
            renew(self.house, who)
            with Client(self.house.profile(who)) as client:
                assert client.whoami().tenant


def renew(house: House, who: str) -> None:
    """What the SDK does at two thirds of a certificate's life, now."""
    profile = Profile.load(house.profile(who))
    with profile.locked(), open_channel(profile) as channel:
        request = identity_pb2.RenewCertificateRequest(csr=keys.csr_of(profile.key))
        answer = IdentityServiceStub(channel).RenewCertificate(request, timeout=20)
        profile.put_certificate(answer.certificate.encode(), answer.ca_certificate.encode())
