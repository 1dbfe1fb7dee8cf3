"""The bytes of one command between a caller and a target. Record, then send, in both directions.

Nothing is dropped (I-30).

Awaiting the recorder is the back-pressure on both sides. Knows neither the store nor a door.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from broker.core.action import Action, Outcome
from broker.core.errors import TargetFault
from broker.core.flags import Destination
from broker.core.forward import destination_in
from broker.core.terminal import Signal, Size, Terminal
from broker.service.live import LiveSession
from broker.service.oversight import Oversight
from broker.service.ports import Chunk, ExecPlan, Stream, TargetProcess, Targets
from broker.service.shield import to_the_end
from broker.service.start import Ticket
from recorder.errors import RecorderFailed
from recorder.escape import visible
from recorder.grec import Kind
from recorder.sink import RecordingSink
from recorder.typed import InputPolicy, Piece, input_of, stdin_key

WARN_AT = (60.0, 10.0)
"""Seconds before the end at which the caller is warned."""
_TOLD_WITHIN_S = 0.3
_TURN = 256 * 1024
"""Bytes of one command's output that are moved before another session has its turn."""
_ENDING = frozenset({Signal.HUP, Signal.INT, Signal.KILL, Signal.TERM})
_CHANNEL = 0
_KIND = {Stream.OUT: Kind.OUT, Stream.ERR: Kind.ERR}


class Warned(Protocol):
    """Who is told that the end is near, and why it came."""

    async def warn(self, left: timedelta) -> None: ...
    async def tell(self, line: str) -> None:
        """A line for the person, from the broker: fixed phrases, with whatever others wrote escaped in them."""
        ...

    def over(self, lines: Sequence[str]) -> None:
        """It was cut. These are the last lines, and nothing is let through after them.

        Never waits: neither for a caller that does not read, nor for what is still to be sealed and written. Whatever
        comes after it is dropped, or raises ConnectionError.
        """
        ...


class Outlet(Warned, Protocol):
    """Where a door wants the bytes. Awaiting is the back-pressure; ConnectionError means the caller is gone."""

    async def out(self, data: bytes) -> None: ...
    async def err(self, data: bytes) -> None: ...


class Inlet(Protocol):
    """Where stdin comes from."""

    async def read(self) -> bytes:
        """The next bytes; empty at the end. Raises ConnectionError when the caller is gone."""
        ...


class Steering(Protocol):
    """What else a caller says while a command runs: its window changes, it sends a signal."""

    @property
    def terminal(self) -> Terminal:
        """What the pty is made with, where the action has one."""
        ...

    async def next(self) -> Size | Signal:
        """The next of them. Bounded by whoever implements it: the last size counts, not each."""
        ...


class CutShort(Exception):
    """The session ends before its command did. `reason` is a fixed word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def guard(live: LiveSession, sink: RecordingSink, outlet: Warned, left: float) -> None:
    """Raises CutShort at the deadline, on a cut from outside, or as soon as the recorder fails: it is cut by then.

    Warns before the deadline.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + left
    async with asyncio.TaskGroup() as group:
        group.create_task(_raise_on_cut(live))
        group.create_task(_raise_on_failure(live, sink))
        for before in WARN_AT:
            if (wait := end - before - loop.time()) > 0:
                await asyncio.sleep(wait)
                group.create_task(_warn(outlet, before))
        await asyncio.sleep(max(0.0, end - loop.time()))
        live.cut("expired")
        raise CutShort(live.reason)


async def say_why(live: LiveSession, outlet: Warned) -> None:
    """What whoever cut the session said; a caller that does not read does not hold up its end."""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(_TOLD_WITHIN_S):
            for line in _words_of(live):
                await outlet.tell(line)


def last_lines(live: LiveSession, reason: str) -> Sequence[str]:
    """What the person in a session that was cut is told: what whoever cut it said, and the fixed word."""
    return [*_words_of(live), f"ended: {reason}"]


def _words_of(live: LiveSession) -> Sequence[str]:
    return [f"an operator ended this: {visible(live.words)}"] if live.words else []


async def _warn(outlet: Warned, left: float) -> None:
    """A caller that does not read its warning does not hold up the deadline."""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(left):
            await outlet.warn(timedelta(seconds=left))


async def _raise_on_cut(live: LiveSession) -> None:
    raise CutShort(await live.until_cut())


async def _raise_on_failure(live: LiveSession, sink: RecordingSink) -> None:
    await sink.failed.wait()
    live.cut("recorder_failed")
    raise CutShort(live.reason)


async def once_input_flows(oversight: Oversight, plan: ExecPlan) -> ExecPlan:
    """The plan, with the seconds that are left, once input flows.

    A command is input too: nothing is asked of the target before somebody watches, where somebody must.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    await oversight.until_flows()
    return replace(plan, seconds_left=plan.seconds_left - (loop.time() - began))


class Pump:
    """One command's bytes."""

    def __init__(
        self,
        ticket: Ticket,
        sink: RecordingSink,
        inlet: Inlet,
        outlet: Outlet,
        oversight: Oversight,
        *,
        max_output: int,
        steering: Steering | None = None,
        keeps: InputPolicy = InputPolicy.OFF,
    ) -> None:
        self._keeps, self._input = keeps, input_of(keeps, terminal=False, key=b"")
        self._ticket, self._sink, self._inlet, self._outlet = ticket, sink, inlet, outlet
        self._oversight, self._steering = oversight, steering
        self._room = max_output
        self._moved = {"in": 0, "out": 0}

    async def run(self, targets: Targets, plan: ExecPlan) -> Outcome:
        """Starts the command and moves its bytes until it ends.

        However this is left, the command is ended on the target.
        """
        meta = self._ticket.meta
        self._input = input_of(self._keeps, terminal=plan.pty is not None, key=stdin_key(meta.dek, meta.salt))
        await self._sink.event(Kind.EXEC, _CHANNEL, _exec_payload(plan))
        if plan.wants_stdin and self._keeps is not InputPolicy.OFF:
            await self._sink.event(Kind.META, _CHANNEL, json.dumps({"input": self._keeps}).encode())
        if plan.pty is not None:
            await self._sink.event(Kind.RESIZE, _CHANNEL, _size_payload(plan.pty.size))
        to = destination_in(plan.command)
        if to is not None:
            await self._sink.event(Kind.FWD, _CHANNEL, _forward_payload("open", to, self._moved))
        await self._sink.marker(*decision_of(self._ticket.action))
        plan = await once_input_flows(self._oversight, plan)
        try:
            process = await targets.start(plan)
        except TargetFault as fault:
            return Outcome(exit_status=None, signal="", reason=fault.code)
        try:
            outcome = await self._converse(process, plan)
        finally:
            await to_the_end(process.cut())
            await to_the_end(self._tell_end(plan, to))
        await self._sink.event(Kind.EXIT, _CHANNEL, exit_payload(outcome))
        return outcome

    async def _tell_end(self, plan: ExecPlan, to: Destination | None) -> None:
        """What moved, however it ended; a recorder that failed has said so already."""
        with contextlib.suppress(RecorderFailed):
            if plan.wants_stdin:
                await self._keep(self._input.end())
            if to is not None:
                await self._sink.event(Kind.FWD, _CHANNEL, _forward_payload("close", to, self._moved))

    async def _keep(self, pieces: Sequence[Piece]) -> None:
        for kind, payload in pieces:
            await self._sink.event(kind, _CHANNEL, payload)

    async def _converse(self, process: TargetProcess, plan: ExecPlan) -> Outcome:
        beside = [self._feed(process)] if plan.wants_stdin else []
        if self._steering is not None:
            beside.append(self._steer(process, self._steering, resizes=plan.pty is not None))
        if not beside:
            return await self._drain(process)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in beside]
            outcome = await self._drain(process)
            for task in tasks:
                task.cancel()
        return outcome

    async def _drain(self, process: TargetProcess) -> Outcome:
        moved = 0
        while True:
            try:
                item = await process.read()
            except TargetFault as fault:
                return Outcome(exit_status=None, signal="", reason=fault.code)
            if isinstance(item, Outcome):
                return item
            await self._forward(item)
            moved += len(item.data)
            if moved >= _TURN:  # where nothing has to be waited for, nobody else would have a turn
                moved = 0
                await asyncio.sleep(0)

    async def _forward(self, chunk: Chunk) -> None:
        self._room -= len(chunk.data)
        self._moved["out"] += len(chunk.data) if chunk.stream is Stream.OUT else 0
        if self._room < 0:
            raise CutShort("output_limit")
        await self._sink.event(_KIND[chunk.stream], _CHANNEL, chunk.data)
        await self._keep(self._input.shown(chunk.data))
        try:
            await (self._outlet.out if chunk.stream is Stream.OUT else self._outlet.err)(chunk.data)
        except ConnectionError:
            raise CutShort("caller_gone") from None

    async def _feed(self, process: TargetProcess) -> None:
        try:
            while data := await self._inlet.read():
                self._moved["in"] += len(data)
                await self._keep(self._input.typed(data))
                # after the recorder, which may have taken its time: what is held now is not sent (threats.md F14)
                await self._oversight.until_flows()
                await process.write(data)
            await self._oversight.until_flows()
            await process.write_eof()
        except TargetFault:
            return  # the command closed its stdin or ended: `read` tells how
        except ConnectionError:
            raise CutShort("caller_gone") from None

    async def _steer(self, process: TargetProcess, steering: Steering, *, resizes: bool) -> None:
        while True:
            match await steering.next():
                case Size() as size if resizes:
                    await self._sink.event(Kind.RESIZE, _CHANNEL, _size_payload(size))
                    await process.resize(size)
                case Signal() as signal if signal in _ENDING or self._oversight.flows:
                    await self._sink.event(Kind.META, _CHANNEL, json.dumps({"signal": signal}).encode())
                    await process.signal(signal)
                case Size() | Signal():
                    continue  # a command may take a signal for input: while that is held, only what ends it passes


def _forward_payload(what: str, to: Destination, moved: Mapping[str, int]) -> bytes:
    return json.dumps({"op": what, "host": to.host, "port": to.port, "dir": "out", **moved}).encode()


def _size_payload(size: Size) -> bytes:
    return struct.pack(">HH", size.columns, size.rows)


def _exec_payload(plan: ExecPlan) -> bytes:
    value: dict[str, object] = {
        "argv": plan.command.decode("utf-8", "backslashreplace"),
        "cwd": plan.cwd,
        "env": dict(plan.env),
        "pty": plan.pty is not None,
    }
    return json.dumps(value, sort_keys=True, ensure_ascii=False).encode()


def decision_of(action: Action) -> tuple[str, str, str]:
    """Label, code and audit id of the marker that opens a recording."""
    how = f"approved ({action.quorum})" if action.quorum else "unattended"
    return f"{action.command_class.word}: {how}", "SE2002I", action.id


def exit_payload(outcome: Outcome) -> bytes:
    """The payload of EXIT."""
    value: dict[str, str | int] = {"reason": outcome.reason} if outcome.reason else {}
    if outcome.exit_status is not None:
        value["status"] = outcome.exit_status
    if outcome.signal:
        value["signal"] = outcome.signal
    return json.dumps(value, sort_keys=True).encode()
