"""What the sweep seeds beside the main job: values of the vault, a database's passwords, a sealed credential's key.

Each is used as people use it, grantctl as a process of its own whose words and variables are kept to be searched.
"""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from grantd import asking, database
from grantd.cli.sealed import Sealed
from grantd.v1 import admin_pb2
from tests.e2e.stage import ASKS, TEAM
from tests.processes import descendants

if TYPE_CHECKING:
    from tests.e2e.canary_job import Job
    from tests.peers_shop import Shop

KNOWING = Path(__file__).parent / "knowing"
NAME, SHOP = "db-admin", "shop"
_SETTINGS = """
database = "{name}"
admin = "{admin}"
ca = "ca.pem"

[profiles.report]
class = "read"
grants = ["USAGE ON SCHEMA app", "SELECT ON app.orders"]
"""


def fresh() -> bytes:
    """A value that nothing else holds: 55 bytes of text, so that it is searched as it is."""
    return b"canary-" + os.urandom(24).hex().encode()


def keys_told(job: Job) -> Path:
    """Where broker and grantctl tell the keys that values are sealed to."""
    return job.house.folder / "known-keys"


def prefix(folder: Path) -> list[str]:
    """Words before `grantd serve` and grantctl."""
    return ["env", f"PYTHONPATH={KNOWING}", f"KNOWN_AT={folder / 'known-keys'}"]


def use_values(job: Job, folder: Path, shop: Shop) -> None:
    """All of it, after the main job."""
    job.secrets["upload key"] = keys_told(job).read_bytes()[:32]
    _values(job, folder)
    _database(job, folder, shop)
    _glass(job, folder)
    _joins(job)


def watched(job: Job, name: str, who: str, *words: str, stdin: bytes = b"") -> bytes:
    """grantctl to its end; what the kernel showed of it and its children meanwhile is kept. Returns what it printed."""
    line = [*prefix(job.house.folder), *job.house.ctl_words(who, *words)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        seen = dict.fromkeys(("cmdline", "environ"), b"")
        _look(process.pid, seen)
        process.stdin.write(stdin)
        process.stdin.close()
        process.stdin = None
        while process.poll() is None:
            _look(process.pid, seen)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.25)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    job.clients |= {f"{what} of {name}": data for what, data in seen.items()}
    job.said[f"errors of {name}"] = err.decode(errors="replace")
    return out


def _look(pid: int, seen: dict[str, bytes]) -> None:
    for one in (pid, *descendants(pid)):
        for what, before in list(seen.items()):
            with contextlib.suppress(OSError):
                data = Path(f"/proc/{one}/{what}").read_bytes()
                seen[what] = before if data in before else before + data


def _values(job: Job, folder: Path) -> None:
    """Put, taken out into a pipe, replaced from a file that is gone afterwards, taken out by a program."""
    house, first, second = job.house, fresh(), fresh()
    job.secrets |= {"secret value": first, "secret value, replaced": second}
    watched(job, "secret put", "owner", "secret", "put", NAME, "--fd", "0", "--team", TEAM, stdin=first)
    told = len(keys_told(job).read_bytes())
    assert watched(job, "secret checkout", "builder", "secret", "checkout", _granted(job), "--stdout") == first
    job.secrets["checkout key"] = keys_told(job).read_bytes()[told : told + 32]
    assert len(job.secrets["checkout key"]) == 32
    file = folder / "value"
    file.write_bytes(second)
    watched(job, "secret rotate", "owner", "secret", "rotate", NAME, "--file", str(file))
    file.unlink()
    assert bytes(house.client("builder").checkout(_granted(job))) == second


def _granted(job: Job) -> str:
    client = job.house.client("builder")
    asked = client.request_access(NAME, "value", ceiling="execute", ttl=timedelta(minutes=5), reason="migrate")
    job.house.decide(asked.id)
    return asking.require_grant(client.get_request(asked.id))


def _database(job: Job, folder: Path, shop: Shop) -> None:
    """The broker's own password of a server, and a role's, of which the broker gets the verifier: used, and ended."""
    house = job.house
    (folder / "ca.pem").write_text(shop.ca)
    (folder / "shop.toml").write_text(_SETTINGS.format(name=shop.name, admin=shop.admin))
    words = ("--kind", "postgres", "--settings", str(folder / "shop.toml"), "--team", TEAM)
    added = house.ctl("owner", "target", "add", SHOP, f"127.0.0.1:{shop.port}", *words)
    assert added.status == 0, added.err
    job.secrets["database password"] = shop.password.encode()
    watched(job, "target password", "owner", "target", "password", SHOP, stdin=shop.password.encode() + b"\n")
    client = house.client("builder")
    grant = client.obtain(SHOP, "report", ceiling="read", ttl=timedelta(minutes=5), reason="monthly figures")
    password = database.new_password()
    wish = database.wish(grant, password)
    stored, server = wish.database.scram_verifier.rpartition("$")[2].split(":")
    job.secrets |= {
        "role password": password.encode(),
        "role's stored key": base64.b64decode(stored),
        "role's server key": base64.b64decode(server),
    }
    made = database.opened(client.call(client.access.IssueCredential, wish), password)
    with shop.login(made.user, password) as session:
        assert session.execute("SELECT count(*) FROM app.orders").fetchone() == (2,)
    watched(job, "db open", "builder", "db", "open", SHOP, "report", "--reason", "again")
    client.revoke(grant, "done")
    job.logs["log of the database server"] = shop.cluster.folder / "log"


def _glass(job: Job, folder: Path) -> None:
    """A sealed credential, made by an owner and used by the one it is for."""
    house, file, words = job.house, folder / "glass", folder / "glass.words"
    of = ("--person", "approver", "--target", ASKS, "--login", house.sshd.login, "--ceiling", "write")
    kept = ("--out", str(file), "--passphrase-file", str(words))
    watched(job, "break-glass make", "owner", "break-glass", "make", *of, *kept)
    use = ("break-glass", "use", str(file), "--passphrase-file", str(words), "--reason", "the shop is down", "--", "id")
    watched(job, "break-glass use", "approver", *use)
    passphrase = words.read_text().strip()
    job.secrets["sealed passphrase"] = passphrase.encode()
    job.secrets["sealed key"] = Sealed.parse(file.read_bytes()).open(passphrase).key.private_bytes_raw()


def _joins(job: Job) -> None:
    """A join secret that somebody was given and has not used: the broker keeps what it would know it by."""
    client = job.house.client("owner")
    asked = admin_pb2.AddAgentRequest(idempotency_key=asking.new_key(), name="expected", teams=[TEAM])
    job.secrets["unspent join secret"] = client.call(client.admin.AddAgent, asked).join_secret
