"""One end of a bus: frames, questions and their answers. The same on both sides; believes nothing that it reads.

A frame is a u32 length and that much JSON. Words are handled in the order in which they came, before anything that came
after them; questions each in a task of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog

from broker.bus import codec
from broker.bus.codec import BusError
from broker.bus.messages import Ask, Tell
from broker.core.errors import Blame, Fault, Refusal, SignerFault, SignerRefused, StoreFault, TargetFault

log = structlog.get_logger()
FROM_WORKER_BYTES: Final = 512 * 1024
"""Of one frame from a worker: an event of 256 KiB, as base64."""
FROM_CONTROL_BYTES: Final = 4 << 20
"""Of one frame to a worker: a tenant's rules have at most 256 KiB."""
MAX_OPEN: Final = 4_096
"""Questions of one end that are not answered yet; more, and it is not listened to any more."""
MAX_UNSENT: Final = 32 << 20
"""Bytes that the other end leaves unread before it counts as gone."""
_LENGTH: Final = struct.Struct(">I")
_IN_A_ROW: Final = 64
"""Frames that are heeded before anybody else's turn."""
_WHAT: Final = 500
"""Characters of a cause that cross."""
Q = TypeVar("Q")
A = TypeVar("A")


class BusLost(Fault):
    """The other end is gone."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What an end answers and heeds: by verb, the type and who takes it."""

    asks: Mapping[str, tuple[Ask[Any, Any], Callable[[Any], Awaitable[Any]]]]
    tells: Mapping[str, tuple[Tell[Any], Callable[[Any], None]]]

    @classmethod
    def of(cls, asks: Mapping[Ask[Any, Any], Callable[[Any], Awaitable[Any]]],
           tells: Mapping[Tell[Any], Callable[[Any], None]]) -> Answers:  # fmt: skip
        """By the verbs' own names."""
        return cls(
            asks={ask.verb: (ask, by) for ask, by in asks.items()}, tells={t.verb: (t, by) for t, by in tells.items()}
        )


class Peer:
    """The other end, as this one sees it. `run` reads until either is over.

    Args:
        reader, writer: the socket's.
        answers: what it may ask and tell.
        longest: bytes of a frame that it may send.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: Answers, *, longest: int
    ) -> None:
        self._reader, self._writer, self._answers, self._longest = reader, writer, answers, longest
        self._open: dict[int, tuple[Ask[Any, Any], asyncio.Future[Any]]] = {}
        self._asked: dict[int, asyncio.Task[None]] = {}
        self._next = 0
        self._lost = False

    async def run(self) -> None:
        """Reads until the other end is gone.

        Raises:
            BusError: it said what it may not.
        """
        try:
            async with asyncio.TaskGroup() as group:
                with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                    await self._read(group)
                for task in self._asked.values():
                    task.cancel()
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        finally:
            self.lose()

    async def _read(self, group: asyncio.TaskGroup) -> None:
        while True:
            for _ in range(_IN_A_ROW):
                self._heed(await self._frame(), group)
            # what is buffered is read without a pause: one that floods leaves the loop to everybody else in between
            await asyncio.sleep(0)

    def hang_up(self) -> None:
        """Nothing more is read from it either: `run` returns."""
        self._writer.transport.abort()

    def lose(self) -> None:
        """Nothing more is said to it, and what waits for its answers fails."""
        self._lost = True
        self._writer.close()
        for _, answer in self._open.values():
            if not answer.done():
                answer.set_exception(BusLost("the other end of the bus is gone"))
                answer.exception()  # perhaps nobody waits any more
        self._open.clear()

    async def ask(self, ask: Ask[Q, A], question: Q) -> A:
        """Its answer. A cancellation is passed on, and the answer to it is not waited for.

        Raises:
            Refusal, Fault: as the other end raised it; BusLost where there is none.
        """
        self._next += 1
        number = self._next
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._open[number] = (ask, answer)
        try:
            self._send(["ask", number, ask.verb, codec.write(ask.question, question)])
            return await answer
        except asyncio.CancelledError:
            with contextlib.suppress(BusLost):
                self._send(["never", number])
            raise
        finally:
            self._open.pop(number, None)

    def tell(self, tell: Tell[Q], word: Q) -> None:
        """Says it. Raises BusLost."""
        self._send(["tell", tell.verb, codec.write(tell.word, word)])

    async def told(self, tell: Tell[Q], word: Q) -> None:
        """As `tell`, and waits while the other end does not read. Raises BusLost."""
        self.tell(tell, word)
        try:
            await self._writer.drain()
        except OSError as error:
            raise BusLost("the other end of the bus is gone") from error

    def _send(self, message: list[object]) -> None:
        if self._lost or self._writer.is_closing():
            raise BusLost("the other end of the bus is gone")
        body = codec.pack(message)
        self._writer.write(_LENGTH.pack(len(body)) + body)
        transport = self._writer.transport
        if transport.get_write_buffer_size() > MAX_UNSENT:
            transport.abort()

    async def _frame(self) -> object:
        (size,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
        if size > self._longest:
            raise BusError("a frame that is too long")
        return codec.unpack(await self._reader.readexactly(size))

    # ---- what it says ------------------------------------------------------------------------------------------------
    def _heed(self, message: object, group: asyncio.TaskGroup) -> None:
        match message:
            case ["ask", int(number), str(verb), body] if type(number) is int:
                self._asked_for(number, verb, body, group)
            case ["tell", str(verb), body]:
                if verb not in self._answers.tells:
                    raise BusError("a word that is not known")
                tell, by = self._answers.tells[verb]
                by(codec.read(tell.word, body))
            case ["yes" | "no" as how, int(number), body]:
                self._answered(how, number, body)
            case ["never", int(number)]:
                if number in self._asked:
                    self._asked[number].cancel()
            case _:
                raise BusError("no message")

    def _asked_for(self, number: int, verb: str, body: object, group: asyncio.TaskGroup) -> None:
        if verb not in self._answers.asks or number in self._asked or len(self._asked) >= MAX_OPEN:
            raise BusError("a question that may not be asked")
        ask, by = self._answers.asks[verb]
        question = codec.read(ask.question, body)
        task = group.create_task(self._answer(number, ask, by, question))
        self._asked[number] = task
        task.add_done_callback(lambda _: self._asked.pop(number, None))

    async def _answer(
        self, number: int, ask: Ask[Any, Any], by: Callable[[Any], Awaitable[Any]], question: object
    ) -> None:
        try:
            said: list[object] = ["yes", number, codec.write(ask.answer, await by(question))]
        except BusError:
            raise
        except (Refusal, Fault) as error:
            said = ["no", number, _error_out(error)]
        except Exception as error:  # a defect of ours is no reason to end everybody's sessions
            log.exception("bus.answer_failed", verb=ask.verb, cause=repr(error))
            said = ["no", number, _error_out(Fault("the question could not be answered"))]
        with contextlib.suppress(BusLost):
            self._send(said)

    def _answered(self, how: str, number: int, body: object) -> None:
        if number > self._next or number < 1:
            raise BusError("an answer to nothing")
        asked = self._open.get(number)
        if asked is None or asked[1].done():
            return  # nobody waits for it any more
        ask, answer = asked
        # read while it is still open: whoever waits for an answer that is none hears that the other end is gone
        if how == "yes":
            answer.set_result(codec.read(ask.answer, body))
        else:
            answer.set_exception(_error_in(body))
        del self._open[number]


# ---- errors ----------------------------------------------------------------------------------------------------------
_FAULTS: Final[Mapping[str, type[Fault]]] = {
    "store": StoreFault,
    "refused": SignerRefused,
    "signer": SignerFault,
}


def _error_out(error: Refusal | Fault) -> object:
    match error:
        case Refusal():
            return ["refusal", error.code, error.message, error.blame.value, error.way_out]
        case TargetFault():
            return ["target", error.code, error.what[:_WHAT]]
        case _:
            name = next((name for name, kind in _FAULTS.items() if isinstance(error, kind)), "fault")
            return [name, error.what[:_WHAT]]


def _error_in(body: object) -> Refusal | Fault:
    match body:
        case ["refusal", str(code), str(message), str(blame), str(way_out)] if blame in set(Blame):
            return Refusal(code, message, blame=Blame(blame), way_out=way_out)
        case ["target", str(code), str(what)]:
            return TargetFault(what, code=code)
        case [str(name), str(what)]:
            return _FAULTS.get(name, Fault)(what)
        case _:
            raise BusError("no error")
