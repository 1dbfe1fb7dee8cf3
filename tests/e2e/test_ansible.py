"""Ansible against a real OpenSSH target through the broker: a ping, a copy, and a playbook of ten tasks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.ansible import FLAGS, Ansible, allowing
from tests.e2e.stage import House

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-clients"), pytest.mark.timeout(240)]
PLAYBOOK = """
    - command: uname -s
      register: kernel
    - shell: echo $((40 + 2)) > {there}/shell
    - file: {{path: "{there}/folder", state: directory, mode: "0750"}}
    - template: {{src: "{here}/template.j2", dest: "{there}/template"}}
      vars: {{who: world}}
    - lineinfile: {{path: "{there}/template", line: "one more"}}
    - stat: {{path: "{there}/template"}}
      register: made
    - setup: {{gather_subset: ["!all", "min"]}}
    - copy: {{src: "{here}/big", dest: "{there}/big", mode: "0600"}}
    - fetch: {{src: "{there}/big", dest: "{here}/back", flat: true}}
    - assert:
        that:
          - kernel.stdout == "Linux"
          - made.stat.size == 21
          - ansible_system == "Linux"
"""


@pytest.fixture(params=[True, False], ids=["pipelining", "copied"])
def ansible(request: pytest.FixtureRequest, house: House, tmp_path: Path) -> Iterator[tuple[Ansible, str, bool]]:
    """With modules on stdin, and as it is without a word in ansible.cfg: modules copied first."""
    grant = house.grant(flags=FLAGS)
    made = Ansible(house, house.ssh_files(grant), tmp_path, pipelining=request.param)
    yield made, grant, request.param
    made.close()


def test_ten_tasks(house: House, ansible: tuple[Ansible, str, bool], tmp_path: Path) -> None:
    """Everything arrives, and each module that ran was asked about: it is a program that nobody knows (I-16, I-18)."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / "template.j2").write_text("hello {{ who }}\n")
    (here / "big").write_bytes(bytes(range(256)) * 4096)
    play, grant, pipelining = ansible
    with allowing(house) as asked:
        ran = play.playbook(PLAYBOOK.format(here=here, there=there))
    assert ran.status == 0, (ran.out[-1500:], ran.err[-500:])
    assert "ok=10" in ran.out
    assert (there / "shell").read_text() == "42\n"
    assert (there / "template").read_text() == "hello world\none more\n"
    assert (there / "folder").stat().st_mode & 0o777 == 0o750
    assert (there / "big").read_bytes() == (here / "back").read_bytes() == (here / "big").read_bytes()
    modules = [line for line in asked if "python" in line]
    print(f"ten tasks, {'modules on stdin' if pipelining else 'modules copied'}: {len(asked)} times asked")  # noqa: T201
    assert len(modules) >= 8
    sessions = [s for s in house.ctl("owner", "sessions", "list", "-o", "json").json() if s["grant_id"] == grant]
    assert len(sessions) > len(asked), "what was asked and what ran unasked, each with a recording"


def test_ping_and_copy(house: House, tmp_path: Path) -> None:
    """The first two things that anybody tries."""
    grant = house.grant(flags=FLAGS)
    ansible = Ansible(house, house.ssh_files(grant), tmp_path, pipelining=True)
    (tmp_path / "file").write_text("content")
    with allowing(house):
        ping = ansible.module("ping")
        copy = ansible.module("copy", f"src={tmp_path}/file dest={tmp_path}/copied")
    ansible.close()
    assert (ping.status, "pong" in ping.out) == (0, True), ping
    assert (copy.status, (tmp_path / "copied").read_text()) == (0, "content"), copy
