"""The real programs that tests and benchmarks talk to, and what it means when one is missing.

Looks on this machine first, then in .cache/debs, which `make peers` fills. Never installs or starts anything. A
missing peer skips its test with the reason; where the environment variable GRANTD_REQUIRE names the peer (CI names
all that it can install), the same absence is a failure, so a partial run never passes for a full one.
"""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).resolve().parent.parent
PRIVATE_ROOT: Final = REPOSITORY / ".cache" / "debs" / "root"

OPENSSH: Final = "usr/lib/openssh"
"""Where Debian keeps OpenSSH's helpers, such as sftp-server."""
CLIENTS: Final = REPOSITORY / ".venv-clients" / "bin"
"""Where `make clients` puts Ansible, and a Python with Paramiko."""
# peer, as GRANTD_REQUIRE names it -> the programs it stands for
PEERS: Final = {
    "chromium": ("chromium-headless-shell",),
    "clients": ("ansible", "ansible-playbook"),
    "copies": ("git", "rsync"),
    "faketime": ("faketime",),
    "less": ("less",),
    "postgres": ("postgres", "initdb"),
    "sshd": ("sshd", "ssh", "ssh-keygen", "ssh-agent", "sftp", "scp", "sftp-server"),
    "systemd": ("systemd-analyze",),
    "tmux": ("tmux",),
    "vim": ("vim.basic",),
}


class PeerMissing(RuntimeError):
    """A program is neither on this machine nor in .cache/debs; the message says how to get it."""


def find(program: str) -> Path | None:
    """The program's absolute path without symbolic links (sshd and PostgreSQL look beside themselves), or None."""
    for place in _places():
        candidate = place / program
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate.resolve()
    return None


def get(program: str) -> Path:
    """As find, but a missing program raises PeerMissing. For code that is no test; tests call require."""
    found = find(program)
    if found is None:
        make = "clients" if program in PEERS["clients"] else "peers"
        raise PeerMissing(
            f"{program} is not on this machine nor in .cache/debs: run `make {make}` and read what it says"
        )
    return found


def require(program: str) -> Path:
    """As find, but a missing program skips the running test, or fails it where GRANTD_REQUIRE names its peer."""
    try:
        return get(program)
    except PeerMissing as missing:
        if peer_of(program) in required():
            pytest.fail(f"GRANTD_REQUIRE names {peer_of(program)}: {missing}", pytrace=False)
        pytest.skip(str(missing))


def environment(program: Path) -> dict[str, str]:
    """The environment to run the program in: this process's, and for an unpacked program its own libraries as well."""
    inherited = dict(os.environ)
    if not program.is_relative_to(PRIVATE_ROOT):
        return inherited
    # libpulse keeps a library of its own in a folder below
    places = ("usr/lib/*-linux-gnu*", "lib/*-linux-gnu*", "usr/lib/*-linux-gnu*/pulseaudio")
    libraries = [folder for place in places for folder in PRIVATE_ROOT.glob(place)]
    inherited["LD_LIBRARY_PATH"] = ":".join(str(folder) for folder in libraries)
    return inherited


def peer_of(program: str) -> str:
    """The name that GRANTD_REQUIRE uses for the program. A program that no peer lists raises KeyError."""
    for peer, programs in PEERS.items():
        if program == peer or program in programs:
            return peer
    raise KeyError(f"no peer lists the program {program!r}")


def required() -> frozenset[str]:
    """The peers named by GRANTD_REQUIRE. An unknown name raises ValueError: a misspelt one would require nothing."""
    names = frozenset(name for name in os.environ.get("GRANTD_REQUIRE", "").split(",") if name)
    if unknown := names - PEERS.keys():
        raise ValueError(f"GRANTD_REQUIRE names unknown peers {sorted(unknown)}; known are {sorted(PEERS)}")
    return names


@functools.cache
def _places() -> tuple[Path, ...]:
    on_path = [Path(entry) for entry in os.get_exec_path() if entry]
    well_known = [Path("/usr/sbin"), Path("/sbin"), Path("/usr/local/sbin"), *_postgres_folders(Path("/"))]
    well_known.append(Path("/") / OPENSSH)
    # Debian's wrapper of the browser names the place of an installed one, so its folder goes before usr/bin
    folders = ("usr/lib/chromium", "usr/bin", "usr/sbin", OPENSSH)
    unpacked = [*(PRIVATE_ROOT / folder for folder in folders), *_postgres_folders(PRIVATE_ROOT)]
    return (CLIENTS, *on_path, *well_known, *unpacked)


def _postgres_folders(root: Path) -> list[Path]:
    """Debian keeps each major version's programs in a folder of its own; newest first."""
    folders = root.glob("usr/lib/postgresql/[0-9]*/bin")
    return sorted(folders, key=lambda folder: int(folder.parent.name), reverse=True)


def describe() -> str:
    """One line for a report's head: which peers are there, and this machine's kind."""
    states = (f"{peer} {'yes' if all(map(find, programs)) else 'NO'}" for peer, programs in PEERS.items())
    return f"peers: {', '.join(states)} ({platform.machine()})"
