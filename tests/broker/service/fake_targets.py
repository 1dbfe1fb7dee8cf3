"""ports.Targets without a network: a few programs, and faults on order. Holds tests/contract/targets.py."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from broker.core.action import Outcome
from broker.core.errors import TargetFault
from broker.core.identity import Target
from broker.core.ids import GrantId, TenantId
from broker.core.sshwire import ed25519_blob, parse_blob
from broker.core.terminal import Signal, Size
from broker.service.ports import Chunk, ExecPlan, Finding, Stream

CUT: Final = Outcome(exit_status=None, signal="", reason="cut")
NOWHERE: Final = "192.0.2.255"
"""A host that nobody reaches."""


class FakeProcess:
    """One program; `journal` is told of every byte that reaches it."""

    def __init__(self, plan: ExecPlan, journal: list[tuple[str, bytes]]) -> None:
        self.plan, self.cuts = plan, 0
        self.heard_the_end = False
        """Whether its stdin has ended."""
        self._journal = journal
        self._stdin: asyncio.Queue[bytes] = asyncio.Queue()
        if not plan.wants_stdin:
            self._stdin.put_nowait(b"")
        self._over: asyncio.Future[Outcome | TargetFault] = asyncio.get_running_loop().create_future()
        self._program = _program(plan.command, self._stdin)

    async def read(self) -> Chunk | Outcome:
        following = asyncio.ensure_future(anext(self._program))  # noqa: TID251  ended below, always
        try:
            both: set[asyncio.Future[Any]] = {following, self._over}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            following.cancel()
            await asyncio.wait({following})
        if not self._over.done():
            item = following.result()
            if isinstance(item, Chunk):
                return item
            self._over.set_result(item)
        over = self._over.result()
        if isinstance(over, TargetFault):
            raise over
        return over

    async def write(self, data: bytes) -> None:
        self._journal.append(("written", data))
        self._stdin.put_nowait(data)

    def say(self, data: bytes) -> None:
        """The program writes something by itself: `cat` gives back what nobody sent."""
        self._stdin.put_nowait(data)

    async def write_eof(self) -> None:
        self.heard_the_end = True
        self._stdin.put_nowait(b"")

    async def resize(self, size: Size) -> None:
        self._journal.append(("resized", b"%dx%d" % (size.columns, size.rows)))

    async def signal(self, name: Signal) -> None:
        self._journal.append(("signalled", name.encode()))
        self.end(Outcome(exit_status=None, signal=name, reason=""))

    async def cut(self) -> None:
        self.cuts += 1
        self.end(CUT)

    def end(self, how: Outcome | TargetFault) -> None:
        """Ends it, unless it has ended."""
        if not self._over.done():
            self._over.set_result(how)

    @property
    def running(self) -> bool:
        return not self._over.done()


async def _program(command: bytes, stdin: asyncio.Queue[bytes]) -> AsyncIterator[Chunk | Outcome]:
    """The few commands that tests use; every other one says what it was and succeeds."""
    status = 0
    if command == b"echo out; echo err >&2; exit 3":
        yield Chunk(stream=Stream.OUT, data=b"out\n")
        yield Chunk(stream=Stream.ERR, data=b"err\n")
        status = 3
    elif command == b"cat":
        while data := await stdin.get():
            yield Chunk(stream=Stream.OUT, data=data)
    elif command.startswith(b"sleep"):
        await asyncio.Event().wait()
    elif command == b"cat /dev/zero":
        while True:
            await asyncio.sleep(0)
            yield Chunk(stream=Stream.OUT, data=bytes(65_536))
    else:
        yield Chunk(stream=Stream.OUT, data=b"ran " + command)
    yield Outcome(exit_status=status, signal="", reason="")


class AtOnce(FakeProcess):
    """A program whose output is all there when it starts: four MiB, and then what it says otherwise."""

    _left = 64

    async def read(self) -> Chunk | Outcome:
        self._left -= 1
        return Chunk(stream=Stream.OUT, data=bytes(65_536)) if self._left >= 0 else await super().read()


@dataclass(slots=True)
class FakeTargets:
    """Every target of a test. `journal` is shared with the outlet and the recorder."""

    journal: list[tuple[str, bytes]] = field(default_factory=list)
    plans: list[ExecPlan] = field(default_factory=list)
    processes: list[FakeProcess] = field(default_factory=list)
    ended: list[GrantId] = field(default_factory=list)
    starts: type[FakeProcess] = FakeProcess
    end_fails: bool = False
    """The grant's connection cannot be closed for now."""
    unbelieving: set[str] = field(default_factory=set)
    """Names of targets that do not know the egress CA's next key."""
    hangs: bool = False
    """Closing it does not return."""
    hanging: set[GrantId] = field(default_factory=set)
    """The same for these grants alone."""
    _pools: set[tuple[TenantId, GrantId]] = field(default_factory=set)
    _of_grant: defaultdict[tuple[TenantId, GrantId], list[FakeProcess]] = field(
        default_factory=lambda: defaultdict(list)
    )

    async def start(self, plan: ExecPlan) -> FakeProcess:
        if plan.target.host == NOWHERE:
            raise TargetFault("the target cannot be reached", code="unreachable")
        key = (plan.tenant, plan.grant_id)
        if plan.sealed or key not in self._pools:
            await plan.announce(plan.serial)
        if not plan.sealed:
            self._pools.add(key)
        self.journal.append(("started", plan.command))
        process = self.starts(plan, self.journal)
        self.plans.append(plan)
        self.processes.append(process)
        self._of_grant[key].append(process)
        return process

    async def end_grant(self, tenant: TenantId, grant: GrantId) -> None:
        while self.hangs or grant in self.hanging:  # noqa: ASYNC110  what a test changes is a field
            await asyncio.sleep(0.01)
        if self.end_fails:
            raise TargetFault("the connection does not close", code="too_slow")
        self.ended.append(grant)
        self._pools.discard((tenant, grant))
        for process in self._of_grant.pop((tenant, grant), []):
            process.end(TargetFault("the connection is lost", code="connection_lost"))

    async def probe(
        self, target: Target, login: str, announce: Callable[[int], Awaitable[None]], serial: int
    ) -> Sequence[Finding]:
        await announce(serial)
        return [Finding(ok=True, what=f"{login} can log in", advice="")]

    async def believes(
        self, target: Target, login: str, announce: Callable[[int], Awaitable[None]], generation: int
    ) -> bool:
        await announce(generation)
        return target.name not in self.unbelieving

    def sshd_lines(self, target: Target, egress_cas: Sequence[str]) -> str:
        return "\n".join([f"# {target.name}", "TrustedUserCAKeys", *egress_cas, ""])

    async def fetch_host_key(self, host: str, port: int) -> str:
        return parse_blob(ed25519_blob(bytes(range(32)))).line()

    @property
    def running(self) -> list[FakeProcess]:
        """Commands that have not ended on the target."""
        return [process for process in self.processes if process.running]
