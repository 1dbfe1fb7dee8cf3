"""One `grantctl run` in the helper: the words as click reads them, the streams of the process that asked."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import Any, Final, Self, TypeVar

import click

from grantd.aio import AsyncClient
from grantd.cli import exits
from grantd.cli.run import chosen, line_of, run, still_waiting
from grantd.cli.shell import Shell, failure_text, shared
from grantd.cli.showing import ERR, OUT, Showing
from grantd.cli.thin import INTERRUPTED
from grantd.errors import GrantdError
from grantd.execution import MAX_STDIN_BYTES, Changed, Event, Finished
from grantd.v1.action_pb2 import Action, ActionState

_IN: Final = 0
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What `grantctl run` was told."""

    where: str
    words: tuple[str, ...]
    from_stdin: bool
    cwd: str
    reason: str
    wait_for: timedelta | None
    resume_id: str | None
    raw: bool
    as_json: bool

    @classmethod
    def parse(cls, words: Sequence[str]) -> Self | None:
        """The words after `run`; None for those that the whole grantctl has to answer: help, mistakes, files."""
        shell = Shell()
        try:
            with shared(run).make_context("run", list(words), obj=shell) as context:
                told: dict[str, Any] = dict(context.params)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            return None
        where, resume_id = told["where"], told["resume_id"]
        is_whole = where is None if resume_id else where is not None and bool(told["words"])
        if not is_whole or shell.profile_name is not None or told.pop("stdin_file") is not None:
            return None
        return cls(**{**told, "where": where or ""}, as_json=shell.as_json)


class Streams:
    """The three streams of another process. Whatever blocks on them blocks one thread, which belongs to this run."""

    def __init__(self, descriptors: Sequence[int], *, no_colour: bool) -> None:
        self._descriptors = tuple(descriptors)
        self.terminals = frozenset(n for n in (OUT, ERR) if os.isatty(self._descriptors[n]))
        self.colour = not no_colour and OUT in self.terminals
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # a daemon, unlike an executor's: somebody who never reads must not keep the helper from ending
        threading.Thread(target=self._thread, daemon=True).start()

    async def write(self, stream: int, data: bytes) -> None:
        """All of it, however slowly it is taken. Raises BrokenPipeError."""
        await self._do(lambda: _write(self._descriptors[stream], data))

    async def read(self, limit: int) -> bytes:
        """Standard input to its end, at most `limit` bytes."""
        return await self._do(lambda: _read(self._descriptors[_IN], limit))

    def close(self) -> None:
        """Once the thread is done with them: a number that was closed too early could soon be somebody else's."""
        self._work.put(None)

    async def _do(self, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def do() -> None:
            try:
                result = work()
            except OSError as failed:
                tell = functools.partial(_fail, done, failed)
            else:
                tell = functools.partial(_succeed, done, result)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(tell)

        self._work.put(do)
        return await done

    def _thread(self) -> None:
        while (work := self._work.get()) is not None:
            work()
        for descriptor in self._descriptors:
            os.close(descriptor)


def _succeed(done: asyncio.Future[T], result: T) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: asyncio.Future[Any], failed: OSError) -> None:
    if not done.done():
        done.set_exception(failed)


class Run:
    """One command, from its words to an exit status."""

    def __init__(self, client: AsyncClient, told: Invocation, streams: Streams) -> None:
        self._client, self._told, self._streams = client, told, streams
        self._showing = Showing(
            as_json=told.as_json, raw=told.raw, terminals=streams.terminals, colour=streams.colour,
        )  # fmt: skip

    async def status(self) -> int:
        """The exit status, as grantctl's own would be. Cancelling it ends the command."""
        try:
            action = await self._follow(await self._events())
            return exits.of_action(action, waited=self._showing.waited or self._told.resume_id is not None)
        except GrantdError as refused:
            await self._say(failure_text(refused, as_json=self._told.as_json))
            return exits.of_error(refused)
        except OSError:  # a stream that cannot be written: nobody reads it, or its disk is full
            return exits.Exit.FAILURE

    async def interrupted(self) -> int:
        """What is said and told after a Ctrl-C."""
        with contextlib.suppress(OSError):
            await self._say("interrupted")
        return INTERRUPTED

    async def _events(self) -> AsyncGenerator[Event, None]:
        told = self._told
        stdin = await self._streams.read(MAX_STDIN_BYTES + 1) if told.from_stdin else None
        self._stdin = stdin or b""
        if told.resume_id is not None:
            return self._client.resume(told.resume_id, stdin=self._stdin)
        grant = told.where
        if not grant.startswith("gr_"):
            me = (await self._client.whoami()).identity_id
            grant = chosen([each async for each in self._client.grants()], me=me, where=told.where)
        return self._client.execute(grant, line_of(told.words), stdin=stdin, cwd=told.cwd, reason=told.reason)

    async def _follow(self, events: AsyncGenerator[Event, None]) -> Action:
        wait_for = self._told.wait_for
        last = await self._shown(events, until_it_waits=wait_for is not None)
        if last.state != ActionState.ACTION_STATE_AWAITING or wait_for is None:
            return last
        action = await self._client.wait_action(last.id, unless=last.state, timeout=wait_for)
        if action.state == ActionState.ACTION_STATE_AWAITING:
            await self._say(still_waiting(action))
            return action
        return await self._shown(self._client.resume(action.id, stdin=self._stdin), until_it_waits=False)

    async def _shown(self, events: AsyncGenerator[Event, None], *, until_it_waits: bool) -> Action:
        action = Action()
        async with contextlib.aclosing(events):
            async for event in events:
                for stream, data in self._showing.pieces(event, datetime.now(UTC)):
                    await self._streams.write(stream, data)
                if isinstance(event, Changed | Finished):
                    action = event.action
                if until_it_waits and action.state == ActionState.ACTION_STATE_AWAITING:
                    break
        return action

    async def _say(self, text: str) -> None:
        await self._streams.write(*self._showing.line(text))


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _read(descriptor: int, limit: int) -> bytes:
    parts = bytearray()
    while len(parts) < limit and (part := os.read(descriptor, limit - len(parts))):
        parts += part
    return bytes(parts)
