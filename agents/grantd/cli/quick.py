"""The answers that need no broker, before anything large is imported: ssh asks for them at every connection.

Knows only the exact words that `grantctl ssh-config` writes; whatever else stands there is left to the command tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from grantd.cli.ssh import kept, place, proxy

_FEWEST: Final = 7


def attempt(words: Sequence[str]) -> int | None:
    """The exit status, where everything was done; None where the command tree has to do it."""
    # --profile DIR COMMAND --quiet|--fdpass ... -- HOST USER | HOST PORT USER
    if len(words) < _FEWEST or words[0] != "--profile" or not words[1].startswith("/") or "--" not in words:
        return None
    at = words.index("--")
    profile, command, options, names = Path(words[1]), words[2], list(words[3:at]), words[at + 1 :]
    match command, options[:1], names:
        case "ssh-proxy", ["--fdpass"], [host, _, user] if len(options) == 1:
            return proxy.run(profile, host, user, fdpass=True)
        case "ssh-cert", ["--quiet"], [host, user]:
            return _certified(profile, options[1:], host=host, user=user)
        case _:
            return None


def _certified(profile: Path, options: list[str], *, host: str, user: str) -> int | None:
    suffix, ceiling, flags = "", "", list[str]()
    for name, value in zip(options[::2], options[1::2], strict=False):
        match name:
            case "--suffix":
                suffix = value
            case "--ceiling":
                ceiling = value
            case "--flag":
                flags.append(value)
            case "--ttl":
                pass
            case _:
                return None
    try:
        wanted = place.parse(host, user, suffix=suffix)
    except place.BadPlace:
        return None
    state = kept.state_in(kept.directory_of(profile, wanted))
    is_there = state is not None and state.is_fresh(kept.Wish(ceiling, tuple(flags)), kept.now())
    return 0 if is_there and kept.is_linked(profile, wanted, user, host) else None
