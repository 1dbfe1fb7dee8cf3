"""A forwarded connection as a command: `grantd-forward HOST PORT`.

No program has this name: the wrapper of every command knows it (wrapper.py), connects from the target and joins the
streams. So host and port are bytes of the action, and the target's own sshd runs nothing else.
"""

from __future__ import annotations

from typing import Final

from broker.core.errors import Refusal
from broker.core.flags import Destination, destination_of
from policy.shell import Classified

PROGRAM: Final = "grantd-forward"
CONNECTED: Final = b"grantd-connected\n"
"""The one line on stderr of a forward whose connection stands."""
_WORDS: Final = 3


def command_of(to: Destination) -> bytes:
    """The command that connects there."""
    return f"{PROGRAM} {to.host} {to.port}".encode()


def destination_in(command: bytes) -> Destination | None:
    """Where a command connects, if it is exactly one that `command_of` makes."""
    words = command.decode("ascii", "replace").split(" ")
    if len(words) != _WORDS or words[0] != PROGRAM or not words[2].isdigit():
        return None
    try:
        to = destination_of(words[1], int(words[2]))
    except Refusal:
        return None
    return to if command_of(to) == command else None


def forwarded(seen: Classified) -> Destination | None:
    """Where a classified command connects, if that is all it does."""
    if len(seen.parts) != 1:
        return None
    return destination_in(" ".join(seen.parts[0].argv).encode())
