"""Waits in place for an approver: a countdown on a terminal, one line anywhere else. Ctrl-C takes the request back."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, timedelta
from types import FrameType
from typing import Final

from grantd import asking
from grantd.cli.shell import Shell, now, span
from grantd.cli.visible import one_line
from grantd.errors import GrantdError
from grantd.v1.access_pb2 import AccessRequest

_TICK_SECONDS: Final = 1.0
_ENDINGS: Final = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for a person."""

    on_terminal: bool
    """Somebody sees the countdown: then as long as the request stands."""
    wait_for: timedelta | None = None
    """Without a terminal: not at all where it is None."""

    @classmethod
    def of_streams(cls, wait_for: timedelta | None) -> Patience:
        """A terminal is what standard error leads to: ssh takes the other two for itself."""
        return cls(on_terminal=sys.stderr.isatty(), wait_for=wait_for)


def decided(shell: Shell, request: AccessRequest, patience: Patience) -> AccessRequest:
    """The request once it is decided, or as it stands when the patience is over."""
    if asking.is_decided(request):
        return request
    if not patience.on_terminal:
        if patience.wait_for is None:
            return request
        shell.say(f"grantctl: {one_line(request.id)} waits for an approver")
        return shell.client.wait_request(request.id, patience.wait_for)
    with _until_taken_back(shell, request):
        return _Countdown(shell, request, patience.wait_for).run()


class _Countdown:
    """A line that counts down, while a thread listens to the broker."""

    def __init__(self, shell: Shell, request: AccessRequest, wait_for: timedelta | None) -> None:
        self._shell, self._request, self._wait_for = shell, request, wait_for
        self._answer: AccessRequest | None = None
        self._failed: GrantdError | None = None
        self._over = threading.Event()

    def run(self) -> AccessRequest:
        """Until it is decided, or nobody may wait any longer."""
        # a daemon: closing the client ends its stream, and a person who leaves does not wait for that
        threading.Thread(target=self._listen, daemon=True).start()
        parent = os.getppid()
        try:
            while not self._over.is_set():
                self._draw()
                self._over.wait(_TICK_SECONDS)
                if os.getppid() != parent:  # ssh went away, and nobody looks at this line any more
                    raise KeyboardInterrupt
        finally:
            with contextlib.suppress(OSError):
                _put("\r\x1b[K")
        if self._failed is not None:
            raise self._failed
        return self._answer or self._shell.client.get_request(self._request.id)

    def _listen(self) -> None:
        try:
            self._answer = self._shell.client.wait_request(self._request.id, self._wait_for)
        except GrantdError as failed:
            self._failed = failed
        finally:
            self._over.set()

    def _draw(self) -> None:
        left = self._request.expires_at.ToDatetime(tzinfo=UTC) - now()
        text = f"{one_line(self._request.id)} waits for an approver, {span(left)} left (Ctrl-C takes it back)"
        try:
            _put(f"\r\x1b[K{text}")
        except OSError:  # the terminal is gone, and with it whoever waited
            raise KeyboardInterrupt from None


@contextlib.contextmanager
def _until_taken_back(shell: Shell, request: AccessRequest) -> Iterator[None]:
    """Whoever leaves takes the request along: nobody should decide what nobody waits for."""
    before = {number: signal.signal(number, _leave) for number in _ENDINGS}
    try:
        yield
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # the terminal is gone, and with it whoever could be told
            _take_back(shell, request.id)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _take_back(shell: Shell, request: str) -> None:
    try:
        shell.client.cancel_request(request)
    except GrantdError as refused:
        shell.say(f"grantctl: {one_line(request)} could not be taken back: {one_line(refused.message)}")
    else:
        shell.say(f"grantctl: {one_line(request)} is taken back")


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Once: ssh ends by the same Ctrl-C, and the hang-up that follows must not stop the taking back."""
    for number in _ENDINGS:
        signal.signal(number, _hold_on)
    raise KeyboardInterrupt


def _hold_on(_number: int, _frame: FrameType | None) -> None:
    """Leaving already."""


def _put(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
