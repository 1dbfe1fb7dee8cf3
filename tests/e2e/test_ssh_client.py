"""A stock ssh with the file of `grantctl ssh-config`: it finds its grant or asks for one, and goes nowhere else."""

from __future__ import annotations

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from grantd.v1.approval_pb2 import ListPendingRequest
from tests.agents.console import Console
from tests.e2e.programs import Spoken, finish, wait_until
from tests.e2e.stage import ASKS, FREE, House

# several programs start in each test, and each of them takes a second where the machine has other work
pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-ssh-client"), pytest.mark.timeout(150)]


@pytest.fixture(scope="module")
def configs(house: House) -> dict[str, Path]:
    """The include file of an agent and of a person."""
    told = house.ctl("builder", "ssh-config")
    assert told.status == 0, told.err
    made = {}
    for who in ("builder", "other", "approver"):
        made[who] = house.folder / f"{who}_ssh_config"
        made[who].write_text(told.out.replace(str(house.profile("builder")), str(house.profile(who))))
    return made


def ssh(config: Path, *words: str, stdin: bytes | None = None) -> Spoken:
    """A stock ssh that knows nothing but that file."""
    return finish(["ssh", "-F", str(config), *words], stdin=stdin)


def requested(house: House) -> int:
    """How many access requests there were so far."""
    return len(house.audit("access.requested"))


def waiting(house: House, who: str) -> str:
    """The one access request of somebody that waits."""
    client, found = house.client("second"), list[str]()

    def waits() -> bool:
        items = client.call(client.approvals.ListPending, ListPendingRequest()).items
        found[:] = [item.id for item in items if item.HasField("access") and item.identity_name == who]
        return bool(found)

    wait_until(waits, 15)
    return found[0]


def test_plain_ssh_asks_runs_and_asks_no_more(house: House, configs: dict[str, Path]) -> None:
    """Without a grant one is asked for; status and streams are the command's; the next ssh finds it there."""
    to, before = f"{house.sshd.login}@{FREE}.grantd", requested(house)
    ran = ssh(configs["builder"], to, "cat; echo e >&2; exit 7", stdin=b"in")
    assert (ran.status, ran.out, ran.err) == (7, "in", "e\n")
    again = ssh(configs["builder"], f"{house.sshd.login}+{FREE}@grantd", "uname -s")
    assert (again.status, again.out) == (0, "Linux\n"), again
    wait_until(lambda: requested(house) > before, 5, every=0.2)
    assert requested(house) == before + 1


def test_many_at_once_make_one_request(house: House, configs: dict[str, Path]) -> None:
    """Ansible opens ten connections: one request, one grant, ten commands."""
    before = requested(house)
    with ThreadPoolExecutor(6) as pool:
        ran = list(
            pool.map(lambda n: ssh(configs["other"], f"{house.sshd.login}@{FREE}.grantd", f"echo {n}"), range(6))
        )
    assert [each.out for each in ran] == [f"{n}\n" for n in range(6)], ran
    wait_until(lambda: requested(house) > before, 5, every=0.2)
    assert requested(house) == before + 1


def test_a_revoked_grant_is_noticed_and_another_asked_for(house: House, configs: dict[str, Path]) -> None:
    """What lies there is taken for good for a minute; then the broker is asked (I-08)."""
    to = f"{house.sshd.login}@{FREE}.grantd"
    assert ssh(configs["builder"], to, "uname -s").status == 0
    state = house.profile("builder") / "ssh" / "at" / f"{house.sshd.login}+{FREE}" / "state.json"
    grants = house.ctl("builder", "grants", "list", "-o", "json").json()
    for grant in grants:
        house.client("builder").revoke(grant["id"], "done")
    assert ssh(configs["builder"], to, "uname -s").status == 255
    os.utime(state, (time.time() - 61, time.time() - 61))
    assert ssh(configs["builder"], to, "uname -s").out == "Linux\n"


def test_the_proxy_moves_bytes_where_ssh_takes_no_socket(house: House, configs: dict[str, Path]) -> None:
    """`ProxyCommand grantctl ssh-proxy %h %p` by hand, with pipes: bytes both ways, the end of stdin passed on."""
    to = f"{house.sshd.login}@{FREE}.grantd"
    assert ssh(configs["builder"], to, "uname -s").status == 0
    words = " ".join(house.ctl_words("builder", "ssh-proxy", "%h", "%p"))
    data = os.urandom(300_000)
    ran = subprocess.run(
        ["ssh", "-o", f"ProxyCommand={words}", "-o", "ProxyUseFdpass=no", "-F", str(configs["builder"]), to, "cat"],
        input=data, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == data


def test_without_a_terminal_nobody_hangs(house: House, configs: dict[str, Path]) -> None:
    """A person's request needs another person: 75 at once, one request however often, 4 once it is refused."""
    place, before = f"{house.sshd.login}@{ASKS}", requested(house)
    tried = ssh(configs["approver"], f"{place}.grantd", "uname -s")
    assert tried.status == 255
    assert "waits for an approver" in tried.err
    assert "Permission denied" not in tried.err, "no other key was offered to anybody"
    assert house.ctl("approver", "ssh-cert", "--quiet", place).status == 75
    house.decide(waiting(house, "approver"), yes=False, who="second")
    assert house.ctl("approver", "ssh-cert", "--quiet", place).status == 4
    assert requested(house) == before + 1


def test_on_a_terminal_it_waits_in_place(house: House, configs: dict[str, Path]) -> None:
    """What is asked for, a countdown, then the command as if nothing had been in the way."""
    words = ["ssh", "-F", str(configs["approver"]), f"{house.sshd.login}@{FREE}.grantd", "echo arrived"]
    with Console(words, env={}) as console:
        console.expect("waits for an approver")
        assert f"asking for {house.sshd.login} on {FREE}: commands up to write" in console.text()
        house.decide(waiting(house, "approver"), who="second")
        console.expect("arrived")
        assert console.wait() == 0


@pytest.mark.parametrize("leaving", ["Ctrl-C", "the window is closed"])
def test_whoever_leaves_takes_the_request_back(house: House, configs: dict[str, Path], leaving: str) -> None:
    """Nobody is asked to decide what nobody waits for any more."""
    words = ["ssh", "-F", str(configs["approver"]), f"{house.sshd.login}@{ASKS}.grantd", "echo arrived"]
    with Console(words, env={}) as console:
        console.expect("waits for an approver")
        request = waiting(house, "approver")
        if leaving == "Ctrl-C":
            console.write(b"\x03")
            console.wait()
        else:
            console.hang_up()
    house.audited("access.cancelled", lambda entry: entry["request"] == request)


@pytest.mark.parametrize("where", ["x.grantd.example", "grantd.example", "web1"])
def test_other_hosts_are_left_alone(configs: dict[str, Path], where: str) -> None:
    """The file has nothing to say about a host that does not end in the suffix."""
    told = finish(["ssh", "-G", "-F", str(configs["builder"]), where])
    assert told.status == 0
    assert "proxycommand" not in told.out
    assert "certificatefile" not in told.out


@pytest.mark.parametrize("where", ["$(touch {0})@lab1.grantd", "a@$(touch {0}).grantd", "a@`touch {0}`.grantd"])
def test_names_are_never_commands(configs: dict[str, Path], tmp_path: Path, where: str) -> None:
    """Whatever stands in a user's or host's name, no shell runs it, and nothing is asked for."""
    marker = tmp_path / "marker"
    tried = ssh(configs["builder"], "--", where.format(marker), "uname")
    assert tried.status != 0
    assert not marker.exists()


def test_grantctl_ssh_is_the_stock_ssh(house: House) -> None:
    """In one step: a grant that reaches as far as the command, its status, its words as they were given."""
    before = requested(house)
    ran = house.ctl("other", "ssh", f"{house.sshd.login}@{ASKS}", "--", "printf", "%s|", "a b", "$HOME")
    assert (ran.status, ran.out) == (0, "a b|$HOME|"), ran
    again = house.ctl("other", "ssh", ASKS, "--", "ls /nowhere-at-all; exit 7")
    assert (again.status, "/nowhere-at-all" in again.err) == (7, True), again
    wait_until(lambda: requested(house) > before, 5, every=0.2)
    assert requested(house) == before + 1
    assert house.ctl("other", "ssh", f"{house.sshd.login}@nowhere", "--", "uname").status == 1
