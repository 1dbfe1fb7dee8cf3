"""One call as a servicer sees it: who calls, what it says beside its message, which ids belong into its log line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias, TypeVar

from google.protobuf.message import Message

from broker.core.errors import Refusal, invalid
from broker.core.identity import Caller
from broker.core.ids import is_id

TOKEN = "grantd-grant"  # noqa: S105  the metadata's name, not a token
M = TypeVar("M", bound=Message)
Send: TypeAlias = Callable[[M], Awaitable[None]]
"""Writes one message of a stream; awaiting it is the back-pressure."""


@dataclass(slots=True, kw_only=True)
class Ids:
    """What a servicer has for the log line: ids (anything that does not look like one stays out of it), and the end."""

    found: dict[str, str] = field(default_factory=dict)
    complete: bool = False
    """The last word was said: a client that hangs up before the status has cancelled nothing."""

    def note(self, **ids: str | None) -> None:
        """Remembers ids by name."""
        self.found |= {name: value for name, value in ids.items() if value and is_id(value)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call whose caller holds the RPC's permission."""

    caller: Caller
    certificate_not_after: datetime
    token: str
    """Grant token of the metadata; empty where there is none. Not verified yet."""
    ids: Ids


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCall:
    """A call of an RPC that asks for no credential: nobody is known."""

    ids: Ids


def token_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """The one grant token in a call's metadata."""
    tokens = [value for key, value in metadata or () if key == TOKEN]
    if not tokens:
        return ""
    if len(tokens) > 1 or not isinstance(tokens[0], str):
        raise _bad_token()
    return tokens[0]


def _bad_token() -> Refusal:
    return invalid("bad_token", f"metadata {TOKEN} must be given once, as text", "send one grant token")
