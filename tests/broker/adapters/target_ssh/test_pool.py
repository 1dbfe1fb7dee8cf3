"""One pooled connection a grant: shared within it, never beyond it, replaced when it drops."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import cast

import pytest

from broker.adapters.target_ssh.pool import opened
from broker.adapters.target_ssh.process import RemoteProcess
from broker.core.errors import TargetFault
from broker.core.ids import GrantId, TenantId
from broker.service.ports import Chunk, TargetProcess
from tests.broker.adapters.target_ssh.world import World, drained, new_id, world
from tests.pace import Since
from tests.peers_sshd import Sshd, StartSshd

pytestmark = pytest.mark.sshd


def connections(real: World) -> int:
    """Logins that sshd accepted so far."""
    return real.sshd.log().count("Accepted publickey")


async def test_reads_of_one_grant_share_one_connection(real: World) -> None:
    """One certificate, one login, for as many reads as the grant makes."""
    for _ in range(5):
        await real.run("true", sealed=False)
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(real.run("true", sealed=False))
    assert (connections(real), len(real.announced)) == (1, 1)
    assert real.signer.asked[0].force_command == ""


async def test_sealed_commands_share_nothing(real: World) -> None:
    """Above read every command has its own login and certificate."""
    for _ in range(3):
        await real.run("true", sealed=True)
    assert (connections(real), len(real.announced)) == (3, 3)


async def test_two_grants_never_share_a_connection(real: World) -> None:
    """I-22: another grant, another tenant and another login each get their own."""
    await real.run("true", sealed=False)
    await real.run("true", sealed=False, grant_id=GrantId(new_id("grant")))
    assert connections(real) == 2
    with pytest.raises(TargetFault):  # this sshd knows no principal of the other tenant: its own certificate was tried
        await real.run("true", sealed=False, tenant=TenantId("other"))
    assert len(real.announced) == 3


async def test_many_reads_at_once_fit_into_sshds_sessions(real: World) -> None:
    """32 at once, none of them short: none refused, none lost, each its own output."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(real.run(f"echo {n}; echo e{n} >&2; sleep 0.2", sealed=False)) for n in range(32)]
    for n, task in enumerate(tasks):
        assert (task.result().out, task.result().err) == (b"%d\n" % n, b"e%d\n" % n)
    assert connections(real) == 1


async def test_a_target_with_few_sessions_still_serves(sshd_factory: StartSshd) -> None:
    """MaxSessions 2: the reaper and one read at a time; no spare session is no error."""
    async with world(sshd_factory, config="MaxSessions 2") as made:
        for n in range(40):
            assert (await made.run(f"echo {n}", sealed=False)).out == b"%d\n" % n


async def test_a_session_opened_ahead_meanwhile_is_used(sshd_factory: StartSshd) -> None:
    """MaxSessions 2: a session that came of the last read's refill is the one that the target counts against us."""
    async with world(sshd_factory, config="MaxSessions 2") as made:
        taken = cast(RemoteProcess, await made.targets.start(made.plan("sleep 60", sealed=False)))
        ahead = iter([None, taken])
        assert await opened(taken._connection, ahead=lambda: next(ahead)) is taken  # noqa: SLF001
        with pytest.raises(TargetFault, match="refused the login"):
            await opened(taken._connection)  # noqa: SLF001


async def test_a_dropped_connection_is_replaced(real: World) -> None:
    """A pooled connection that died between two reads costs the second read nothing but a login."""
    await real.run("true", sealed=False)
    old = real.sshd
    old.stop()
    await asyncio.sleep(0.1)  # the loop hears of it
    trusted = old.files.user_cas.read_text().splitlines()
    again = Sshd.start(old.files.folder, user_cas=trusted, principals={}, port=old.port)
    try:
        assert (await real.run("echo again", sealed=False)).out == b"again\n"
    finally:
        again.stop()
    assert len(real.announced) == 2


async def test_a_target_pinned_anew_is_not_reached_over_the_old_connection(real: World) -> None:
    """I-25: a changed target row is another target."""
    await real.run("true", sealed=False)
    real.target = dataclasses.replace(real.target, source_address="127.0.0.1")
    await real.run("true", sealed=False)
    assert connections(real) == 2


async def test_a_read_that_no_longer_has_its_grant_finds_no_connection(real: World) -> None:
    """I-02: end_grant during the login: the connection that comes of it serves nobody."""
    late = asyncio.Event()

    async def announce(serial: int) -> None:
        await real.announce(serial)
        await real.targets.end_grant(real.target.tenant, real.grant)
        late.set()

    with pytest.raises(TargetFault) as lost:
        await real.targets.start(real.plan("true", sealed=False, announce=announce))
    assert late.is_set()
    assert lost.value.code == "connection_lost"


async def test_a_login_without_bash_says_so(sshd_factory: StartSshd) -> None:
    """No reaper, no reads: a target that cannot end them runs none."""
    async with world(sshd_factory, config="ForceCommand true") as made:
        with pytest.raises(TargetFault) as fault:
            await made.run("echo x", sealed=False)
        assert fault.value.code == "no_bash"


def _held(process: TargetProcess) -> int:
    """Bytes that wait to be read."""
    return sum(len(piece.data) for piece in cast("RemoteProcess", process)._inbox._pieces)  # noqa: SLF001  memory is what is promised


async def test_nobody_reading_stops_the_target_not_the_broker(real: World) -> None:
    """I-26: at most the window waits here; the rest waits there, and arrives once somebody reads."""
    process = await real.targets.start(real.plan("head -c 20000000 /dev/zero", sealed=False))
    since = Since()
    while _held(process) <= 1_000_000:
        assert since.s() < 20
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.2)
    assert _held(process) <= 2 * 1024 * 1024
    first = await process.read()  # one chunk read is not a whole window more to send
    assert isinstance(first, Chunk)
    await asyncio.sleep(0.2)
    assert _held(process) <= 2 * 1024 * 1024
    assert (await real.run("echo others go on", sealed=False)).out == b"others go on\n"
    assert len(first.data) + len((await drained(process)).out) == 20_000_000


async def test_writing_waits_for_a_target_that_does_not_read(real: World) -> None:
    """I-26: stdin that nobody reads stays with the writer; cut sets the writer free."""
    process = await real.targets.start(real.plan("sleep 30", sealed=True, wants_stdin=True))
    writer = asyncio.ensure_future(process.write(bytes(16 * 1024 * 1024)))  # noqa: TID251  a hung writer is the subject
    await asyncio.sleep(0.3)
    assert not writer.done()
    since = Since()
    await process.cut()
    await writer
    assert since.s() < 1
