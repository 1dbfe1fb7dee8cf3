"""What the target saw, read from its own witness (tapshell.py), beside what the broker recorded of it."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.e2e import tapshell
from tests.e2e.programs import wait_until
from tests.e2e.stage import House

_REAPER: Final = b"echo grantd-ready"
"""In the text of the one channel a connection that carries no command; its streams are the broker's own."""
_MARK: Final = re.compile(rb"\Agrantd-[0-9a-f]{16,64} [1-9][0-9]*\n")
"""The line by which a pooled read tells its process group: the wrapper's, and taken out before anything is recorded."""
OUT, ERR, IN, RESIZE, EXEC, EXIT, SFTP, FWD, HIDDEN, CHAN = 1, 2, 3, 4, 5, 6, 7, 8, 11, 12


@dataclass(frozen=True, slots=True)
class Tap:
    """One command as its login shell saw it."""

    folder: Path

    def kept(self, name: str) -> bytes:
        """A stream, or the command's words; empty where there was none."""
        path = self.folder / name
        return path.read_bytes() if path.exists() else b""

    @property
    def err(self) -> bytes:
        """What the command wrote to stderr, without the wrapper's mark."""
        return _MARK.sub(b"", self.kept("err"))


@dataclass(frozen=True, slots=True)
class Recorded:
    """One session as its recording holds it."""

    kind: str
    events: Sequence[Any]

    def stream(self, kind: int) -> bytes:
        """The payloads of one kind, in order, as one."""
        return b"".join(event.payload for event in self.events if event.kind == kind)

    def notes(self, kind: int) -> list[dict[str, Any]]:
        """The payloads of a kind that holds JSON."""
        return [json.loads(event.payload) for event in self.events if event.kind == kind]


@dataclass(slots=True)
class Tapped:
    """A house whose target has the witness for a shell, and the table of what was compared."""

    house: House
    taps: Path
    rows: list[tuple[str, ...]] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    @classmethod
    def build(cls, folder: Path, keeps: str) -> Tapped:
        """A house; `keeps` is its `recordings.input`."""
        shell = folder / "tapshell"
        shell.write_text(f"#!{sys.executable} -IS\n" + Path(tapshell.__file__).read_text())
        shell.chmod(0o755)
        house = House.build(folder, settings=f'\n[recordings]\ninput = "{keeps}"\n', shell=shell)
        return cls(house=house, taps=folder / "taps")

    def restart(self, keeps: str) -> None:
        """The same broker, which keeps more or less of the input."""
        self.house.stop()
        config = self.house.config.read_text()
        self.house.config.write_text(re.sub(r'(?m)^input = ".*"$', f'input = "{keeps}"', config))
        self.house.serve()

    def fresh(self, count: int) -> list[Tap]:
        """The commands that ran since this was asked last, in the order in which they began; all of them are over."""

        def found() -> list[Path]:
            new = [path for path in self.taps.glob("*") if path.name not in self._seen]
            return sorted(path for path in new if _REAPER not in (path / "command").read_bytes())

        wait_until(lambda: len(found()) >= count and all((path / "done").exists() for path in found()), 30)
        new = found()
        self._seen |= {path.name for path in self.taps.glob("*")}
        assert len(new) == count, [path.name for path in new]
        return [Tap(path) for path in new]

    def recorded(self, grant: str) -> list[Recorded]:
        """The sessions of a grant that ran something on the target, oldest first, once all are sealed."""
        sessions: list[dict[str, Any]] = []

        def sealed() -> bool:
            listed = self.house.ctl("owner", "sessions", "list", "-o", "json").json()
            sessions[:] = [each for each in listed if each["grant_id"] == grant]
            return all(each["state"] != "open" for each in sessions)

        wait_until(sealed, 20, every=0.3)
        ran = [each for each in reversed(sessions) if each["kind"] != "shell"]
        return [Recorded(each["kind"], self.house.played(each["id"])) for each in ran]

    def pairs(self, grant: str, count: int) -> list[tuple[Tap, Recorded]]:
        """Both sides of so many commands of a grant."""
        taps, recorded = self.fresh(count), self.recorded(grant)
        assert len(recorded) == count, [each.kind for each in recorded]
        return list(zip(taps, recorded, strict=True))

    def agree(self, way: str, grant: str, count: int = 1, *, keeps_input: bool = True) -> list[tuple[Tap, Recorded]]:
        """Byte for byte: output, errors, and input where all of it is kept. Each becomes a row of the table."""
        pairs = self.pairs(grant, count)
        for tap, recorded in pairs:
            assert recorded.stream(OUT) == tap.kept("out")
            assert recorded.stream(ERR) == tap.err
            assert not keeps_input or recorded.stream(IN) == tap.kept("in")
            self.tell(way, tap.kept("in"), tap.kept("out"), tap.err)
        return pairs

    def tell(self, way: str, given: bytes, out: bytes, err: bytes) -> None:
        """A row: both sides were the same."""
        digest = hashlib.sha256(given + out + err).hexdigest()[:12]
        self.rows.append((way, f"{len(given):,}", f"{len(out):,}", f"{len(err):,}", digest))

    def table(self) -> str:
        """What was compared, for whoever asks with -s."""
        head = ("way in", "stdin", "stdout", "stderr", "SHA-256 of all, on both sides")
        rows = [head, ("---",) * len(head), *self.rows]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def close(self) -> None:
        """Ends the house, and says what was compared."""
        self.house.close()
        print(f"\n{self.table()}")  # noqa: T201  for whoever asks with -s


def spoken(words: Sequence[str], *, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A client run to its end, its bytes as they are."""
    return subprocess.run(words, input=stdin, capture_output=True, timeout=60, check=False)
