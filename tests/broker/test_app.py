"""The house as a process: starts that are refused in plain words, a signer that dies under it, an end that seals."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker import app
from broker.adapters.target_ssh.targets import SshTargets
from broker.core.errors import Refusal
from broker.core.events import AuditEvent
from broker.core.ids import SYSTEM_TENANT, TenantId
from broker.init import initialise, single_node
from grantd import keys
from grantd.errors import GrantdError
from grantd.v1 import identity_pb2
from tests import peers
from tests.e2e.programs import Spoken, finish, processes_with, wait_until
from tests.e2e.stage import BIN, FREE, House
from tests.pace import Since
from tests.processes import descendants, free_port

pytestmark = pytest.mark.xdist_group("app")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A broker with a real host; tests leave it serving."""
    for program in ("sshd", "ssh", "ssh-keygen"):
        peers.require(program)
    made = House.build(tmp_path_factory.mktemp("app"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def fresh(house: House, tmp_path_factory: pytest.TempPathFactory) -> House:
    """Another broker's files, with the ports of the one that serves; tests leave them as they were."""
    other = House(tmp_path_factory.mktemp("fresh"))
    words = ("--config", str(other.config), "--data", str(other.data), "--base-port", str(house.ports[0]))
    assert other.grantd("init", *words).status == 0
    return other


def serve(fresh: House, **ports: int) -> Spoken:
    """A start that must be refused, with other ports than its file's."""
    env = {f"GRANTD_{name.upper()}__PORT": str(port) for name, port in ports.items()}
    done = finish([str(BIN / "grantd"), "serve", "--config", str(fresh.config)], env=env)
    assert done.status == 1
    assert "Traceback" not in done.out + done.err
    assert "broker.started" not in done.out
    assert processes_with(str(fresh.data)) == []
    return done


def certified(house: House) -> None:
    """Something that only the signer can do; raises GrantdError."""
    client = house.client("owner")
    client.call(
        client.identity.RenewCertificate, identity_pb2.RenewCertificateRequest(csr=keys.csr_of(client.profile.key))
    )


def signer_of(house: House) -> int:
    """The pid of the child that signs."""
    (pid,) = [p for p in descendants(house.pid) if b"broker.signer" in Path(f"/proc/{p}/cmdline").read_bytes()]
    return pid


# ---- starts that are refused
@pytest.mark.sshd
@pytest.mark.parametrize("name", ["grpc", "join", "ssh", "metrics"])
def test_a_taken_port_is_one_line(house: House, fresh: House, name: str) -> None:
    """Status 1 and the address; doors that had opened are shut again, and the broker that serves there goes on."""
    taken = house.ports[["grpc", "join", "ssh", "metrics"].index(name)]
    ports = {other: free_port() for other in ("grpc", "join", "ssh", "metrics")} | {name: taken}
    (said,) = serve(fresh, **ports).err.splitlines()
    assert said.startswith("grantd: ")
    assert str(taken) in said
    assert house.client("owner").whoami().name == "owner"


@pytest.mark.sshd
@pytest.mark.parametrize("victim", ["signer/egress.key", "root.key"])
def test_an_open_key_is_refused(fresh: House, victim: str) -> None:
    """I-54: it says which file, and nothing was served."""
    (fresh.data / victim).chmod(0o644)
    try:
        done = serve(fresh)
    finally:
        (fresh.data / victim).chmod(0o400)
    assert str(fresh.data / victim) in done.err
    assert done.err.splitlines()[-1].startswith("grantd: ")


# ---- a signer that dies
@pytest.mark.sshd
def test_a_dead_signer_stops_issuing_and_comes_back(house: House) -> None:
    """kill -9: a running command goes on to its end, nothing is certified meanwhile, and another signer is started.

    Its keys are open to others at first, so it cannot start: tried again until they are closed.
    """
    certified(house)
    grant = house.grant()
    # a command above read runs on a connection of its own, whose certificate was signed before
    running = house.run(grant, f"sleep 3; touch {house.folder / 'flag'}; echo finished")
    wait_until(lambda: bool(processes_with("sleep 3; touch")), 10)
    old, key = signer_of(house), house.data / "signer" / "egress.key"
    key.chmod(0o444)
    os.kill(old, signal.SIGKILL)
    with pytest.raises(GrantdError):
        certified(house)
    wait_until(lambda: any(line["event"] == "signer.not_started" for line in house.logged()), 15)
    with pytest.raises(GrantdError):
        certified(house)
    assert running.finished().exit_status == 0
    assert b"finished" in running.output()

    key.chmod(0o400)
    wait_until(lambda: any(line["event"] == "signer.restarted" for line in house.logged()), 20)
    assert signer_of(house) != old
    certified(house)
    assert house.run(grant, f"touch {house.folder / 'flag'}").finished().exit_status == 0
    assert house.metrics()["grantd_signer_restarts_total"] == 1.0
    ended = next(line for line in house.logged() if line["event"] == "signer.ended")
    assert (ended["status"], ended["level"]) == (-signal.SIGKILL, "error")


# ---- the end
@pytest.mark.sshd
def test_sigterm_seals_everything_in_time(house: House) -> None:
    """Within ten seconds: running commands are cut and gone, their recordings whole, the log drained; status 0."""
    grant = house.grant(FREE)
    running = house.run(grant, f"touch {house.folder / 'flag'}; echo begun; sleep 600")
    wait_until(lambda: b"begun" in running.output(), 10)
    session_id = running.action().session_id
    signer, since = signer_of(house), Since()
    assert house.stop() == 0
    assert since.s() < 10
    assert house.logged()[-1]["event"] == "broker.stopped"
    assert not Path(f"/proc/{signer}").exists()
    wait_until(lambda: not processes_with("echo begun; sleep 600"), 5)
    files = [str(path) for path in (house.data / "recordings").rglob("p*.grec")]
    verified = house.grantd("verify", *files)
    assert verified.status == 0, verified.out
    house.serve()
    recovered = [line for line in house.logged() if line["event"] == "broker.recovered"][-1]
    assert (recovered["sessions"], recovered["recordings"]) == (0, 0)
    assert house.session(session_id).end_reason == "broker_stopping"


# ---- the clock
async def test_a_clock_behind_the_log_issues_nothing(tmp_path: Path) -> None:
    """I-05: the newest entry of any tenant's log, or of the system's own, is a moment that has been."""
    settings = single_node(data=tmp_path / "d", tenant="acme", host="127.0.0.1", base_port=1024, database="")
    now = datetime.now(UTC)
    await initialise(settings, owner="owner", approval_key=None, profile=tmp_path / "owner", now=now)
    for tenant in (SYSTEM_TENANT, TenantId("acme")):
        async with AsyncExitStack() as stack:
            sound = app.House(settings, stack)
            await sound.build()
            sound.world.instant()
        folder = tmp_path / "d"
        before = (folder / "grantd.db").read_bytes()
        async with AsyncExitStack() as stack:
            foundation = app.House(settings, stack)
            await foundation.build_foundation()
            event = AuditEvent(tenant=tenant, name="person.added", facts={})
            await foundation.store.run(tenant, lambda tx, event=event: tx.audit.append(event, now + timedelta(hours=1)))  # type: ignore[misc]
        async with AsyncExitStack() as stack:
            behind = app.House(settings, stack)
            await behind.build()
            with pytest.raises(Refusal, match="clock moved back"):
                behind.world.instant()
        (folder / "grantd.db").write_bytes(before)
        for leftover in folder.glob("grantd.db-*"):
            leftover.unlink()


async def test_what_peers_send_is_read_behind_an_end_that_has_come(tmp_path: Path) -> None:
    """P16: at the SSH door and from targets."""
    settings = single_node(data=tmp_path / "d", tenant="acme", host="127.0.0.1", base_port=free_port(), database="")
    await initialise(settings, owner="owner", approval_key=None, profile=tmp_path / "owner", now=datetime.now(UTC))
    async with AsyncExitStack() as stack:
        house = app.House(settings, stack)
        await house.build()
        await house.gatehouse.open()
        stack.push_async_callback(house.gatehouse.close)
        targets, door = house.world.targets, house.gatehouse._door  # noqa: SLF001
        assert isinstance(targets, SshTargets)
        assert door is not None
        assert targets.glance == door.glance == house.world.ends.glance
