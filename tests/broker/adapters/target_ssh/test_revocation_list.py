"""A list that a real target keeps: its own sshd refuses what was revoked, and nothing leaves half a list behind."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.adapters.target_ssh import SshRevocationLists, sshd_lines
from broker.adapters.target_ssh.doctor import Ward
from broker.adapters.target_ssh.probe import Probe
from broker.core.cert import Ca, CertSpec, egress_spec, principal_of
from broker.core.errors import TargetFault
from broker.core.ids import GrantId
from broker.core.kinds import SshSettings
from broker.core.krl import Krl, encode
from broker.core.revoking import FILE, list_of, write_command
from broker.service.ports import Finding
from tests.broker.adapters.target_ssh.world import (
    TENANT,
    MachineClock,
    MachineEntropy,
    World,
    new_id,
    target_for,
    world,
)
from tests.peers_sshd import StartSshd, may_unshare

pytestmark = pytest.mark.sshd

EMPTY = encode(Krl(version=0, generated=datetime(2026, 1, 1, tzinfo=UTC), comment="", certificates=(), keys=()))


@dataclass(slots=True)
class Keeper:
    """A target that keeps a list. Here its one login does both: what is its own login's is the service's to see to."""

    real: World
    file: Path
    lists: SshRevocationLists

    async def push(self, *grants: str) -> None:
        await self.lists.push(self.real.target, self.real.login, tuple(sorted(grants)), self.real.announce)

    async def runs(self, grant: GrantId) -> bool:
        """Whether sshd lets a certificate of this grant in, signed just now."""
        self.real.grant = grant
        try:
            ran = await self.real.run("echo in", sealed=True)
        except TargetFault as error:
            if error.code != "login_refused":
                raise
            return False
        return ran.out == b"in\n"

    async def findings(self) -> list[Finding]:
        """What the doctor says of the list, beside the rest."""
        real = self.real
        probe = Probe(
            signer=real.signer, entropy=MachineEntropy(), now=MachineClock().now, target=real.target, login=real.login,
            announce=real.announce, serial=77, generation=0,
        )  # fmt: skip
        return list(await Ward(probe=probe).revocation_list())

    def beside(self) -> list[str]:
        """What lies in the folder."""
        return sorted(path.name for path in self.file.parent.iterdir())


@pytest.fixture
async def keeper(sshd_factory: StartSshd, tmp_path: Path) -> AsyncIterator[Keeper]:
    """Its sshd obeys the list from the start: an empty one is there."""
    async with keeping(sshd_factory, tmp_path, revoked_keys=True) as made:
        yield made


class keeping:  # noqa: N801  used as a function
    """A target whose home for the list is a folder of its own."""

    def __init__(self, start: StartSshd, folder: Path, *, revoked_keys: bool) -> None:
        home = folder / "home"
        home.mkdir()
        self._file = home / FILE
        if revoked_keys:
            self._file.write_bytes(EMPTY)
        config = f"SetEnv HOME={home} SHLVL=3" + (f"\nRevokedKeys {self._file}" if revoked_keys else "")
        self._world = world(start, config=config)

    async def __aenter__(self) -> Keeper:
        real = await self._world.__aenter__()
        real.target = dataclasses.replace(real.target, settings=SshSettings(krl_login=real.login))
        lists = SshRevocationLists(signer=real.signer, entropy=MachineEntropy(), now=MachineClock().now)
        return Keeper(real=real, file=self._file, lists=lists)

    async def __aexit__(self, *what: object) -> None:
        await self._world.__aexit__(*what)  # type: ignore[arg-type]  # handed on


async def test_the_targets_own_sshd_refuses_what_was_revoked(keeper: Keeper) -> None:
    """I-62: a certificate of a revoked grant, still valid, is refused there; another grant's is let in."""
    bad, good = GrantId(new_id("grant")), GrantId(new_id("grant"))
    assert await keeper.runs(bad)
    await keeper.push(bad)
    assert not await keeper.runs(bad)
    assert "revoked by file" in keeper.real.sshd.log()
    assert await keeper.runs(good)
    assert keeper.beside() == [FILE]
    assert keeper.file.stat().st_mode & 0o777 == 0o644
    await keeper.push()
    assert await keeper.runs(bad), "what is off the list is good again"


async def test_a_key_to_come_is_on_the_list(keeper: Keeper) -> None:
    """In a rotation the revoked grant's certificates are refused under both keys."""
    await keeper.push()
    before = keeper.file.read_bytes()
    keeper.real.signer.start_rotation()
    await keeper.push()
    told = await keeper.real.signer.generations(Ca.EGRESS)
    assert [each.public in before for each in told] == [True, False]
    assert all(each.public in keeper.file.read_bytes() for each in told)


async def test_pushes_at_the_same_time_leave_a_whole_list(keeper: Keeper) -> None:
    """Whoever comes last: one of the lists, and nothing of the others. One that lost its file says so."""
    grants = [new_id("grant") for _ in range(6)]
    async with asyncio.TaskGroup() as group:
        for grant in grants:
            group.create_task(_tried(keeper, grant))
    await keeper.push(*grants)
    assert [await keeper.runs(GrantId(grant)) for grant in grants] == [False] * 6
    assert keeper.beside() == [FILE]


async def _tried(keeper: Keeper, grant: str) -> None:
    try:
        await keeper.push(grant)
    except TargetFault as error:
        if error.code != "list_not_kept":
            raise


async def test_without_the_file_sshd_refuses_everybody(keeper: Keeper) -> None:
    """Why RevokedKeys is advised only where a list is kept, and never for the login that keeps it."""
    keeper.file.unlink()
    assert not await keeper.runs(GrantId(new_id("grant")))


async def test_a_target_that_cannot_keep_it_says_so(sshd_factory: StartSshd, tmp_path: Path) -> None:
    """A folder where the list should be: nothing is put into it, and the push is a fault."""
    async with keeping(sshd_factory, tmp_path, revoked_keys=False) as keeper:
        keeper.file.mkdir()
        with pytest.raises(TargetFault) as refused:
            await keeper.push()
        assert refused.value.code == "list_not_kept"
        assert list(keeper.file.iterdir()) == []


async def test_the_doctor_advises_revoked_keys_only_with_a_good_list(sshd_factory: StartSshd, tmp_path: Path) -> None:
    """No list, another's, an old one, half of one: it says so and advises against it; then it does advise it."""
    async with keeping(sshd_factory, tmp_path, revoked_keys=False) as keeper:
        target = keeper.real.target
        spec = _spec(keeper.real, datetime.now(UTC))
        whole, another = list_of(spec, [], []), list_of(dataclasses.replace(spec, key_id=new_id("target")), [], [])
        old = list_of(_spec(keeper.real, datetime.now(UTC) - timedelta(hours=3)), [], [])
        bad = {
            None: "it keeps no revocation list yet",
            b"": "it keeps no revocation list yet",
            whole[:30]: "its revocation list is damaged",
            b"ssh-ed25519 AAAA\n": "its revocation list is damaged",
            another: "its revocation list is another target's, or not grantd's",
            EMPTY: "its revocation list is another target's, or not grantd's",
            old: "its revocation list is not kept up",
        }
        for content, says in bad.items():
            if content is not None:
                keeper.file.write_bytes(content)
            (found,) = await keeper.findings()
            assert (found.ok, found.what) == (False, says)
            assert found.advice.startswith("set no RevokedKeys")
        await keeper.push()
        (found,) = await keeper.findings()
        assert (found.ok, found.what) == (True, "it keeps a fresh revocation list that its sshd does not read")
        assert found.advice.startswith("set RevokedKeys to")
        keeper.real.target = dataclasses.replace(target, settings=SshSettings(krl_login=""))
        assert await keeper.findings() == []


async def test_the_doctor_sees_that_sshd_obeys_the_list(keeper: Keeper) -> None:
    """It logs in with the serial that every list revokes."""
    await keeper.push()
    real = keeper.real
    every = await real.targets.probe(real.target, real.login, real.announce, 77)
    (found,) = [each for each in every if "revocation list" in each.what]
    assert (found.ok, found.what, found.advice) == (
        True, "it keeps a fresh revocation list, and its sshd obeys it", "",
    )  # fmt: skip


def test_the_lines_for_sshd_set_no_revoked_keys() -> None:
    """They name the keeping login's own block, and say where the advice comes from."""
    text = sshd_lines(target_for(settings=SshSettings(krl_login="keeper")), ["ssh-ed25519 AAAA"])
    assert "Match User keeper" in text
    assert "grantd_principals/keeper" in text
    assert [line for line in text.splitlines() if "RevokedKeys" in line and not line.startswith("#")] == []


def _spec(real: World, now: datetime) -> CertSpec:
    return egress_spec(
        grant=GrantId(real.target.id), serial=3, principal=principal_of(TENANT, real.target.id, real.login),
        source_address="127.0.0.1", force_command="", permit_pty=False, now=now, not_after=now + timedelta(seconds=60),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Writing:
    """The command of a push, run by hand in a home with a list in it."""

    home: Path
    new: bytes
    command: str

    @classmethod
    def begin(cls, home: Path) -> Writing:
        home.mkdir(exist_ok=True)
        (home / FILE).write_bytes(EMPTY)
        new = EMPTY + bytes(40_000)
        return cls(home=home, new=new, command=write_command(new))

    def start(self, before: str = "") -> subprocess.Popen[bytes]:
        env = {"HOME": str(self.home), "PATH": os.environ["PATH"], "SSH_ORIGINAL_COMMAND": "x", "C": self.command}
        return subprocess.Popen(
            ["bash", "-c", f'{before}exec sh -c "$C"'], env=env, start_new_session=True, stderr=subprocess.DEVNULL
        )

    @property
    def kept(self) -> bytes:
        return (self.home / FILE).read_bytes()


NOW_US = 1_800_000_000_000_000
MINUTE_US = 60_000_000
STALE = {
    "newer by a minute": (NOW_US + MINUTE_US, True),
    "newer by a microsecond": (NOW_US + 1, True),
    "the same": (NOW_US, False),
    "older": (NOW_US - 1, False),
    "of a clock that ran a day ahead": (NOW_US + 24 * 60 * MINUTE_US, False),
    "the highest there is": (2**64 - 1, False),
}


def _of_version(version: int) -> bytes:
    at = datetime(2027, 1, 15, tzinfo=UTC)
    return encode(Krl(version=version, generated=at, comment="grantd x", certificates=(), keys=()))


@pytest.mark.parametrize("case", STALE.values(), ids=STALE.keys())
def test_a_push_that_was_held_up_takes_no_newer_lists_place(tmp_path: Path, case: tuple[int, bool]) -> None:
    """Whoever holds packets back has an older list written last: the newer one stays, and the push fails."""
    there, stays = case
    home = tmp_path / "home"
    writing = Writing(home=home, new=_of_version(NOW_US), command=write_command(_of_version(NOW_US)))
    home.mkdir()
    (home / FILE).write_bytes(_of_version(there))
    assert (writing.start().wait() != 0) == stays
    assert writing.kept == _of_version(there if stays else NOW_US)
    assert [path.name for path in home.iterdir()] == [FILE]


def _damaged(file: Path) -> None:
    file.write_bytes(b"SSHKRL\n\0 nothing that sshd reads")


def _half(file: Path) -> None:
    file.write_bytes(_of_version(NOW_US - 1)[:30])


def _link(file: Path) -> None:
    (file.parent.parent / "elsewhere").write_bytes(b"mine")
    file.symlink_to(file.parent.parent / "elsewhere")


def _dangling(file: Path) -> None:
    file.symlink_to(file.parent.parent / "nowhere")


def _pipe(file: Path) -> None:
    os.mkfifo(file)


@pytest.mark.parametrize("put", [_damaged, _half, _link, _dangling, _pipe], ids=lambda put: put.__name__)
def test_whatever_lies_there_a_whole_list_takes_its_place(tmp_path: Path, put: Callable[[Path], None]) -> None:
    """What sshd would not read, or a link to another place: replaced, and nothing is written through the link."""
    home = tmp_path / "home"
    home.mkdir()
    put(home / FILE)
    beside = home / f"{FILE}.new.1"
    beside.symlink_to(tmp_path / "victim")
    writing = Writing(home=home, new=_of_version(NOW_US), command=write_command(_of_version(NOW_US)))
    assert writing.start().wait() == 0
    assert (home / FILE).is_file()
    assert not (home / FILE).is_symlink()
    assert writing.kept == _of_version(NOW_US)
    assert not beside.is_symlink()
    assert not (tmp_path / "victim").exists()
    assert not (tmp_path / "nowhere").exists()
    assert not (tmp_path / "elsewhere").exists() or (tmp_path / "elsewhere").read_bytes() == b"mine"


def test_a_push_that_is_killed_leaves_one_whole_list(tmp_path: Path) -> None:
    """At whatever moment: the old one or the new one; and the next push removes what it left."""
    chance = random.Random(37)
    began = time.monotonic()
    writing = Writing.begin(tmp_path / "home")
    assert writing.start().wait() == 0
    whole = time.monotonic() - began
    assert writing.kept == writing.new
    seen = set()
    for _ in range(25):
        Writing.begin(writing.home)
        process = writing.start()
        time.sleep(chance.uniform(0, whole))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        seen.add(writing.kept == EMPTY)
        assert writing.kept in (EMPTY, writing.new)
    assert True in seen, "none was killed in time"
    assert writing.start().wait() == 0
    assert [path.name for path in writing.home.iterdir()] == [FILE]


def test_a_full_disk_leaves_the_old_list(tmp_path: Path) -> None:
    """No room for the new one: the push fails, the old list is there, and nothing beside it."""
    writing = Writing.begin(tmp_path / "home")
    assert writing.start("trap '' XFSZ; ulimit -f 8; ").wait() != 0
    assert writing.kept == EMPTY
    assert [path.name for path in writing.home.iterdir()] == [FILE]


@pytest.mark.skipif(not may_unshare(), reason="a file system of its own takes a mount namespace")
def test_a_file_system_without_room_leaves_the_old_list(tmp_path: Path) -> None:
    """The same with a real one that is full."""
    writing = Writing.begin(tmp_path / "home")
    script = (
        'cp "$HOME"/* "$T"/ && mount -t tmpfs -o size=16k tmpfs "$HOME" && cp "$T"/* "$HOME"/ || exit 9; '
        'setsid -w sh -c "$C" && exit 8; cmp -s "$T"/* "$HOME"/* && [ "$(ls "$HOME" | wc -l)" = 1 ]'
    )
    (tmp_path / "aside").mkdir()
    env = {"HOME": str(writing.home), "T": str(tmp_path / "aside"), "PATH": os.environ["PATH"], "C": writing.command}
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], env=env, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_other_bytes_than_the_signed_ones_are_not_kept(tmp_path: Path) -> None:
    """A decoder that loses something on the way: the sum is compared before the list takes its place."""
    writing = Writing.begin(tmp_path / "home")
    other = dataclasses.replace(
        writing, command=writing.command.replace("AAAA ", "AAAB ", 1).replace("AAA= ", "AAB= ", 1)
    )
    assert other.command != writing.command
    assert other.start().wait() != 0
    assert writing.kept == EMPTY
