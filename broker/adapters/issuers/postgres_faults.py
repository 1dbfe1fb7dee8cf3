"""What goes wrong with a database, in fixed phrases. Never passes on a word that the server said (I-27)."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import psycopg
from psycopg import errors

from broker.core.errors import TargetFault

_PHRASES: Final = MappingProxyType(
    {
        "unreachable": "the database cannot be reached",
        "login_refused": "the database refused the broker's login",
        "too_slow": "the database did not answer in time",
        "connection_lost": "the connection to the database was lost",
        "no_password": "the broker has no password for the database",
        "not_made": "the database did not make the role as it was planned",
        "heir_gone": "what the role made was to go to a role that is gone",
        "role_dropped": "somebody dropped a role whose sessions go on",
        "not_taken_away": "something of the role may still be in the database",
    }
)


def fault(code: str) -> TargetFault:
    """The fault with this code."""
    return TargetFault(_PHRASES[code], code=code)


def fault_of(error: Exception, otherwise: str) -> TargetFault:
    """What an error means to a caller; `otherwise` where the server itself said no."""
    match error:
        case TargetFault():
            return error
        case errors.InvalidPassword() | errors.InvalidAuthorizationSpecification():
            return fault("login_refused")
        case TimeoutError() | errors.LockNotAvailable() | errors.QueryCanceled() | psycopg.errors.ConnectionTimeout():
            return fault("too_slow")
        case psycopg.OperationalError() if error.sqlstate is None:
            return fault("connection_lost")
        case _:
            return fault(otherwise)
