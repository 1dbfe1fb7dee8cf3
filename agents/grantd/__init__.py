"""The SDK for programs that ask a grantd broker for access. Never holds a target's credential."""

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
from grantd.execution import Changed, EndsSoon, Event, Finished, Stderr, Stdout
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
    "Unavailable",
    "Unreachable",
]
