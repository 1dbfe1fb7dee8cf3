"""Other people's SSH clients, and how each thing that one can do is tried."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import asyncssh

from grantd.cli.sshfiles import SshFiles
from tests import peers
from tests.e2e.ansible import Ansible, allowing
from tests.e2e.programs import finish
from tests.e2e.stage import House
from tests.e2e.test_stock_clients import approving

LOOP: Final = "echo ready; sleep 60"
Tries = Mapping[str, Callable[[], bool]]
"""What is tried, by column."""


class Openssh:
    """The programs of OpenSSH, and those that start its ssh."""

    def __init__(self, house: House, files: SshFiles, folder: Path) -> None:
        self.files, self.folder, self.at = files, folder, f"{files.user}@{files.host}"
        self.options = house.ssh_options(files)
        self.base = ["ssh", *self.options, "-p", str(files.port)]
        (folder / "here").write_bytes(b"content")
        self._git, self._url = str(peers.require("git")), f"ssh://{self.at}:{files.port}{folder}/there.git"
        self._env = {"GIT_SSH_COMMAND": " ".join(self.base), "GIT_CONFIG_GLOBAL": "/dev/null"}

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

    def rows(self, house: House) -> Mapping[str, Tries]:
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
            "`git`": {"upload": lambda: self.pushed(house), "download": self.cloned},
        }

    def pushed(self, house: House) -> bool:
        """A push to a new repository; a person allows it."""
        work, there = self.folder / "work", self.folder / "there.git"
        for words in (["init", "-q", "--bare", "-b", "main", str(there)], ["init", "-q", str(work)]):
            assert finish([self._git, *words]).status == 0
        (work / "f").write_bytes(b"content")
        at_work = [self._git, "-C", str(work), "-c", "user.name=a", "-c", "user.email=a@b"]
        for words in (["add", "f"], ["commit", "-q", "-m", "one"]):
            assert finish([*at_work, *words]).status == 0
        return (
            approving(house, [*at_work, "push", "-q", self._url, "HEAD:main"], "receive-pack", **self._env).status == 0
        )

    def cloned(self) -> bool:
        """A clone of what was pushed."""
        ran = finish([self._git, "clone", "-q", "-b", "main", self._url, str(self.folder / "again")], env=self._env)
        return ran.status == 0 and (self.folder / "again" / "f").read_bytes() == b"content"


def paramiko_tried(files: SshFiles, folder: Path) -> tuple[str, Mapping[str, bool]]:
    """Its version, and what worked; in a process of its own, with its own environment."""
    python, script = peers.require("ansible").with_name("python"), Path(__file__).with_name("paramiko_client.py")
    where = [files.host, str(files.port), files.user, str(files.key), str(files.certificate), str(folder)]
    ran = finish([str(python), str(script), *where])
    assert ran.status == 0, ran
    (told,) = ran.json()
    return told["version"], told["worked"]


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


def ansible_tries(house: House, files: SshFiles, folder: Path) -> Tries:
    """One play that does what Ansible can; each task asks a person."""
    ansible = Ansible(house, files, folder, pipelining=True)
    (folder / "remote").mkdir()
    play = (
        "    - command: echo yes\n      register: said\n"
        "    - shell: exit 77\n      register: ended\n      failed_when: ended.rc != 77\n"
        f"    - copy: {{src: {folder}/here, dest: {folder}/copied}}\n"
        f"    - fetch: {{src: {folder}/copied, dest: {folder}/fetched, flat: true}}\n"
        "    - assert: {that: [said.stdout == 'yes']}\n"
    )
    with allowing(house):
        ran = ansible.playbook(play)
    ansible.close()
    return {
        "exec": lambda: ran.status == 0,
        "exit code": lambda: ran.status == 0,
        "upload": lambda: (folder / "copied").read_bytes() == b"content",
        "download": lambda: (folder / "fetched").read_bytes() == b"content",
    }
