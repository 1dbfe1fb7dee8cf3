"""The kill switch's own listener and socket: who may, what they ask of the rest of the broker, what they never do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from broker.core.errors import StoreFault
from broker.core.identity import IdentityStatus
from broker.core.roles import Permission, Role, holds
from broker.rpc.host import HostSocket
from broker.rpc.lane import FreezeLane
from broker.service.ports import Freeze, Tx
from broker.service.switch import KillSwitch
from grantd.v1 import admin_pb2, identity_pb2
from grantd.v1.admin_pb2_grpc import AdminServiceStub
from grantd.v1.identity_pb2_grpc import IdentityServiceStub
from tests.broker.rpc.calls import refusal_of
from tests.broker.rpc.world import TENANT, House


@dataclass
class Lane:
    """An open lane beside a house."""

    house: House
    port: int
    path: Path
    gave_up: list[float] = field(default_factory=list)

    async def pull(self, who: str, reason: str = "incident", **how: bytes) -> admin_pb2.FreezeResponse:
        """Freeze by somebody's certificate."""
        async with self.house.channel(self.house.people[who], port=self.port, **how) as channel:
            return await AdminServiceStub(channel).Freeze(admin_pb2.FreezeRequest(reason=reason), timeout=10)

    async def on_host(self, line: bytes) -> dict[str, object]:
        """What the socket answers; on a thread, as another process would ask."""

        def ask() -> dict[str, object]:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(10)
                connection.connect(str(self.path))
                connection.sendall(line)
                with connection.makefile("rb") as answers:
                    told = json.loads(answers.readline())
                    assert isinstance(told, dict)
                    return told

        return await asyncio.to_thread(ask)


@asynccontextmanager
async def opened(house: House, folder: Path) -> AsyncIterator[Lane]:
    """The lane and the socket, over the house's services."""
    async with AsyncExitStack() as stack:
        made = Lane(house=house, port=0, path=folder / "f.sock")
        switch = KillSwitch(
            freeze=house.cases.freeze, roster=house.world.roster, clock=house.world.clock,
            loop=asyncio.get_running_loop(), give_up=lambda: made.gave_up.append(time.monotonic()),
        )  # fmt: skip
        lane = FreezeLane(
            address="127.0.0.1:0", identity=lambda: house.shown, switch=switch, clock=house.world.clock,
            meter=house.meter,
        )  # fmt: skip
        made.port = lane.port
        lane.start()
        stack.callback(lane.stop)
        host = HostSocket(made.path, switch)
        host.start()
        stack.callback(host.stop)
        await house.cases.freeze.look()
        yield made


def closed(house: House) -> bool:
    """Whether the tenant is frozen here."""
    return house.world.live.is_closed(TENANT)


async def test_the_socket_outlives_a_want_of_descriptors(house: House, tmp_path: Path) -> None:
    """I-61: whoever asks while this process can open nothing more is answered as soon as it can."""
    bad = b'{"tenant": 1, "reason": ""}\n'
    async with opened(house, tmp_path) as lane:
        early = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(2)]
        with contextlib.ExitStack() as stack:
            for each in map(stack.enter_context, early):
                each.settimeout(10)
            with no_more_descriptors():
                for each in early:  # the kernel kept a descriptor for the first one, since that was waited for
                    each.connect(str(lane.path))
                    each.sendall(bad)
                assert b"a tenant is a name" in await asyncio.to_thread(early[0].recv, 4096)
                await asyncio.sleep(0.5)
            assert b"a tenant is a name" in await asyncio.to_thread(early[1].recv, 4096)
        assert (await lane.on_host(b'{"tenant": null, "reason": "incident"}\n'))["sessions"] == 0
        assert closed(house)


async def test_the_socket_outlives_whatever_it_is_sent(house: House, tmp_path: Path) -> None:
    """I-61: a line that is nested deeper than a parser goes is refused or dropped; the next pull counts."""
    async with opened(house, tmp_path) as lane:
        with contextlib.suppress(json.JSONDecodeError):  # no answer at all
            await lane.on_host(b"[" * 4_000 + b"\n")
        assert (await lane.on_host(b'{"tenant": null, "reason": "incident"}\n'))["sessions"] == 0


@contextlib.contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Nothing in this process opens anything more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("role", list(Role))
async def test_only_who_holds_the_permission_may(house: House, tmp_path: Path, role: Role) -> None:
    """The lane's own word for every role is the table's (I-41), and nothing is closed for those who may not."""
    async with opened(house, tmp_path) as lane:
        if holds(role, Permission.FREEZE):
            assert (await lane.pull(role.value)).sessions_cut == 0
        else:
            assert await refusal_of(lane.pull(role.value)) == ("PERMISSION_DENIED", "may_not_freeze")
        assert closed(house) == holds(role, Permission.FREEZE)


async def test_a_certificate_is_held_against_the_row_as_last_seen(house: House, tmp_path: Path) -> None:
    """Foreign, borrowed and expired certificates of this CA; one who was suspended; one whose role is gone (I-08)."""
    owner, agent = house.people["owner"], house.people["agent"]
    other = house.certificate(owner.row, owner.key, uri=f"grantd://t2/{owner.row.id}")
    borrowed = house.certificate(agent.row, agent.key, uri=f"grantd://t1/{owner.row.id}")
    async with opened(house, tmp_path) as lane:
        for who, certificate in (("owner", other), ("agent", borrowed)):
            answer = await refusal_of(lane.pull(who, certificate=certificate))
            assert answer == ("PERMISSION_DENIED", "may_not_freeze")
        late = house.certificate(owner.row, owner.key, life=timedelta(seconds=-1))
        assert await refusal_of(lane.pull("owner", certificate=late)) == ("UNAVAILABLE", "")
        await house.change(house.people["owner"], status=IdentityStatus.SUSPENDED)
        await house.change(house.people["admin"], role=Role.VIEWER)
        house.cases.identify.forget(house.people["manager"].row.key)  # as a suspension on this node does
        assert await refusal_of(lane.pull("manager")) == ("PERMISSION_DENIED", "may_not_freeze")
        await house.cases.freeze.look()
        for who in ("owner", "admin"):
            assert await refusal_of(lane.pull(who)) == ("PERMISSION_DENIED", "may_not_freeze")
        assert not closed(house)


async def test_the_lane_serves_one_call_and_no_other(house: House, tmp_path: Path) -> None:
    """Neither lifting nor asking who one is exists there."""
    async with opened(house, tmp_path) as lane, house.channel(house.people["owner"], port=lane.port) as channel:
        lift = AdminServiceStub(channel).Unfreeze(admin_pb2.UnfreezeRequest(reason="x"), timeout=10)
        assert (await refusal_of(lift))[0] == "UNIMPLEMENTED"
        who = IdentityServiceStub(channel).WhoAmI(identity_pb2.WhoAmIRequest(), timeout=10)
        assert (await refusal_of(who))[0] == "UNIMPLEMENTED"


async def test_it_works_while_the_store_says_nothing_at_all(house: House, tmp_path: Path) -> None:
    """I-61: a store whose writer hangs. Closed, kept in a file, answered; written when it is back, once."""
    held, hangs = threading.Event(), threading.Event()

    def hang(_: Tx) -> None:
        hangs.set()
        held.wait(30)

    hanging = asyncio.ensure_future(house.world.store.run(TENANT, hang))  # noqa: TID251  awaited below
    await asyncio.to_thread(hangs.wait, 10)
    async with opened(house, tmp_path) as lane:
        told = await lane.pull("manager")
        assert (told.recorded, closed(house)) == (False, True)
        assert [order.tenant for order in house.world.freezes.all()] == [TENANT]
        held.set()
        await hanging
        await house.cases.freeze.write_late()
        assert list(house.world.freezes.all()) == []
        assert (await lane.pull("manager", "again")).sessions_cut == 0
        await house.cases.freeze.write_late()
    assert (await house.events()).count("system.frozen") == 1


async def test_a_loop_that_stands_still_is_given_up(house: House, tmp_path: Path) -> None:
    """The freeze is durable first; whoever pulled is told, and the process is ended."""
    async with opened(house, tmp_path) as lane:
        loop = asyncio.get_running_loop()
        switch = KillSwitch(
            freeze=house.cases.freeze, roster=house.world.roster, clock=house.world.clock, loop=loop,
            give_up=lambda: lane.gave_up.append(len(house.world.freezes.all())),
        )  # fmt: skip
        problems = list[str]()

        def pull() -> None:
            try:
                switch.by_host(TENANT, 0, "incident")
            except StoreFault as fault:
                problems.append(fault.what)

        puller = threading.Thread(target=pull)
        puller.start()
        puller.join(20)  # this very loop is the one that stands still
        assert lane.gave_up == [1]
        assert problems == ["the broker stands still: it is ended"]
        assert closed(house)


async def test_the_host_freezes_one_tenant_or_all(house: House, tmp_path: Path) -> None:
    """By the kernel's word on who asks; every tenant is closed, and written tenant by tenant."""
    async with opened(house, tmp_path) as lane:
        told = await lane.on_host(b'{"tenant": null, "reason": "fire"}\n')
        assert told["sessions"] == 0
        assert house.world.live.is_closed(TENANT)
        assert house.world.live.is_closed("t2")  # type: ignore[arg-type]  # another's
        await house.cases.freeze.write_late()
        assert house.world.live.is_closed(TENANT)
        assert list(house.world.freezes.all()) == []
        row = await house.world.store.read(TENANT, lambda tx: tx.freezes.active())
        assert row is not None
        assert (row.frozen_by.partition(":")[0], row.reason) == ("host", "fire")


@pytest.mark.parametrize(
    "line",
    [
        b"\n", b"{\n", b"[]\n", b'{"tenant": null}\n', b'{"tenant": 1, "reason": "x"}\n', b"x" * 5000 + b"\n",
        b'{"tenant": "nobody", "reason": "x"}\n', b'{"tenant": null, "reason": "' + b"a" * 600 + b'"}\n',
        b'{"tenant": null, "reason": "x", "more": 1}\n', b'{"tenant": null, "reason": null}\n',
    ],
)  # fmt: skip
async def test_what_is_no_pull_closes_nothing(house: House, tmp_path: Path, line: bytes) -> None:
    """Each gets one answer, and the next one is served."""
    async with opened(house, tmp_path) as lane:
        assert "error" in await lane.on_host(line)
        assert not closed(house)
        assert "error" not in await lane.on_host(b'{"tenant": "t1", "reason": "x"}\n')


async def test_what_another_broker_froze_counts_here(house: House, tmp_path: Path) -> None:
    """And what it lifted is open again; what was pulled here and is not written stays (I-02)."""
    async with opened(house, tmp_path):
        freeze = house.cases.freeze
        row = Freeze(tenant=TENANT, frozen_by=house.people["admin"].row.id, reason="x", at=house.world.clock.now())
        await house.world.store.run(TENANT, lambda tx: tx.freezes.put(row))
        await freeze.look()
        assert closed(house)
        await house.world.store.run(TENANT, lambda tx: tx.freezes.lift())
        await freeze.look()
        assert not closed(house)
