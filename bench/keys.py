"""How long a keystroke takes: one byte through `cat` and back, alone and while another session streams."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Final, Self

from bench.figures import quantile
from bench.logs import Sample
from bench.wire import DIRECT, DOOR, JUMP, PATIENCE_S, Way, Ways

_ECHO: Final = "cat"
_WARM: Final = 20
_US: Final = 1e6
_TIMES: Final = 4
"""How often the file is streamed beside the keystrokes: longer than they take, below the broker's ceiling of output."""


class Keystrokes:
    """One session for each way, open all the time."""

    def __init__(self, ways: Ways, sample: Sample, *, strokes: int) -> None:
        self._ways, self._sample, self._strokes = ways, sample, strokes
        self._stack = contextlib.ExitStack()
        self._sessions: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for name in (DIRECT, JUMP, DOOR):
                self._sessions[name] = stack.enter_context(self._ways.open(Way(name), _ECHO))
                self._typed(name, _WARM)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def idle(self) -> Mapping[str, float]:
        """Each way in turn, nothing else going on."""
        found = {f"key {name} us": quantile(self._typed(name, self._strokes), 0.5) for name in (DIRECT, JUMP, DOOR)}
        return {**found, "key added us": found["key door us"] - found["key direct us"]}

    def busy(self) -> Mapping[str, float]:
        """Each way in turn, while the same way carries a stream of text."""
        found: dict[str, float] = {}
        for name in (DIRECT, JUMP, DOOR):
            with self._ways.open(Way(name), f"cat{f' {self._sample.path}' * _TIMES}") as stream:
                assert stream.stdout is not None
                assert stream.stdin is not None
                stream.stdin.close()
                with subprocess.Popen(["cat"], stdin=stream.stdout, stdout=subprocess.DEVNULL) as drain:
                    stream.stdout.close()
                    time.sleep(0.1)
                    took = self._typed(name, self._strokes)
                    stream.kill()
                    drain.wait(PATIENCE_S)
            found[f"busy key {name} us"] = quantile(took, 0.5)
            found[f"busy key {name} p99 us"] = quantile(took, 0.99)
        return found

    def _typed(self, name: str, strokes: int) -> Sequence[float]:
        """Microseconds of each."""
        session = self._sessions[name]
        assert session.stdin is not None
        assert session.stdout is not None
        took = []
        for number in range(strokes):
            key = bytes((0x61 + number % 26,))
            began = time.perf_counter()
            os.write(session.stdin.fileno(), key)
            if not select.select([session.stdout], [], [], PATIENCE_S)[0]:
                raise RuntimeError(f"{name}: a keystroke did not come back")
            back = os.read(session.stdout.fileno(), 16)
            took.append((time.perf_counter() - began) * _US)
            if back != key:
                raise RuntimeError(f"{name}: {back!r} came back for {key!r}")
        return took
