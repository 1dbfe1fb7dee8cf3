"""Client by client, what works through the whole broker on a real sshd; the table in docs/ssh.md is this one.

`python -m pytest -s tests/e2e/test_client_matrix.py` prints it.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import asyncssh
import pytest

from grantd.cli.sshfiles import SshFiles
from tests import peers
from tests.e2e.stage import House, finish

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-clients")]
PAGE = Path(__file__).parents[2] / "docs" / "ssh.md"
COLUMNS: Final = ("exec", "terminal", "stdin", "exit code", "signal", "upload", "download", "shell")
FLAGS: Final = ("sftp", "stream_stdin", "shell", "sessions=10")
LOOP: Final = "echo ready; sleep 60"


class Openssh:
    """The programs of OpenSSH, and those that start its ssh."""

    def __init__(self, house: House, files: SshFiles, folder: Path) -> None:
        self.files, self.folder, self.at = files, folder, f"{files.user}@{files.host}"
        self.options = house.ssh_options(files)
        self.base = ["ssh", *self.options, "-p", str(files.port)]
        (folder / "here").write_bytes(b"content")

    def ssh(self, *words: str, stdin: bytes = b"") -> tuple[int, str]:
        ran = finish([*self.base, *words], stdin=stdin)
        return ran.status, ran.out

    def ctrl_c(self) -> bool:
        """In a terminal, where no keyboard is passed on."""
        words, pipe = [*self.base, "-tt", self.at, LOOP], subprocess.PIPE
        with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert b"ready" in process.stdout.readline()
            process.stdin.write(b"\x03")
            process.stdin.flush()
            return process.wait(60) != 0

    def copied(self, *words: str, back: bool = False) -> bool:
        """Whether a copy arrives."""
        (self.folder / "there").unlink(missing_ok=True)
        if back:
            (self.folder / "there").write_bytes(b"content")
        ran = finish(list(words))
        arrived = self.folder / ("back" if back else "there")
        return ran.status == 0 and arrived.read_bytes() == b"content"

    def rows(self) -> Mapping[str, Mapping[str, Callable[[], bool]]]:
        """Each client, and how each thing is tried."""
        here, there, back = (str(self.folder / name) for name in ("here", "there", "back"))
        scp = ["scp", *self.options, "-P", str(self.files.port)]
        sftp = ["sftp", *self.options, "-P", str(self.files.port)]
        rsync = [str(peers.require("rsync")), "-e", " ".join(self.base)]
        put, get = self.folder / "put", self.folder / "get"
        put.write_text(f"put {here} {there}\n")
        get.write_text(f"get {there} {back}\n")
        return {
            "`ssh`": {
                "exec": lambda: self.ssh(self.at, "echo yes") == (0, "yes\n"),
                "terminal": lambda: self.ssh("-tt", self.at, "tty >/dev/null && echo yes") == (0, "yes\r\n"),
                "stdin": lambda: self.ssh(self.at, "cat", stdin=b"in") == (0, "in"),
                "exit code": lambda: self.ssh(self.at, "exit 77")[0] == 77,
                "signal": self.ctrl_c,
                "shell": lambda: "yes" in self.ssh("-T", self.at, stdin=b"echo yes\n")[1],
            },
            "`scp -O`": {
                "upload": lambda: self.copied(*scp, "-O", here, f"{self.at}:{there}"),
                "download": lambda: self.copied(*scp, "-O", f"{self.at}:{there}", back, back=True),
            },
            "`scp`": {
                "upload": lambda: self.copied(*scp, here, f"{self.at}:{there}"),
                "download": lambda: self.copied(*scp, f"{self.at}:{there}", back, back=True),
            },
            "`sftp`": {
                "upload": lambda: self.copied(*sftp, "-b", str(put), self.at),
                "download": lambda: self.copied(*sftp, "-b", str(get), self.at, back=True),
            },
            "`rsync`": {
                "upload": lambda: self.copied(*rsync, here, f"{self.at}:{there}"),
                "download": lambda: self.copied(*rsync, f"{self.at}:{there}", back, back=True),
            },
        }


class Asyncssh:
    """The library, by its own words."""

    def __init__(self, files: SshFiles, folder: Path) -> None:
        self.files, self.folder = files, folder

    async def tried(self) -> Mapping[str, bool]:
        """Column by column, on one connection."""
        key = asyncssh.read_private_key(self.files.key)
        certificate = asyncssh.read_certificate(self.files.certificate)
        async with asyncssh.connect(
            self.files.host, self.files.port, username=self.files.user, client_keys=[(key, certificate)],
            known_hosts=str(self.files.known_hosts), config=None, agent_path=None,
        ) as client:  # fmt: skip
            return {
                "exec": (await client.run("echo yes")).stdout == "yes\n",
                "terminal": "pts" in str((await client.run("tty", term_type="xterm")).stdout),
                "stdin": (await client.run("cat", input="in")).stdout == "in",
                "exit code": (await client.run("exit 77")).exit_status == 77,
                "signal": await self._signal(client),
                "upload": await self._files(client, "put"),
                "download": await self._files(client, "get"),
                "shell": "yes" in str((await client.run(input="echo yes\n")).stdout),
            }

    async def _signal(self, client: asyncssh.SSHClientConnection) -> bool:
        process = await client.create_process(LOOP)
        await process.stdout.readuntil("ready\n")
        process.send_signal("TERM")
        ended = (await process.wait()).exit_signal
        return ended is not None and ended[0] == "TERM"

    async def _files(self, client: asyncssh.SSHClientConnection, how: str) -> bool:
        source, copy = self.folder / "here", self.folder / f"asyncssh-{how}"
        async with client.start_sftp_client() as sftp:
            await (sftp.put if how == "put" else sftp.get)(str(source), str(copy))
        return copy.read_bytes() == b"content"


def line(name: str, worked: Mapping[str, bool]) -> str:
    """A row of the table: yes, no, or nothing where the client has no such thing."""
    cells = ("yes" if worked[column] else "no" for column in COLUMNS if column in worked)
    shown = (next(cells) if column in worked else "" for column in COLUMNS)
    return f"| {' | '.join([name, *shown])} |"


def test_the_table_of_clients_is_true(house: House, tmp_path: Path) -> None:
    """Every cell of docs/ssh.md was just tried (I-18)."""
    files = house.ssh_files(house.grant(flags=FLAGS))
    table = [f"| {' | '.join(['client', *COLUMNS])} |"]
    for name, row in Openssh(house, files, tmp_path).rows().items():
        table.append(line(name, {column: work() for column, work in row.items()}))
    table.append(line("AsyncSSH", asyncio.run(Asyncssh(files, tmp_path).tried())))
    print("\n".join(table))  # noqa: T201  for whoever asks with -s
    told = [row for row in PAGE.read_text().splitlines() if row.startswith(("| client |", "| `s", "| `r", "| Async"))]
    assert told == table
