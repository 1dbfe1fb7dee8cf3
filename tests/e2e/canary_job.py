"""The main job with secrets that a sweep can know again: who used what, and where it may be by right."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from broker.adapters.audit_log.signing import SECRET_NAME
from broker.adapters.store.store import SqlStore
from broker.adapters.system import SystemEntropy
from broker.config import Settings
from broker.core.ids import SYSTEM_TENANT
from broker.founding import open_vault, rows_over
from grantd.profile import Profile
from grantd.v1 import approval_pb2
from grantd.v1.action_pb2 import ActionState
from tests.e2e.canary import Sweep, sweep_clients, sweep_files, sweep_outside, sweep_processes, told
from tests.e2e.canary_values import fresh, prefix, use_values
from tests.e2e.programs import wait_until
from tests.e2e.stage import ASKS, House
from tests.e2e.typed import Typed
from tests.peers_postgres import PostgresCluster
from tests.peers_shop import close_shop, open_shop


@dataclass(slots=True, kw_only=True)
class Job:
    """A house in which the job was done, the secrets of it, and what was said to those who failed."""

    house: House
    secrets: dict[str, bytes] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    clients: dict[str, bytes] = field(default_factory=dict)
    """What the kernel showed of grantctl while it ran: its words and variables."""
    logs: dict[str, Path] = field(default_factory=dict)
    """Logs of others than the broker."""

    @property
    def keys(self) -> set[Path]:
        """Files that are keys by their purpose: each private to its owner (test_files.py walks them)."""
        data = self.house.data
        return {data / "owner", data / "root.key", *(data / "signer").glob("*.key")}

    def sweep(self) -> Sweep:
        """Everywhere."""
        sweep = Sweep(self.secrets)
        sweep_processes(sweep, self.house)
        sweep_files(sweep, self.house, self.keys)
        sweep_clients(sweep, self.clients, self.logs)
        sweep_outside(sweep, told(self.house), self.said)
        return sweep


@contextlib.contextmanager
def lived_in(folder: Path, cluster: PostgresCluster) -> Iterator[Job]:
    """A house with a worker in which the job has been done, beside a database server; ended with the context."""
    house = House.build(folder)
    shop = open_shop(cluster)
    try:
        house.stop()
        house.prefix = prefix(folder)
        house.config.write_text(house.config.read_text().replace("[ssh]", "[ssh]\nworkers = 1"))
        house.serve()
        job = Job(house=house)
        _use(job, folder)
        use_values(job, folder, shop)
        _fail(job)
        job.secrets |= _keys(house) | asyncio.run(_sealed(house))
        house.forget()  # a connection that is open keeps the last bytes that came through it
        yield job
    finally:
        house.close()
        close_shop(shop)


def _use(job: Job, folder: Path) -> None:
    """Every way in which a secret passes through: joining, tokens, declared input, a password that is typed."""
    house = job.house
    job.secrets["join secret"] = house.add_agent("canary")
    grant = house.grant(ASKS)
    job.secrets["grant token"] = house.client("builder").issue_token(grant).token.encode()
    assert house.run(grant, "uname -s").finished().exit_status == 0
    job.secrets["declared stdin"] = fresh()
    running = house.run(grant, "dd of=copy status=none", stdin=job.secrets["declared stdin"], cwd=str(folder))
    house.decide(running.until(ActionState.ACTION_STATE_AWAITING).id)
    assert running.finished().exit_status == 0, running.errors()
    assert (folder / "copy").read_bytes() == job.secrets["declared stdin"]
    (folder / "copy").unlink()
    _type(job, house.grant(ASKS, flags=("stream_stdin",)), folder / "script")
    # its token is still good; the SDK's own key files are its own
    job.secrets["client key"] = private_part(Profile.load(house.profile("canary")).key)
    job.secrets["approval key"] = private_part((house.folder / "approver_key").read_bytes())


def _type(job: Job, grant: str, script: Path) -> None:
    """A password at a prompt without echo, through a stock ssh and a worker."""
    house = job.house
    files = house.ssh_files(grant)
    job.secrets["ssh user key"] = private_part(files.key.read_bytes())
    job.secrets["typed password"] = fresh()
    words = ["ssh", *house.ssh_options(files), "-tt", "-p", str(files.port), f"{files.user}@{files.host}"]
    script.write_text('read -rs -p pw: x; echo " ${#x} characters"\n')
    with Typed([*words, "--", f"bash {script}"]) as ssh:
        wait_until(lambda: bool(_waiting(house)) or ssh.ended(), 20)
        assert not ssh.ended(), ssh.err
        house.decide(_waiting(house)[0])
        wait_until(lambda: b"pw:" in ssh.out, 20)
        ssh.type(job.secrets["typed password"] + b"\r")
        wait_until(lambda: b"characters" in ssh.out, 20)
        wait_until(ssh.ended, 20)
        assert f"{len(job.secrets['typed password'])} characters".encode() in ssh.out


def _waiting(house: House) -> list[str]:
    client = house.client("approver")
    return [item.id for item in client.call(client.approvals.ListPending, approval_pb2.ListPendingRequest()).items]


def _fail(job: Job) -> None:
    """What those are told who fail: with a spent secret, without permission, with a broken request."""
    house = job.house
    grant = house.grant(ASKS)
    tried = {
        "not permitted": house.ctl("builder", "audit", "list"),
        "no such grant": house.ctl("builder", "run", "--grant", "gr_" + "a" * 26, "--", "true"),
        "bad words": house.ctl("builder", "no-such-word"),
        "another login": house.ssh(house.ssh_files(grant), "uname", before=("-o", "User=nobody", "-l", "nobody")),
    }
    for name, spoken in tried.items():
        assert spoken.status != 0, name
        job.said[name] = spoken.out + spoken.err


def _keys(house: House) -> dict[str, bytes]:
    """What lies in files that are keys."""
    found = {"root key": (house.data / "root.key").read_bytes()}
    for path in (house.data / "signer").glob("*.key"):
        found[path.name] = private_part(path.read_bytes())
    return found


async def _sealed(house: House) -> dict[str, bytes]:
    """What lies sealed in the database, opened as the broker opens it."""
    settings = Settings.load(house.config, {})
    entropy = SystemEntropy()
    rows = rows_over(open_vault(settings), broker=settings.broker, entropy=entropy, noted=lambda _tenant: None)
    store = await SqlStore.open(settings.store_url, source=rows)
    try:
        names = {"token seed": "grant-token-key", "head seed": SECRET_NAME}
        found = {}
        for name, stored in names.items():
            secret = await store.read(SYSTEM_TENANT, lambda tx, stored=stored: tx.keys.secret(stored))  # type: ignore[misc]
            assert secret is not None, name
            found[name] = bytes(secret.reveal())
        return found
    finally:
        await store.close()


def private_part(pem: bytes) -> bytes:
    """The secret bytes of a PEM file: an OpenSSH key's seed, and what stands for it in PKCS #8."""
    body = b"".join(line for line in pem.splitlines() if not line.startswith(b"-----"))
    raw = base64.b64decode(body)
    marker = raw.rfind(b"\x00\x00\x00\x40")  # OpenSSH: 64 bytes, seed and public key
    if b"openssh-key-v1" in raw and marker > 0:
        return raw[marker + 4 : marker + 36]
    return raw[36:68] if len(raw) > 68 else raw[-32:]
