"""A broker whose event loop stops for a minute on SIGUSR1, as a defect of ours would make it: `grantd serve` after it.

Everything else is the product. The signal is taken by a thread, which gives the loop one long call.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from typing import Any

from broker import app

_STANDS_S = 60.0
_open_doors = app.House.open_doors


async def _opened(house: app.House) -> None:
    await _open_doors(house)
    loop = asyncio.get_running_loop()

    def stand(_number: int, _frame: Any) -> None:  # noqa: ANN401  signal's own
        threading.Thread(target=loop.call_soon_threadsafe, args=(time.sleep, _STANDS_S), daemon=True).start()

    signal.signal(signal.SIGUSR1, stand)


def main() -> None:
    """Runs the words after this module's own, which name grantd."""
    from broker.cli import grantd  # noqa: PLC0415

    app.House.open_doors = _opened  # type: ignore[method-assign, assignment]
    words = sys.argv[sys.argv.index("serve") :]
    grantd(words)


if __name__ == "__main__":
    main()
