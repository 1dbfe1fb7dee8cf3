"""A real browser without a window: opens a file, says what went wrong in it, evaluates in it, takes a picture.

Speaks the DevTools protocol over a pair of pipes (messages of JSON, each with a NUL behind), so nothing listens.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from tests import peers

PROGRAM: Final = "chromium-headless-shell"
_FLAGS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
    "--window-size=1280,720",
)  # fmt: skip
_DOMAINS: Final = ("Page", "Runtime", "Network", "Log")
_WITHIN_S: Final = 30.0
# bash, because it can give any descriptor the numbers 3 and 4, which the browser reads from and writes to
_LAUNCH: Final = 'read_end=$1 write_end=$2; shift 2; exec "$@" 3<&"$read_end" 4>&"$write_end"'


@dataclass
class Tab:
    """One page. `events` holds everything that the browser said about it."""

    to_browser: int
    from_browser: int
    events: list[dict[str, Any]] = field(default_factory=list)
    _session: str = ""
    _count: int = 0
    _unread: bytes = b""

    def attach(self) -> Self:
        """Make an empty page and watch it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in _DOMAINS:
            self.call(f"{domain}.enable")
        return self

    def open(self, file: Path) -> None:
        """Load a file from the disk; returns when its scripts have begun."""
        self.call("Page.navigate", url=file.as_uri())

    def call(self, method: str, **params: Any) -> dict[str, Any]:  # noqa: ANN401  as the protocol has it
        """A command's result; AssertionError when the browser refuses it."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            self.events.append(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401  whatever the page has
        """The value of an expression in the page."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression holds; AssertionError when it does not in time."""
        end = time.monotonic() + _WITHIN_S
        while not self.evaluate(f"Boolean({expression})"):
            assert time.monotonic() < end, f"{expression} never held: {self.complaints()}"
            time.sleep(0.05)

    def screenshot(self) -> bytes:
        """A PNG of what is to be seen."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    def requests(self) -> list[str]:
        """What the page asked for, itself included."""
        return [event["params"]["request"]["url"] for event in self.events if event["method"] == _SENT]

    def complaints(self) -> list[dict[str, Any]]:
        """Errors on the console, exceptions, and what the policy of the page blocked."""
        return [event for event in self.events if _is_complaint(event)]

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + _WITHIN_S
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self.from_browser], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self.from_browser, 1 << 16)
            assert data, "the browser is gone"
            self._unread += data
        message, _, self._unread = self._unread.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


_SENT: Final = "Network.requestWillBeSent"


def _is_complaint(event: dict[str, Any]) -> bool:
    match event["method"]:
        case "Runtime.exceptionThrown":
            return True
        case "Runtime.consoleAPICalled":
            return event["params"]["type"] in ("error", "warning", "assert")
        case "Log.entryAdded":
            return event["params"]["entry"]["level"] in ("error", "warning")
        case _:
            return False


@contextmanager
def chromium(folder: Path) -> Iterator[Tab]:
    """A page of a browser of its own, with an empty profile in `folder`; both are gone afterwards."""
    program = peers.require(PROGRAM)
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    command = [str(program), *_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    process = subprocess.Popen(
        ["bash", "-c", _LAUNCH, "bash", str(theirs_in), str(theirs_out), *command],
        pass_fds=(theirs_in, theirs_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # it has children of its own
        env=peers.environment(program) | {"HOME": str(folder)},
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Tab(ours_out, ours_in).attach()
    finally:
        os.close(ours_out)
        os.close(ours_in)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
