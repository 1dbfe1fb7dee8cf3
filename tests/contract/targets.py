"""What every Targets promises its callers. A test class inherits it and gives `targets` and the plans.

Commands are shell text; an implementation that runs no shell must understand the few that stand here.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod

import pytest

from broker.core.action import Outcome
from broker.core.errors import TargetFault
from broker.core.ids import GrantId, TenantId
from broker.service.ports import Chunk, ExecPlan, Stream, TargetProcess, Targets
from tests.pace import Since

SAY = b"echo out; echo err >&2; exit 3"
ECHO = b"cat"
WAIT = b"sleep 300"
FLOOD = b"cat /dev/zero"
BOTH = pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "pooled"])


class TargetsContract:
    """Inherit, and give the fixture `targets` and the method `plan`."""

    @abstractmethod
    def plan(self, command: bytes, *, sealed: bool, announced: list[int], stdin: bool, grant: GrantId) -> ExecPlan:
        """A plan that the target takes; `announced` collects the serials; 60 s left."""

    @abstractmethod
    def unreachable(self, plan: ExecPlan) -> ExecPlan:
        """The same plan for a target that is not there."""

    @BOTH
    async def test_output_comes_by_stream_and_the_outcome_last(self, targets: Targets, *, sealed: bool) -> None:
        """Chunks first, at most 64 KiB each, stdout and stderr apart; then how it ended."""
        process = await targets.start(self._plan(SAY, sealed=sealed))
        streams, outcome = await _drain(process)
        assert streams == {Stream.OUT: b"out\n", Stream.ERR: b"err\n"}
        assert outcome == Outcome(exit_status=3, signal="", reason="")

    @BOTH
    async def test_input_reaches_the_command(self, targets: Targets, *, sealed: bool) -> None:
        """What is written arrives, and the end of it too."""
        process = await targets.start(self._plan(ECHO, sealed=sealed, stdin=True))
        await process.write(b"one\n")
        await process.write(b"two\n")
        await process.write_eof()
        assert (await _drain(process))[0][Stream.OUT] == b"one\ntwo\n"

    @BOTH
    async def test_without_input_a_command_sees_its_end(self, targets: Targets, *, sealed: bool) -> None:
        """A command that reads what nobody sends ends."""
        process = await targets.start(self._plan(ECHO, sealed=sealed))
        assert (await _drain(process))[1].exit_status == 0

    @BOTH
    @pytest.mark.parametrize("command", [WAIT, FLOOD], ids=["waits", "floods"])
    async def test_cut_ends_it_within_a_second(self, targets: Targets, command: bytes, *, sealed: bool) -> None:
        """I-01: busy or idle; twice is harmless; the reader learns that it was cut."""
        process = await targets.start(self._plan(command, sealed=sealed))
        await asyncio.sleep(0.05)
        since = Since()
        await process.cut()
        await process.cut()
        assert since.s() < 1.0
        assert (await _drain(process))[1] == Outcome(exit_status=None, signal="", reason="cut")

    async def test_cut_wakes_a_waiting_reader(self, targets: Targets) -> None:
        """Nobody hangs on a command that was cut."""
        process = await targets.start(self._plan(WAIT, sealed=True))
        async with asyncio.timeout(2), asyncio.TaskGroup() as group:
            reader = group.create_task(process.read())
            await asyncio.sleep(0.05)
            await process.cut()
        assert isinstance(reader.result(), Outcome)

    @BOTH
    async def test_the_end_of_a_grant_ends_its_commands(self, targets: Targets, *, sealed: bool) -> None:
        """I-02: within a second, and again, and for a grant that nobody knows."""
        plan = self._plan(WAIT, sealed=sealed)
        process = await targets.start(plan)
        since = Since()
        await targets.end_grant(plan.tenant, plan.grant_id)
        await targets.end_grant(plan.tenant, plan.grant_id)
        await targets.end_grant(TenantId("nobody"), plan.grant_id)
        assert since.s() < 1.0
        with pytest.raises(TargetFault) as lost:
            await _drain(process)
        assert lost.value.code == "connection_lost"

    async def test_the_end_of_a_grant_is_nobody_elses(self, targets: Targets) -> None:
        """I-22: another grant's command goes on, and so does the same grant's name in another tenant."""
        mine = self._plan(ECHO, sealed=False, stdin=True)
        process = await targets.start(mine)
        await targets.end_grant(mine.tenant, OTHER_GRANT)
        await targets.end_grant(TenantId("nobody"), mine.grant_id)
        await process.write(b"still here")
        await process.write_eof()
        assert (await _drain(process))[0][Stream.OUT] == b"still here"

    async def test_a_serial_is_announced_for_each_connection(self, targets: Targets) -> None:
        """A sealed command always opens one; reads of one grant open one together."""
        announced: list[int] = []
        plans = [self._plan(SAY, sealed=True, announced=announced) for _ in range(2)]
        for plan in plans:
            await _drain(await targets.start(plan))
        assert announced == [plan.serial for plan in plans]
        announced.clear()
        for _ in range(3):
            await _drain(await targets.start(self._plan(SAY, sealed=False, announced=announced)))
        assert len(announced) == 1

    @BOTH
    async def test_a_target_that_is_not_there_is_a_fault(self, targets: Targets, *, sealed: bool) -> None:
        """A fixed phrase with a code, and nothing announced."""
        announced: list[int] = []
        with pytest.raises(TargetFault) as fault:
            await targets.start(self.unreachable(self._plan(SAY, sealed=sealed, announced=announced)))
        assert fault.value.code == "unreachable"
        assert announced == []

    def _plan(
        self, command: bytes, *, sealed: bool, announced: list[int] | None = None, stdin: bool = False
    ) -> ExecPlan:
        serials: list[int] = [] if announced is None else announced
        return self.plan(command, sealed=sealed, announced=serials, stdin=stdin, grant=GRANT)


GRANT = GrantId("gr_aaaaaaaaaaaaaaaaaaaaaaaaaa")
OTHER_GRANT = GrantId("gr_bbbbbbbbbbbbbbbbbbbbbbbbbb")


async def _drain(process: TargetProcess) -> tuple[dict[Stream, bytes], Outcome]:
    streams = {Stream.OUT: b"", Stream.ERR: b""}
    while isinstance(got := await process.read(), Chunk):
        assert 0 < len(got.data) <= 64 * 1024
        streams[got.stream] += got.data
    return streams, got
