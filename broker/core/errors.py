"""The two families of errors: the caller's (`Refusal`: a stable code and a way out) and ours (`Fault`: a cause).

Doors turn the first into a status with its code, the second into one fixed phrase and a log line.
"""

from __future__ import annotations

from enum import StrEnum


class Blame(StrEnum):
    """What kind of refusal it is; doors map it to their own status words."""

    INVALID = "invalid"
    """The input can never be right; retrying is useless."""
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    """Known caller, not allowed. Also what policy says."""
    NOT_FOUND = "not_found"
    """Does not exist or is not yours: the same answer (I-46)."""
    CONFLICT = "conflict"
    """Not in the state that the call needs."""
    EXPIRED = "expired"
    EXHAUSTED = "exhausted"
    """A limit is reached; try later."""
    UNAVAILABLE = "unavailable"
    """Frozen, starting, or a part that must work does not."""


class Refusal(Exception):
    """grantd said no, and the caller can do something about it.

    Args:
        code: stable, lower snake case, for machines; documented in docs/errors.md.
        message: one short sentence for people. Never holds text of agents or targets unescaped.
        way_out: what the caller can do next; empty where nothing helps.
        blame: decides the status at the door.
        rule: which of several checks refused, a fixed phrase for the log; the caller is told nothing of it (I-46).
    """

    def __init__(self, code: str, message: str, *, blame: Blame, way_out: str = "", rule: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.blame = blame
        self.way_out = way_out
        self.rule = rule


def invalid(code: str, message: str, way_out: str = "") -> Refusal:
    """A refusal of input that can never be right."""
    return Refusal(code, message, blame=Blame.INVALID, way_out=way_out)


def forbidden(code: str, message: str, way_out: str = "") -> Refusal:
    """A refusal of a known caller."""
    return Refusal(code, message, blame=Blame.FORBIDDEN, way_out=way_out)


def conflict(code: str, message: str, way_out: str = "") -> Refusal:
    """A refusal because of the state that the object is in."""
    return Refusal(code, message, blame=Blame.CONFLICT, way_out=way_out)


def expired(code: str, message: str, way_out: str = "") -> Refusal:
    """A refusal because the time is over; never the same as denied."""
    return Refusal(code, message, blame=Blame.EXPIRED, way_out=way_out)


def exhausted(code: str, message: str, way_out: str = "") -> Refusal:
    """A refusal because a limit is reached (I-60)."""
    return Refusal(code, message, blame=Blame.EXHAUSTED, way_out=way_out)


def not_found(what: str) -> Refusal:
    """One answer for "does not exist" and "is not yours" (I-46). `what` is a kind of object, never its name."""
    return Refusal(
        "not_found", f"no such {what}", blame=Blame.NOT_FOUND, way_out=f"check the name of the {what}, and the tenant"
    )


class Fault(Exception):
    """Something of ours failed. `what` is a fixed phrase for the caller; the cause stays in the log."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class StoreFault(Fault):
    """The database could not do it (locked, read-only, full, gone). Nothing was written."""


class SignerFault(Fault):
    """The signer did not answer or answered with something other than what was asked."""


class SignerRefused(SignerFault):
    """The signer would not: what it was asked for is not proven. The phrase is fixed and names the rule."""

    code = "signer_refused"


class RecorderFault(Fault):
    """The recorder cannot keep up or keep at all: the session ends (I-30)."""


class TargetFault(Fault):
    """The target could not be reached or did not behave; the phrase is fixed, never the target's own text (I-27)."""

    def __init__(self, what: str, *, code: str) -> None:
        super().__init__(what)
        self.code = code


class VaultFault(Fault):
    """A sealed value could not be opened: wrong row, wrong tenant, wrong key or damage."""


class IllegalTransition(Fault):
    """A state machine was asked for an edge that its table does not have."""

    def __init__(self, machine: str, state: str, event: str) -> None:
        super().__init__(f"{machine}: {event} is not legal in state {state}")
        self.machine, self.state, self.event = machine, state, event
