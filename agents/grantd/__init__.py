"""The SDK for programs that ask a grantd broker for access. Never holds a target's credential."""

TYPE_CHECKING = False  # type checkers take this name for true; importing it would cost more than all the rest here
if TYPE_CHECKING:
    from grantd.aio import AsyncClient
    from grantd.client import Client, Result
    from grantd.errors import (
        AccessDenied,
        BrokerFault,
        Conflict,
        Expired,
        Forbidden,
        GrantdError,
        Invalid,
        LimitReached,
        NotFound,
        NotSignedIn,
        ProfileProblem,
        StillPending,
        Unavailable,
        Unreachable,
    )
    from grantd.execution import Changed, EndsSoon, Event, Finished, Stderr, Stdout, Told
    from grantd.profile import Profile

__all__ = [
    "AccessDenied",
    "AsyncClient",
    "BrokerFault",
    "Changed",
    "Client",
    "Conflict",
    "EndsSoon",
    "Event",
    "Expired",
    "Finished",
    "Forbidden",
    "GrantdError",
    "Invalid",
    "LimitReached",
    "NotFound",
    "NotSignedIn",
    "Profile",
    "ProfileProblem",
    "Result",
    "Stderr",
    "Stdout",
    "StillPending",
    "Told",
    "Unavailable",
    "Unreachable",
]

# name -> module. Loaded at first use: whoever needs only grantd.v1 or grantd.profile does not wait for the rest.
_HOMES = {
    "AccessDenied": "grantd.errors",
    "AsyncClient": "grantd.aio",
    "BrokerFault": "grantd.errors",
    "Changed": "grantd.execution",
    "Client": "grantd.client",
    "Conflict": "grantd.errors",
    "EndsSoon": "grantd.execution",
    "Event": "grantd.execution",
    "Expired": "grantd.errors",
    "Finished": "grantd.execution",
    "Forbidden": "grantd.errors",
    "GrantdError": "grantd.errors",
    "Invalid": "grantd.errors",
    "LimitReached": "grantd.errors",
    "NotFound": "grantd.errors",
    "NotSignedIn": "grantd.errors",
    "Profile": "grantd.profile",
    "ProfileProblem": "grantd.errors",
    "Result": "grantd.client",
    "Stderr": "grantd.execution",
    "Stdout": "grantd.execution",
    "StillPending": "grantd.errors",
    "Told": "grantd.execution",
    "Unavailable": "grantd.errors",
    "Unreachable": "grantd.errors",
}

if not TYPE_CHECKING:  # a type checker reads the imports above, and knows that there is nothing else

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'grantd' has no attribute {name!r}")
        import importlib  # noqa: PLC0415  a process that only hands a command over does not wait for it

        return getattr(importlib.import_module(_HOMES[name]), name)
