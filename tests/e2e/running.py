"""A command of an agent while it runs, with what came of it so far."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from grantd.execution import Changed, Event, Finished, Stderr, Stdout, Told
from grantd.v1.action_pb2 import Action, ActionState
from tests.e2e.programs import wait_until


@dataclass(slots=True, kw_only=True)
class Running:
    """A command of an agent on a thread of its own, with what came of it so far."""

    thread: threading.Thread | None = None
    events: list[tuple[float, Event]] = field(default_factory=list)
    """Each with the monotonic second at which it arrived."""
    problem: Exception | None = None

    def action(self) -> Action:
        """The action as last told."""
        return next(e.action for _, e in reversed(self.events) if isinstance(e, Changed | Finished))

    def until(self, state: ActionState.ValueType, seconds: float = 15.0) -> Action:
        """The action once it is told to be in that state."""

        def told() -> bool:
            return any(isinstance(e, Changed | Finished) and e.action.state == state for _, e in list(self.events))

        wait_until(lambda: told() or not self.is_going(), seconds)
        assert told(), (self.problem, self.events[-3:])
        return self.action()

    def is_going(self) -> bool:
        """Whether the stream is still open."""
        return self.thread is not None and self.thread.is_alive()

    def finished(self, seconds: float = 30.0) -> Action:
        """The finished action; raises what the SDK raised."""
        assert self.thread is not None
        self.thread.join(seconds)
        assert not self.is_going(), "the command's stream does not end"
        if self.problem is not None:
            raise self.problem
        return self.action()

    def output(self) -> bytes:
        """Everything that came on stdout."""
        return b"".join(e.data for _, e in list(self.events) if isinstance(e, Stdout))

    def told(self) -> str:
        """What the broker said to the caller, a line each."""
        return "\n".join(e.text for _, e in list(self.events) if isinstance(e, Told))

    def errors(self) -> bytes:
        """Everything that came on stderr."""
        return b"".join(e.data for _, e in list(self.events) if isinstance(e, Stderr))


def followed(events: Iterator[Event]) -> Running:
    """A stream of the SDK, read on a thread of its own."""
    running = Running()

    def follow() -> None:
        try:
            for event in events:
                running.events.append((time.monotonic(), event))
        except Exception as problem:  # noqa: BLE001  `finished` raises it where the test looks
            running.problem = problem

    running.thread = threading.Thread(target=follow, daemon=True)
    running.thread.start()
    return running
