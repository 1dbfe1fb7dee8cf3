"""Ansible as people run it: its own programs over the stock ssh, and somebody who allows what it asks for."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from grantd.cli.sshfiles import SshFiles
from grantd.v1.approval_pb2 import ListPendingRequest
from tests import peers
from tests.e2e.programs import Spoken, finish
from tests.e2e.stage import House

FLAGS = ("sftp", "stream_stdin", "sessions=10")
"""What a grant for Ansible needs: files, modules on stdin, and several commands on one connection."""


class Ansible:
    """One host, reached through the gateway, with folders of its own."""

    def __init__(self, house: House, files: SshFiles, folder: Path, *, pipelining: bool) -> None:
        self._folder, self._control = folder, Path(tempfile.mkdtemp(prefix="cp"))
        ssh = " ".join(house.ssh_options(files))
        (folder / "hosts").write_text(
            f"web1 ansible_host={files.host} ansible_port={files.port} ansible_user={files.user} "
            f"ansible_python_interpreter={Path(sys.executable).resolve()} ansible_ssh_common_args='{ssh}'\n"
        )
        (folder / "ansible.cfg").touch()  # nothing of this machine's
        self._env = {
            "ANSIBLE_HOME": str(folder / "home"),
            "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
            "ANSIBLE_INVENTORY": str(folder / "hosts"),
            "ANSIBLE_REMOTE_TMP": str(folder / "remote"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self._control),
            "ANSIBLE_PIPELINING": str(pipelining),
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
        }

    def module(self, name: str, arguments: str = "") -> Spoken:
        """`ansible web1 -m NAME -a ARGUMENTS`."""
        return finish([str(peers.require("ansible")), "web1", "-m", name, "-a", arguments], env=self._env)

    def playbook(self, text: str) -> Spoken:
        """`ansible-playbook` with these tasks."""
        (self._folder / "play.yml").write_text(f"- hosts: web1\n  gather_facts: false\n  tasks:\n{text}")
        return finish([str(peers.require("ansible-playbook")), str(self._folder / "play.yml")], env=self._env)

    def close(self) -> None:
        """Ends the connection that ssh keeps open."""
        for path in self._control.glob("*"):
            finish(["ssh", "-o", f"ControlPath={path}", "-O", "exit", "web1"])
        shutil.rmtree(self._control, ignore_errors=True)


@contextlib.contextmanager
def allowing(house: House) -> Iterator[list[str]]:
    """Somebody who allows whatever is asked for; the list is what was."""
    asked: list[str] = []
    over = threading.Event()

    def decide() -> None:
        client = house.client("approver")
        while not over.wait(0.05):
            for item in client.call(client.approvals.ListPending, ListPendingRequest()).items:
                house.decide(item.id)
                asked.append(item.action.command.decode())

    thread = threading.Thread(target=decide)
    thread.start()
    try:
        yield asked
    finally:
        over.set()
        thread.join()
