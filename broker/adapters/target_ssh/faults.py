"""The fixed phrases for what goes wrong on the way to a target. Never passes on a word that the target said (I-27)."""

from __future__ import annotations

import asyncssh

from broker.core.errors import TargetFault

_PHRASES = {
    "unreachable": "the target cannot be reached",
    "host_key_changed": "the target shows another host key than the one it is pinned to",
    "login_refused": "the target refused the login",
    "too_slow": "the target did not answer in time",
    "connection_lost": "the connection to the target was lost",
    "list_not_kept": "the target did not keep its revocation list",
    "no_terminal": "the target gives no terminal",
    "no_bash": "the target does not run commands with bash as grantd needs it",
}


def fault(code: str) -> TargetFault:
    """The fault with this code."""
    return TargetFault(_PHRASES[code], code=code)


def fault_of(error: Exception) -> TargetFault:
    """What an error of the transport or of asyncssh means to a caller."""
    match error:
        case TargetFault():
            return error
        case asyncssh.HostKeyNotVerifiable():
            return fault("host_key_changed")
        case asyncssh.PermissionDenied():
            return fault("login_refused")
        case TimeoutError():
            return fault("too_slow")
        case _:
            return fault("connection_lost")
