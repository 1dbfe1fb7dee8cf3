"""The furthest moment that this broker has seen, outside its database: a start whose clock is behind issues nothing.

The newest entry of the log is such a moment too, but a quiet broker writes none for an hour (I-05). Restoring the
database does not take this one back.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from broker.core.clock import from_micros, micros
from broker.core.errors import Fault


class HighWater:
    """One small file: microseconds since the epoch, in decimal digits."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> datetime | None:
        """The moment; None where none was kept yet.

        Raises:
            Fault: the file is there and holds no moment.
        """
        try:
            text = self._path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise Fault("the file of the furthest moment cannot be read") from error
        if not text.isdecimal():
            raise Fault("the file of the furthest moment holds no moment")
        return from_micros(int(text))

    def keep(self, moment: datetime) -> None:
        """Replaces it whole, durably. Blocks. Raises Fault where the disk does not take it."""
        new = self._path.with_name(f".{self._path.name}.new")
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor, opened with our own flags
                file.write(b"%d\n" % micros(moment))
                file.flush()
                os.fsync(descriptor)
            new.replace(self._path)
        except OSError as error:
            raise Fault("the furthest moment cannot be kept") from error
