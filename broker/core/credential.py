"""The life of a credential that exists on the other side: a role in a database, a value that was handed out.

PLANNED is durable before anything is made there; ENDED is written once nothing of it is there any more. Certificates
and tokens are signed, exist nowhere but with whom they were given to, and end with their grant.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class CredentialState(StrEnum):
    SIGNED = "signed"
    """A certificate or token: nothing to take away elsewhere."""
    PLANNED = "planned"
    """It may be there, or half of it, or nothing."""
    ISSUED = "issued"
    """It is there, and was given to whom it is for."""
    ENDED = "ended"


class CredentialEvent(StrEnum):
    CREATE = "create"
    END = "end"


TRANSITIONS: Final[Mapping[CredentialState, Mapping[CredentialEvent, CredentialState]]] = MappingProxyType(
    {
        CredentialState.PLANNED: {
            CredentialEvent.CREATE: CredentialState.ISSUED,
            CredentialEvent.END: CredentialState.ENDED,
        },
        CredentialState.ISSUED: {CredentialEvent.END: CredentialState.ENDED},
    }
)
OUTSIDE: Final = frozenset({CredentialState.PLANNED, CredentialState.ISSUED})
"""States in which something may be on the other side."""
