"""The canary sweep: secrets that were really used, looked for everywhere that they must not be (I-36, I-51, I-53).

`python -m tests.e2e.canary` walks the main job in a house of its own and prints the table: places, how much was read
there, what was found. test_canary.py holds it to nothing found, and plants one leak for each kind of place.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from grantd.v1 import audit_pb2
from tests.processes import descendants

if TYPE_CHECKING:
    from tests.e2e.stage import House

SETTLE_SECONDS: Final = 5.0
"""What a process may still hold of a secret that it is done with."""
_REGION = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw.. \S+ \S+ \S+ *(.*)")
_STEP = 16 << 20
_TAIL = 16
"""Bytes of a secret that are proof enough: an allocator overwrites the first ones of what it gets back."""

_SIGNS = "its one place: this process signs with it"
IN_USE: Final[Mapping[str, Mapping[str, str]]] = {
    "broker": {
        "root key": "opens the tenants' keys for as long as the broker runs",
        "token seed": "signs grant tokens for as long as the broker runs",
        "head seed": "signs the audit log's heads for as long as the broker runs",
        "upload key": "opens what is put into the vault for as long as the broker runs",
    },
    "signer": {
        "ingress.key": _SIGNS,
        "egress.key": _SIGNS,
        "host.key": _SIGNS,
        "x509.key": _SIGNS,
        "journal.key": _SIGNS,
    },
    "worker": {},
}
"""Process -> secrets that it holds because they are at work there, and why: not looked for in its memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A secret where it must not be."""

    kind: str
    place: str
    secret: str
    form: str


@dataclass(slots=True, kw_only=True)
class Swept:
    """One kind of place: how many, how many bytes, what was found."""

    places: int = 0
    size: int = 0
    found: list[Finding] = field(default_factory=list)


def forms(secret: bytes) -> dict[str, bytes]:
    """Every spelling that is looked for; the raw one is its last bytes, which an allocator leaves alone."""
    told = {"raw": secret[-_TAIL:] if len(secret) >= 2 * _TAIL else secret, "hex": secret.hex().encode()}
    told["HEX"] = told["hex"].upper()
    for offset in range(3):
        # without the first and last characters that depend on what stands beside it
        whole = base64.b64encode(bytes(offset) + secret)
        told[f"base64+{offset}"] = whole[4 if offset else 0 : -4]
        told[f"base64url+{offset}"] = told[f"base64+{offset}"].replace(b"+", b"-").replace(b"/", b"_")
    told["reversed"] = secret[::-1]  # how a big number lies in the memory of this machine
    text = secret.decode("latin-1")
    told["json"] = json.dumps(text)[1:-1].encode()
    told["url"] = urllib.parse.quote_from_bytes(secret).encode()
    unique: dict[bytes, str] = {}
    for name, spelt in told.items():
        unique.setdefault(spelt, name)
    return {name: spelt for spelt, name in unique.items()}


class Sweep:
    """Looks for the given secrets and keeps count."""

    def __init__(self, secrets: Mapping[str, bytes]) -> None:
        self._needles = {name: forms(secret) for name, secret in secrets.items()}
        self._longest = max(len(spelt) for told in self._needles.values() for spelt in told.values())
        self.swept: dict[str, Swept] = {}

    def look(self, kind: str, place: object, parts: Iterable[bytes], *, without: Iterable[str] = ()) -> list[Finding]:
        """Searches the parts of one place as the stretch of bytes that they are; returns what it found there."""
        count = self.swept.setdefault(kind, Swept())
        count.places += 1
        found: set[Finding] = set()
        held = b""
        for part in parts:
            count.size += len(part)
            held += part
            found |= set(self._in(kind, str(place), held, frozenset(without)))
            held = held[-self._longest :]
        count.found += sorted(found, key=str)
        return sorted(found, key=str)

    def found(self) -> list[Finding]:
        """Everything that was found."""
        return [finding for swept in self.swept.values() for finding in swept.found]

    def table(self) -> str:
        """The kinds of places, how many of each, how much was read, how often a secret was found."""
        lines = [f"{'kind of place':34} {'places':>7} {'MiB':>8} {'found':>6}"]
        for kind, count in self.swept.items():
            lines.append(f"{kind:34} {count.places:7} {count.size / 2**20:8.1f} {len(count.found):6}")
        return "\n".join(lines)

    def _in(self, kind: str, place: str, data: bytes, without: frozenset[str]) -> Iterator[Finding]:
        for secret, told in self._needles.items():
            if secret not in without:
                for form, spelt in told.items():
                    if spelt in data:
                        yield Finding(kind=kind, place=place, secret=secret, form=form)


# ---- places ----------------------------------------------------------------------------------------------------------
_KINDS: Final = {
    ".log": "log",
    ".db": "database pages",
    ".db-wal": "write-ahead log",
    ".db-shm": "write-ahead log",
    ".grec": "recordings, as stored",
    ".grwf": "search filters",
}


def sweep_files(sweep: Sweep, house: House, keys: Iterable[Path]) -> None:
    """Whatever the broker and the signer wrote, but for the files that are keys by name, and their temporary files."""
    keys = set(keys)
    for path in sorted([house.log, *house.data.rglob("*")]):
        if path.is_file() and not keys & {path, *path.parents}:
            kind = (
                "signer's journal" if path.parent == house.data / "signer" else _KINDS.get(path.suffix, "other state")
            )
            sweep.look(kind, path, _file(path))
    for folder in (Path(tempfile.gettempdir()), Path("/dev/shm"), Path("/var/tmp")):  # noqa: S108  read, never written
        for path in sorted(folder.glob("*")):
            if path.is_file():
                sweep.look("temporary files", path, _file(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What the broker tells those who may ask: by name."""

    entries: Mapping[str, bytes]
    """Of the audit log, with what they disclose."""
    played: Mapping[str, bytes]
    metrics: bytes


def told(house: House) -> Outside:
    """All of it, as an owner gets it."""
    sessions = [session["id"] for session in house.ctl("owner", "sessions", "list", "-o", "json").json()]
    with urllib.request.urlopen(f"http://127.0.0.1:{house.ports[3]}/metrics", timeout=30) as answer:
        metrics = answer.read()
    return Outside(
        entries={str(event.seq): event.SerializeToString() for event in _events(house)},
        played={session: b"".join(event.payload for event in house.played(session)) for session in sessions},
        metrics=metrics,
    )


def _events(house: House) -> Iterator[audit_pb2.AuditEvent]:
    client, seq = house.client("owner"), 0
    while True:
        page = client.call(client.audit.ListEvents, audit_pb2.ListEventsRequest(from_seq=seq, reason="a test"))
        yield from page.events
        seq = page.next_seq
        if not seq:
            return


def sweep_outside(sweep: Sweep, outside: Outside, said: Mapping[str, str]) -> None:
    """What clients are told: audit entries and what they disclose, what a player shows, metrics, errors."""
    for name, data in outside.entries.items():
        sweep.look("audit entries", name, [data])
    for name, data in outside.played.items():
        sweep.look("recordings, as played", name, [data])
    sweep.look("metrics", "/metrics", [outside.metrics])
    for name, text in said.items():
        sweep.look("error texts", name, [text.encode()])


def sweep_clients(sweep: Sweep, clients: Mapping[str, bytes], logs: Mapping[str, Path]) -> None:
    """What the kernel showed of grantctl while it ran; what a target's own server wrote."""
    for name, data in clients.items():
        sweep.look("words and variables of grantctl", name, [data])
    for name, path in logs.items():
        sweep.look(name, path, _file(path))


def sweep_processes(sweep: Sweep, house: House) -> None:
    """Words, variables and memory of broker, signer and workers, as root sees them."""
    for pid, role in roles(house).items():
        for name in ("cmdline", "environ"):
            sweep.look(f"{name} of processes", f"{role} {pid}", [Path(f"/proc/{pid}/{name}").read_bytes()])
        sweep.look(f"memory of the {role}", pid, memory(pid), without=IN_USE[role])


def roles(house: House) -> dict[int, str]:
    """Process id -> broker, signer or worker."""
    found = {house.pid: "broker"}
    for pid in descendants(house.pid):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            for role in ("signer", "worker"):
                if f"broker.{role}".encode() in words:
                    found[pid] = role
    return found


def memory(pid: int) -> Iterator[bytes]:
    """Everything that a process can write to: heap, stacks, arenas, data. An unreadable page is passed over."""
    regions = [found for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if (found := _REGION.match(line))]
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        for region in regions:
            at, end = int(region[1], 16), int(region[2], 16)
            while at < end:
                with contextlib.suppress(OSError):
                    file.seek(at)
                    yield file.read(min(_STEP, end - at))
                at += _STEP


def core_limits(house: House) -> dict[str, str]:
    """Role -> what the kernel would write of it in a crash: soft and hard limit of a core file."""
    told = {}
    for pid, role in roles(house).items():
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
        line = next(each for each in lines if each.startswith("Max core file size"))
        told[f"{role} {pid}"] = " ".join(line.split()[4:6])
    return told


def _file(path: Path) -> Iterator[bytes]:
    with contextlib.suppress(OSError), path.open("rb") as file:  # it ended meanwhile, or is a socket
        while part := file.read(_STEP):
            yield part


def main() -> int:
    """Walks the job, sweeps, prints; 0 where nothing was found."""
    from tests.e2e.canary_job import lived_in  # noqa: PLC0415  the job needs the whole stage
    from tests.peers_postgres import PostgresCluster  # noqa: PLC0415

    with contextlib.ExitStack() as stack:
        cluster = PostgresCluster.start()
        stack.callback(cluster.stop)
        job = stack.enter_context(lived_in(Path(stack.enter_context(tempfile.TemporaryDirectory())), cluster))
        time.sleep(SETTLE_SECONDS)
        sweep = job.sweep()
        print(f"{len(job.secrets)} secrets, each in up to {len(forms(bytes(range(64))))} forms:")
        print("  " + ", ".join(job.secrets))
        print(sweep.table())
        for role, held in IN_USE.items():
            for name, why in held.items():
                print(f"not looked for in the memory of the {role}: {name} ({why})")
        for pid, limits in core_limits(job.house).items():
            print(f"core file limits of {pid}: {limits}")
        for finding in sweep.found():
            print("FOUND", finding)
    return 1 if sweep.found() else 0


if __name__ == "__main__":
    sys.exit(main())
