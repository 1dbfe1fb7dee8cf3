"""How the HTML export does in a real browser, offline: `python -m tests.recorder.export.figures [MEGABYTES] [FOLDER]`.

Prints sizes, times, memory, requests and complaints, of a hostile recording and of a build log; leaves the pages and
their pictures in FOLDER.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from recorder.events import Event
from recorder.export.html import page
from tests.peers_chromium import chromium
from tests.recorder.export.events import ABOUT, TERMINAL, build_log

_SEEKS = (0.5, 0.1, 0.9, 0.3, 0.7)


def measured(name: str, events: Iterable[Event], folder: Path) -> None:
    """Exports, opens, seeks, and prints a row of figures."""
    file = folder / f"{name}.html"
    began = time.monotonic()
    with file.open("wb") as out:
        for piece in page(events, ABOUT):
            out.write(piece)
    made = time.monotonic() - began
    with chromium(folder) as tab:
        began = time.monotonic()
        tab.open(file)
        tab.until("document.body && document.body.dataset.ready")
        tab.until("document.querySelector('#screen').textContent.length > 100")
        loaded = time.monotonic() - began
        seeks = []
        for part in _SEEKS:
            began = time.monotonic()
            tab.evaluate(f"window.seekTo({part})")
            seeks.append(time.monotonic() - began)
        heap = tab.evaluate("performance.memory ? performance.memory.usedJSHeapSize : 0") / 1e6
        asked = [url for url in tab.requests() if not url.startswith(("data:", "blob:"))]
        (folder / f"{name}.png").write_bytes(tab.screenshot())
        sys.stdout.write(
            f"{name:<10} file {file.stat().st_size / 1e6:8.2f} MB  made {made:6.2f} s  load {loaded:5.2f} s  "
            f"seek worst {max(seeks):5.3f} s  heap {heap:6.1f} MB  requests beside the page {len(asked) - 1}  "
            f"complaints {len(tab.complaints())}  title {tab.evaluate('document.title')[:24]!r}\n"
        )


def main() -> None:
    """See the module."""
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp(prefix="grantd-pages-"))
    folder.mkdir(parents=True, exist_ok=True)
    measured("hostile", TERMINAL, folder)
    measured("build-log", build_log(megabytes * 1024 * 1024), folder)
    sys.stdout.write(f"pages and pictures: {folder}\n")


if __name__ == "__main__":
    main()
