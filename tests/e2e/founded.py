"""What `grantd init` makes, made once for each process of the tests and copied for every house that would be alike.

A house from a copy has state and places of its own; keys, tenant and Owner are those of its siblings in this process,
who never meet. A test about the keys of two houses, or about `init`, runs `grantd init` itself.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

BASE_PORT: Final = 61_001
"""The first of five ports of the original, on which nothing ever listens: no house has one of these."""
_PORTS: Final = 5
_PLACED: Final = ("grantd.toml", "data/owner/profile.toml")
"""The files in which ports or the folder stand; tests/e2e/test_founded.py holds that there is no other."""

Init = Callable[[Path, int], None]
"""Runs `grantd init` for a folder and a first port."""


def copied(folder: Path, ports: Sequence[int], init: Init) -> None:
    """Founds a house in `folder`, as `init` would: `grantd.toml` and `data`, with all modes."""
    original = _original(init)
    shutil.copytree(original / "data", folder / "data", symlinks=True)
    shutil.copy2(original / "grantd.toml", folder / "grantd.toml")
    changes = {str(original): str(folder)} | {str(BASE_PORT + n): str(ports[n]) for n in range(_PORTS)}
    for name in _PLACED:
        path = folder / name
        text = path.read_text()
        for old, new in changes.items():
            text = text.replace(old, new)
        path.write_text(text)


@functools.cache
def _original(init: Init) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="grantd-founded-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    init(folder, BASE_PORT)
    return folder
