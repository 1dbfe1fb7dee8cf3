"""Client by client, what works through the whole broker on a real sshd; the table in docs/ssh.md is this one.

`python -m pytest -s tests/e2e/test_client_matrix.py` prints it, with the versions that it has just met.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import asyncssh
import pytest

from tests import peers
from tests.e2e.ansible import FLAGS as FOR_ANSIBLE
from tests.e2e.clients import Asyncssh, Openssh, ansible_tries, paramiko_tried
from tests.e2e.stage import House

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-clients"), pytest.mark.timeout(240)]
PAGE = Path(__file__).parents[2] / "docs" / "ssh.md"
COLUMNS: Final = ("exec", "terminal", "stdin", "exit code", "signal", "upload", "download", "shell")
FLAGS: Final = (*FOR_ANSIBLE, "shell")
_COPIES: Final = MappingProxyType(dict.fromkeys(COLUMNS, "copies only"))
WHY_NOT: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "`ssh`": {"upload": "see scp", "download": "see scp"},
        **dict.fromkeys(("`scp -O`", "`scp`", "`sftp`", "`rsync`", "`git`"), _COPIES),
        "Paramiko": {"signal": "cannot send one"},
        "Ansible": {"terminal": "uses none", "stdin": "its modules", "signal": "sends none", "shell": "uses none"},
    }
)
"""What a cell says where the client has no such thing."""


def _said(*words: str) -> str:
    """The version in what a program says of itself."""
    ran = subprocess.run([str(peers.require(words[0])), *words[1:]], capture_output=True, check=False)
    found = re.search(rb"\d+\.\d+[.p\d]*", ran.stdout + ran.stderr)
    assert found is not None, ran
    return found[0].decode()


LOCKED: Final = ("AsyncSSH", "Paramiko", "Ansible")
"""Clients that requirements/ names: the page's version of them is exact. The others are the machine's own."""


def versions() -> Mapping[str, str]:
    """What each client says it is; Paramiko says it when it is tried."""
    theirs = {"`rsync`": _said("rsync", "--version"), "`git`": _said("git", "--version")}
    ours = {"AsyncSSH": asyncssh.__version__, "Paramiko": "", "Ansible": _said("ansible", "--version")}
    return dict.fromkeys(("`ssh`", "`scp -O`", "`scp`", "`sftp`"), _said("ssh", "-V")) | theirs | ours


def row(name: str, release: str, worked: Mapping[str, bool]) -> str:
    """A row of the table: yes, no, or why the client has no such thing."""
    cells = ("yes" if worked[each] else "no" for each in COLUMNS if each in worked)
    shown = [next(cells) if each in worked else WHY_NOT[name][each] for each in COLUMNS]
    return f"| {' | '.join([name, release, *shown])} |"


def tried(house: House, folder: Path) -> tuple[str, Mapping[str, Mapping[str, bool]]]:
    """Every client, on one grant: Paramiko's version, and what worked."""
    files = house.ssh_files(house.grant(flags=FLAGS))
    stock = Openssh(house, files, folder).rows(house)
    worked = {name: _each(tries) for name, tries in stock.items()}
    worked["AsyncSSH"] = asyncio.run(Asyncssh(files, folder).tried())
    paramiko, worked["Paramiko"] = paramiko_tried(files, folder)
    worked["Ansible"] = _each(ansible_tries(house, files, folder))
    return paramiko, worked


def _each(tries: Mapping[str, Callable[[], bool]]) -> Mapping[str, bool]:
    return {column: work() for column, work in tries.items()}


def test_the_table_of_clients_is_true(house: House, tmp_path: Path) -> None:
    """Every cell of docs/ssh.md was just tried, and the locked clients' versions are the page's (I-18)."""
    head = ["client", "version", *COLUMNS]
    paramiko, worked = tried(house, tmp_path)
    met = {**versions(), "Paramiko": paramiko}
    table = [f"| {' | '.join(head)} |", *(row(name, met[name], cells) for name, cells in worked.items())]
    print("\n".join(table))  # noqa: T201  for whoever asks with -s
    page = [line.split(" | ") for line in PAGE.read_text().splitlines() if _is_row(line, met)]
    found = [line.split(" | ") for line in table]
    assert [line[:1] + line[2:] for line in page] == [line[:1] + line[2:] for line in found]
    assert {line[0]: line[1] for line in page if line[0][2:] in LOCKED} == {f"| {name}": met[name] for name in LOCKED}


def _is_row(line: str, met: Mapping[str, str]) -> bool:
    return line.startswith(("| client | version |", *(f"| {name} | " for name in met)))
