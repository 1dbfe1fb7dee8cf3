"""Much output on a terminal: recorded by the broker, straight, and recorded on the target by tlog where it is there."""

from __future__ import annotations

import hashlib
import shlex
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.logs import Sample
from bench.wire import DIRECT, DOOR, Way, Ways
from tests import peers

_MB: Final = 1e6
_TERMINAL: Final = ("-tt",)


class Terminals:
    """One file of text, shown by `ssh -tt`."""

    def __init__(self, ways: Ways, sample: Sample, folder: Path) -> None:
        self._ways, self._folder, self._tlog = ways, folder, peers.find("tlog-rec")
        self._shown = Sample(sample.path, *_as_shown(sample.path))

    @property
    def has_tlog(self) -> bool:
        """Whether there is something else that records to compare with."""
        return self._tlog is not None

    def direct(self) -> Mapping[str, float]:
        """No proxy and no recording."""
        return {"pty direct rate": self._rate(DIRECT, self._show)}

    def door(self) -> Mapping[str, float]:
        """Through the broker, recorded and sealed."""
        return {"pty door rate": self._rate(DOOR, self._show)}

    def tlog(self) -> Mapping[str, float]:
        """Straight, recorded by tlog on the target, to a file."""
        kept = self._folder / "tlog.json"
        kept.unlink(missing_ok=True)
        words = [str(self._tlog), "--writer=file", f"--file-path={kept}", "cat", str(self._shown.path)]
        return {"pty tlog rate": self._rate(DIRECT, f"LC_ALL=C.UTF-8 {shlex.join(words)}")}

    @property
    def _show(self) -> str:
        return f"cat {self._shown.path}"

    def _rate(self, name: str, command: str) -> float:
        with tempfile.NamedTemporaryFile(dir=self._folder) as kept:
            began = time.perf_counter()
            self._ways.finish(self._ways.words(Way(name), command, options=_TERMINAL), stdout=kept.file)
            took = time.perf_counter() - began
            self._shown.must_be(Path(kept.name))
        return self._shown.size / _MB / took


def _as_shown(path: Path) -> tuple[int, bytes]:
    """Size and digest of a text as a terminal passes it on: each line ends with CR LF."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        for line in file:
            shown = line.replace(b"\n", b"\r\n")
            digest.update(shown)
            size += len(shown)
    return size, digest.digest()
