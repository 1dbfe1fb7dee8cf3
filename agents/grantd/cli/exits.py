"""Exit codes: what scripts rely on. A remote command's own status may be any of them; stderr says which it was."""

from __future__ import annotations

from enum import IntEnum

from grantd import errors
from grantd.errors import GrantdError
from grantd.v1.action_pb2 import Action, ActionState


class Exit(IntEnum):
    """One meaning each."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    DENIED_BY_POLICY = 3
    REFUSED_BY_APPROVER = 4
    EXPIRED = 5
    UNREACHABLE = 69
    PENDING = 75
    NOT_SIGNED_IN = 77


_BY_ERROR: tuple[tuple[type[GrantdError], Exit], ...] = (
    (errors.NotSignedIn, Exit.NOT_SIGNED_IN),
    (errors.ProfileProblem, Exit.NOT_SIGNED_IN),
    (errors.Forbidden, Exit.DENIED_BY_POLICY),
    (errors.AccessDenied, Exit.REFUSED_BY_APPROVER),
    (errors.Expired, Exit.EXPIRED),
    (errors.Unreachable, Exit.UNREACHABLE),
    (errors.StillPending, Exit.PENDING),
    (errors.Invalid, Exit.USAGE),
)
_SIGNALS = {"HUP": 1, "INT": 2, "QUIT": 3, "ABRT": 6, "KILL": 9, "USR1": 10, "SEGV": 11, "PIPE": 13, "TERM": 15}
_SIGNAL_BASE = 128


def of_error(error: GrantdError) -> Exit:
    """The exit code of a refusal or failure."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), Exit.FAILURE)


def of_action(action: Action, *, waited: bool) -> int:
    """The exit code of a finished command; `waited`: a person was asked."""
    if action.HasField("exit_status"):
        return action.exit_status
    if action.signal:
        return _SIGNAL_BASE + _SIGNALS.get(action.signal, 0)
    match action.state:
        case ActionState.ACTION_STATE_DENIED:
            return Exit.REFUSED_BY_APPROVER if waited else Exit.DENIED_BY_POLICY
        case ActionState.ACTION_STATE_EXPIRED:
            return Exit.EXPIRED
        case ActionState.ACTION_STATE_CUT if "expired" in action.note:
            return Exit.EXPIRED
        case ActionState.ACTION_STATE_AWAITING:
            return Exit.PENDING
        case _:
            return Exit.FAILURE
