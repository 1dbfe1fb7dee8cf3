"""What a profile keeps for ssh, one directory a login and target, and whether it still opens the gateway.

    ssh/gateway.conf     HostKeyAlias, for the file that `grantctl ssh-config` writes
    ssh/gateway.json     where the gateway listens
    ssh/known_hosts      the host CA under that alias
    ssh/at/deploy+web1/  id_ed25519, id_ed25519-cert.pub, known_hosts, state.json, pending.json, lock
    ssh/at/USER@HOST     -> deploy+web1: one link for each way in which somebody writes it

Standard library alone, and no broker: it is read at every connection of ssh.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from grantd.cli.ssh.place import Place

CHECK_SECONDS: Final = 60.0
"""How long a certificate is taken for good without asking the broker whether its grant still stands."""
CLASSES: Final = ("read", "write", "execute", "install", "reboot")
_MARGIN_SECONDS: Final = 60.0
_MARGIN_PART: Final = 10
_MAX_BYTES: Final = 64 * 1024


class Wish(NamedTuple):
    """What a certificate has to be good for. An empty ceiling: whatever there is."""

    ceiling: str = ""
    flags: tuple[str, ...] = ()

    def is_covered(self, ceiling: str, flags: Sequence[str]) -> bool:
        """Whether a grant of that ceiling with those flags is enough."""
        if ceiling not in CLASSES or not set(self.flags) <= set(flags):
            return False
        return not self.ceiling or CLASSES.index(self.ceiling) <= CLASSES.index(ceiling)


class State(NamedTuple):
    """What is known of the certificate that lies there."""

    grant: str
    ceiling: str
    flags: tuple[str, ...]
    renew_at: float
    """Seconds since the epoch: too near to the end for a new session from then on."""
    checked_at: float
    """When the broker last said that the grant stands."""

    def is_usable(self, wish: Wish, now: float) -> bool:
        """Whether it is good enough and has time left."""
        return now < self.renew_at and wish.is_covered(self.ceiling, self.flags)

    def is_fresh(self, wish: Wish, now: float) -> bool:
        """Whether it can be used without a word from the broker."""
        return self.is_usable(wish, now) and 0 <= now - self.checked_at < CHECK_SECONDS


def root_of(profile: Path) -> Path:
    """Where a profile keeps what ssh needs."""
    return profile / "ssh"


def directory_of(profile: Path, place: Place) -> Path:
    """Where the files of one login on one target are."""
    return root_of(profile) / "at" / place.user


def link_of(profile: Path, user: str, host: str) -> Path:
    """The same directory by the name that `%r@%h` gives in a ssh_config."""
    return root_of(profile) / "at" / f"{user}@{host.lower()}"


def state_in(directory: Path) -> State | None:
    """What lies in a directory; None where nothing does, or nothing that can be read."""
    path = directory / "state.json"
    try:
        table = json.loads(_small(path))
        return State(
            grant=str(table["grant"]),
            ceiling=str(table["ceiling"]),
            flags=tuple(map(str, table["flags"])),
            renew_at=float(table["renew_at"]),
            checked_at=path.stat().st_mtime,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def renewal_of(not_after: float, now: float) -> float:
    """When a certificate that ends at `not_after` is not begun anything new with: a tenth before, at most a minute."""
    return not_after - min(_MARGIN_SECONDS, max(0.0, not_after - now) / _MARGIN_PART)


def touch(directory: Path) -> None:
    """Remember that the broker was asked just now."""
    os.utime(directory / "state.json")


def link(profile: Path, place: Place, user: str, host: str) -> None:
    """Let ssh find the files under the names that were typed."""
    path = link_of(profile, user, host)
    if path.name == place.user or _points_to(path, place.user):
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    beside.symlink_to(place.user)
    beside.rename(path)


def is_linked(profile: Path, place: Place, user: str, host: str) -> bool:
    """Whether ssh finds them."""
    return _points_to(link_of(profile, user, host), place.user)


def gateway_of(profile: Path) -> tuple[str, int] | None:
    """Host and port of the gateway, as the broker told them last."""
    try:
        table = json.loads(_small(root_of(profile) / "gateway.json"))
        return str(table["host"]), int(table["port"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def pending_in(directory: Path) -> dict[str, Any]:
    """The access request that somebody here waits for; empty where nobody does."""
    try:
        table = json.loads(_small(directory / "pending.json"))
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def now() -> float:
    """Seconds since the epoch."""
    return time.time()


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Exclusive among processes, for whoever asks the broker or replaces files. Waits; makes the directory."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _points_to(path: Path, name: str) -> bool:
    try:
        return path.readlink() == Path(name)
    except OSError:
        return False


def _small(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_BYTES)
