"""File transfer through the door: stock clients, OpenSSH's own server behind it, the gate between (I-18, I-28)."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.constants import MSG_CHANNEL_FAILURE
from asyncssh.packet import String

from broker.core import sftp
from broker.core.action import ActionState, StdinMode
from broker.core.approval import Verdict
from broker.core.errors import Refusal
from broker.core.sftp import Open, Reply, class_of
from broker.proxy.sftp.packets import Splitter, framed, string
from broker.service.live import Scope
from broker.service.propose import CommandInput
from policy.classes import CommandClass
from tests import peers
from tests.broker.proxy.sftp.test_session import every_operation
from tests.broker.proxy.test_exec import actions, awaiting
from tests.broker.proxy.test_openssh import options
from tests.broker.proxy.world import Gate, until
from tests.broker.rpc.agent import decide, identified
from tests.broker.rpc.local_targets import placed
from tests.broker.rpc.world import TENANT
from tests.pace import Since

pytestmark = pytest.mark.sshd
FILES = frozenset({"sftp"})


@pytest.fixture(autouse=True)
def server() -> None:
    """These tests talk to OpenSSH's own."""
    peers.require("sftp-server")


@asynccontextmanager
async def client(front: Gate) -> AsyncIterator[asyncssh.SFTPClient]:
    """A client of another make than OpenSSH's."""
    connection = await front.connect(await front.admit(flags=FILES))
    async with connection.start_sftp_client() as files:
        yield files
    connection.abort()


async def stock(front: Gate, folder: Path, program: str, *words: str, before: tuple[str, ...] = ()) -> tuple[int, str]:
    """(status, stderr) of a stock client; `AT:` stands for the gateway."""
    ssh = options(front, await front.admit(flags=FILES), folder)
    user, rest = ssh[ssh.index("-l") + 1], ssh[ssh.index("-l") + 2 :]
    at = f"{user}@127.0.0.1"
    given = [word.replace("AT:", at + ":") if word != "AT" else at for word in words]
    command = [str(peers.require(program)), *before, "-F", "none", "-P", str(front.port), *rest, *given]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, (out + err).decode()


async def test_stock_sftp_does_everything(front: Gate, tmp_path: Path) -> None:
    """Whatever a batch asks for happens, by two actions of the gate."""
    await front.trust()
    data, there = os.urandom(3_000_000), tmp_path / "there"
    (tmp_path / "here").write_bytes(data)
    there.mkdir()
    batch = tmp_path / "batch"
    batch.write_text(
        f"cd {there}\nput {tmp_path}/here up\nget up {tmp_path}/back\nmkdir d\nrename up d/x\nln -s d/x l\nln d/x h\n"
        "chmod 640 d/x\nls -la\ndf\nrm l\nmkdir e\nrmdir e\n-rm nothing\n"
    )
    status, said = await stock(front, tmp_path, "sftp", "AT", before=("-b", str(batch)))
    assert status == 0, said
    assert (tmp_path / "back").read_bytes() == data == (there / "d/x").read_bytes()
    assert (there / "d/x").stat().st_mode & 0o777 == 0o640
    assert sorted(each.name for each in there.iterdir()) == ["d", "h"]
    assert [(a.command, a.state) for a in await actions(front)] == [
        (sftp.READING, ActionState.SUCCEEDED), (sftp.WRITING, ActionState.SUCCEEDED),
    ]  # fmt: skip


async def test_stock_scp_copies_both_ways(front: Gate, tmp_path: Path) -> None:
    """The newer scp speaks SFTP; a copy from the target needs no action that writes."""
    await front.trust()
    (tmp_path / "here").write_bytes(b"content")
    assert (await stock(front, tmp_path, "scp", f"{tmp_path}/here", f"AT:{tmp_path}/there"))[0] == 0
    assert (await stock(front, tmp_path, "scp", f"AT:{tmp_path}/there", f"{tmp_path}/back"))[0] == 0
    assert (tmp_path / "back").read_bytes() == b"content"
    assert [a.command for a in await actions(front)] == [sftp.READING, sftp.WRITING, sftp.READING]


async def test_reading_runs_and_writing_asks(front: Gate, tmp_path: Path) -> None:
    """On a target that asks: files are read unasked, the first write waits for a person, and the rest follows it."""
    (tmp_path / "a").write_bytes(b"content")
    async with client(front) as files, asyncio.timeout(20):
        assert await files.listdir(str(tmp_path)) != []
        await files.get(str(tmp_path / "a"), str(tmp_path / "b"))
        assert (tmp_path / "b").read_bytes() == b"content"
        assert [a.command for a in await actions(front)] == [sftp.READING]
        async with asyncio.TaskGroup() as group:
            group.create_task(files.remove(str(tmp_path / "a")))
            action = await awaiting(front)
            assert (action.command, action.command_class) == (sftp.WRITING, CommandClass.WRITE)
            assert (tmp_path / "a").exists()
            await decide(front.house, action.id, Verdict.APPROVE)
        assert not (tmp_path / "a").exists()
        await files.mkdir(str(tmp_path / "d"))
    assert len(await actions(front)) == 2


async def test_a_no_is_for_the_session_and_reading_goes_on(front: Gate, tmp_path: Path) -> None:
    """Nobody is asked again, nothing was written."""
    async with client(front) as files, asyncio.timeout(20):
        async with asyncio.TaskGroup() as group:
            tried = group.create_task(_refused(files.mkdir(str(tmp_path / "d"))))
            await decide(front.house, (await awaiting(front)).id, Verdict.DENY)
        assert tried.result()
        assert await _refused(files.mkdir(str(tmp_path / "e")))
        assert await files.exists(str(tmp_path))
    assert list(tmp_path.glob("?")) == []
    assert [a.state for a in await actions(front)] == [ActionState.SUCCEEDED, ActionState.DENIED]


async def test_a_client_that_leaves_takes_its_question_back(front: Gate, tmp_path: Path) -> None:
    """F06: nobody can say yes any more."""
    connection = await front.connect(await front.admit(flags=FILES))
    files = await connection.start_sftp_client()
    async with asyncio.TaskGroup() as group:
        group.create_task(_lost(files.mkdir(str(tmp_path / "d"))))
        await awaiting(front)
        connection.abort()
    await until(lambda: not front.door_busy())
    states = [a.state for a in await actions(front)]
    assert states == [ActionState.CUT, ActionState.CANCELLED]


async def test_without_the_flag_there_is_no_subsystem(front: Gate) -> None:
    """I-20, I-28: refused by name, also where the grant streams stdin, and any other subsystem always."""
    for flags, name in ((frozenset({"stream_stdin"}), "sftp"), (FILES, "netconf"), (FILES, "SFTP"), (FILES, "sftp ")):
        raw = await front.entered(await front.admit(flags=flags))
        await raw.session()
        raw.request(b"subsystem", String(name))
        assert (await raw.next())[0] == MSG_CHANNEL_FAILURE
        raw.abort()
    assert await front.features() == ["subsystem"] * 4
    assert front.house.targets.plans == []


async def test_a_session_cannot_be_proposed_by_another_way(front: Gate) -> None:
    """The command's name alone runs nothing: refused without the flag, and no program with it."""
    for flags, outcome in ((frozenset({"stream_stdin"}), None), (FILES, 127)):
        shown = await front.admit(flags=flags)
        caller = await identified(front.house, "agent")
        given = CommandInput(line=sftp.READING, cwd="", env={}, stdin_mode=StdinMode.STREAM, stdin=b"", pty=False)
        if outcome is None:
            with pytest.raises(Refusal) as refused:
                await front.house.cases.propose.propose(
                    caller, shown.grant, given, idempotency_key="k", reason="", door="grpc"
                )
            assert refused.value.code == "sftp_not_granted"
            continue
        connection = await front.connect(shown)
        ran = await connection.run(sftp.READING.decode())
        assert ran.exit_status == outcome
        connection.abort()


async def test_the_targets_own_server_writes_nothing_when_it_only_reads(tmp_path: Path) -> None:
    """The second wall: with everything above it gone, `-R` refuses every operation above read."""
    (tmp_path / "a").write_bytes(b"content")
    process = await asyncio.create_subprocess_exec(
        "bash", "--norc", "-c", placed(sftp.program(sftp.READING)), cwd=tmp_path,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    above = [
        packet.replace(string(b"/srv/a"), string(b"a")).replace(string(b"/srv/b"), string(b"b"))
        for packet in every_operation() if class_of(packet) is not CommandClass.READ
    ]  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"".join(map(framed, [b"\x01\0\0\0\3", *above])))
    answers, splitter = list[bytes](), Splitter()
    async with asyncio.timeout(10):
        while len(answers) <= len(above):
            answers += splitter.feed(await process.stdout.read(1 << 16))
    process.stdin.close()
    assert await process.wait() == 0
    codes = [answer[8] for answer in answers if answer[0] == Reply.STATUS]
    # opening without WRITE, CREAT and TRUNC alters nothing, whatever else is asked: OpenSSH lets it
    harmless = {0, Open.APPEND, Open.EXCL, Open.APPEND | Open.EXCL}
    assert len(codes) == len(above) - len(harmless | {flags | Open.READ for flags in harmless} - {Open.READ})
    assert 0 not in codes
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"content"


async def test_64_mb_go_both_ways_unharmed(front: Gate, tmp_path: Path) -> None:
    """Every byte, with many requests in the air."""
    await front.trust()
    data = os.urandom(1 << 20) * 64
    (tmp_path / "here").write_bytes(data)
    async with client(front) as files, asyncio.timeout(50):
        await files.put(str(tmp_path / "here"), str(tmp_path / "there"))
        await files.get(str(tmp_path / "there"), str(tmp_path / "back"))
    assert hashlib.sha256((tmp_path / "back").read_bytes()).digest() == hashlib.sha256(data).digest()


async def test_a_cut_ends_both_sessions_within_a_second(front: Gate, tmp_path: Path) -> None:
    """I-01: in the middle of a copy."""
    await front.trust()
    connection = await front.connect(await front.admit(flags=FILES))
    files = await connection.start_sftp_client()
    async with asyncio.timeout(20):
        await files.mkdir(str(tmp_path / "d"))
        async with asyncio.TaskGroup() as group:
            group.create_task(_lost(_read_for_ever(files)))
            await asyncio.sleep(0.3)
            since = Since()
            told = await front.house.world.live.cut(Scope(tenant=TENANT), "revoked", within=2)
            assert since.s() < 1
            assert (told.sessions, told.late) == (2, ())
    await until(lambda: not front.door_busy())
    assert {a.state for a in await actions(front)} == {ActionState.CUT}
    connection.abort()


async def _read_for_ever(files: asyncssh.SFTPClient) -> None:
    async with files.open("/dev/zero", "rb") as file:
        while True:
            await file.read(32_768, 0)


async def _refused(asked: Any) -> bool:  # noqa: ANN401  any coroutine of a client
    try:
        await asked
    except asyncssh.SFTPPermissionDenied:
        return True
    return False


async def _lost(asked: Any) -> None:  # noqa: ANN401  any coroutine of a client
    with pytest.raises((asyncssh.SFTPError, asyncssh.Error, OSError)):
        await asked
