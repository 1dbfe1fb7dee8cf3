"""The sessions that run right now, here or in a data worker, and how they are cut.

A session that runs in a worker stands here as well, and is cut through the same calls (broker.bus.far). Never touches
the store: a cut needs no database (I-61).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import structlog

from broker.core.errors import Blame, Refusal, exhausted
from broker.core.ids import GrantId, IdentityId, SessionId, TenantId
from broker.service.feed import Feed
from broker.service.oversight import Oversight
from recorder.escape import visible
from recorder.events import Event

log = structlog.get_logger()
Tap: TypeAlias = Callable[[Event], None]


class Tape(Protocol):
    """A session's recording, as whoever watches over the session has it: recorder.sink.RecordingSink is one."""

    tap: Tap | None

    def lag_s(self) -> float:
        """Age in seconds of its oldest event that is not durable yet."""
        ...

    async def marker(self, label: str, code: str, audit_id: str) -> None:
        """A mark in it. Raises RecorderFailed."""
        ...


class LiveSession:
    """One running session. `cut` may be called from any task of the loop, any number of times.

    The first reason stays.
    """

    def __init__(self, *, tenant: TenantId, session: SessionId, grant: GrantId, identity: IdentityId) -> None:
        self.tenant, self.session, self.grant, self.identity = tenant, session, grant, identity
        self._reason: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.words = ""
        """What whoever cut it said to the person in it; unescaped."""
        self.farewell: Callable[[], None] = nobody
        """Lets go whoever is in it, inside `cut`: the word is on its way before anything else of the end is begun.

        May not wait. Whatever it raises keeps no other session from being cut.
        """
        self.closed = asyncio.Event()
        """Set when nothing of it runs any more: target connection gone, recording sealed."""
        self.recorder_lag: Callable[[], float] = float
        """Age in seconds of its oldest recorded byte that is not durable yet."""
        self.feed = Feed()
        """What it records, for those who watch it."""
        self.oversight = Oversight()
        """Who watches it, and whether its input flows."""
        self.shown: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
        """Whoever follows the feed does so in this context: what runs elsewhere is shown here only while it is open."""
        self._opened = asyncio.Event()
        self._sink: Tape | None = None

    def recorded_by(self, sink: Tape) -> None:
        """Ties it to its recording, before the first event.

        The one call by which a session of any kind (a command, a shell, a file transfer) is tapped: whatever `sink`
        accepts from now on is what its watchers see, in that order, and nothing else is.
        """
        self.recorder_lag = sink.lag_s
        sink.tap = self.feed.take
        self._sink = sink
        self._opened.set()

    async def recording(self) -> Tape | None:
        """Its recording, once that is open; None where the session ended before."""
        await self._opened.wait()
        return self._sink

    def over(self) -> None:
        """Nothing of it runs any more; called once by the registry."""
        self.feed.end()
        self._opened.set()
        self.closed.set()

    def cut(self, reason: str, words: str = "") -> None:
        """Ends it: `reason` is a fixed word such as `expired`; `words` are a person's.

        When this returns nothing of its input goes to the target any more, and no command that has not begun begins.
        """
        if not self._reason.done():
            self.words = words
            self._reason.set_result(reason)
            self.oversight.stop()
            self.let_go()

    def let_go(self) -> None:
        """`farewell`; a door that fails to say it changes nothing of how the session ends."""
        try:
            self.farewell()
        except Exception:
            log.exception("session.not_let_go", session_id=self.session)

    @property
    def reason(self) -> str:
        """Why it was cut; empty while it is not."""
        return self._reason.result() if self._reason.done() else ""

    async def until_cut(self) -> str:
        """Waits for a cut; returns the reason."""
        return await asyncio.shield(self._reason)


def nobody() -> None:
    """Nobody is there to be let go: not yet, or not any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is to be cut: everything of a tenant, narrowed by the fields that are set."""

    tenant: TenantId | None
    """None: of every tenant."""
    grant: GrantId | None = None
    session: SessionId | None = None
    identity: IdentityId | None = None
    grants: frozenset[GrantId] | None = None
    """Of these alone."""

    def covers(self, live: LiveSession) -> bool:
        """Whether `live` is in it."""
        return (
            self.tenant in (None, live.tenant)
            and (self.grants is None or live.grant in self.grants)
            and self.grant in (None, live.grant)
            and self.session in (None, live.session)
            and self.identity in (None, live.identity)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What a cut did: how many sessions it reached, and which were not closed in time."""

    sessions: int
    late: tuple[SessionId, ...]


class LiveSessions(Protocol):
    """Everything that runs; `LiveRegistry` is the one there is."""

    def enter(self, live: LiveSession, *, per_grant: int, in_all: int) -> AbstractContextManager[LiveSession]:
        """Counts it in while the context is open; sets `closed` at the end. Refuses over a limit (I-22, I-60)."""
        ...

    def get(self, tenant: TenantId, session: SessionId) -> LiveSession | None:
        """A session of the tenant that runs here."""
        ...

    def all(self) -> Sequence[LiveSession]:
        """Everything that runs here, of every tenant."""
        ...

    def dismiss(self, key: bytes) -> None:
        """Whoever has this key watches nothing any more: at once, needs no store."""
        ...

    def count(self, tenant: TenantId | None = None) -> int: ...
    def recorder_lag(self) -> float:
        """The worst of all sessions, in seconds."""
        ...

    def close(self, tenant: TenantId | None, told: str) -> None:
        """Lets nothing of a tenant in any more (freeze), of any where None: needs no store. From any thread.

        `told`: since when, by whom and why; part of the refusal.
        """
        ...

    def reopen(self, tenant: TenantId | None) -> None:
        """Takes one `close` back."""
        ...

    def is_closed(self, tenant: TenantId) -> bool: ...
    def must_be_open(self, tenant: TenantId) -> None:
        """Raises Refusal `frozen` while a tenant is closed."""
        ...

    def strike(self, tenant: TenantId, grants: Iterable[GrantId], reason: str) -> int:
        """Cuts every session of these grants, waits for none, and returns how many they were."""
        ...

    async def cut(self, scope: Scope, reason: str, *, within: float, words: str = "") -> Cut:
        """Cuts every session of the scope and waits at most `within` seconds for all of them to be closed.

        `words` are an operator's, for the person in the session.
        """
        ...


def frozen(told: str) -> Refusal:
    """The refusal of everything while the kill switch is pulled; `told`: since when, by whom and why."""
    return Refusal(
        "frozen",
        f"access is frozen {visible(told)}",
        blame=Blame.UNAVAILABLE,
        way_out="an operator must lift the freeze",
    )


class LiveRegistry:
    """The sessions of this process and of its workers."""

    def __init__(self) -> None:
        self._live: dict[SessionId, LiveSession] = {}
        self._closed: dict[TenantId | None, str] = {}
        self._of_grant: dict[tuple[TenantId, GrantId], dict[SessionId, LiveSession]] = {}
        """The same by grant: an end looks at its own sessions and no others."""

    @contextmanager
    def enter(self, live: LiveSession, *, per_grant: int, in_all: int) -> Iterator[LiveSession]:
        self.must_be_open(live.tenant)
        if len(self._live) >= in_all:
            raise exhausted("too_many_sessions", "the broker runs as many sessions as it can", "try again later")
        if len(self._of(live.tenant, live.grant)) >= per_grant:
            raise exhausted("too_many_sessions", "the grant runs as many sessions as it may", "wait for one to end")
        self._live[live.session] = live
        self._of_grant.setdefault((live.tenant, live.grant), {})[live.session] = live
        try:
            yield live
        finally:
            self._leave(live)
            live.over()

    def _leave(self, live: LiveSession) -> None:
        del self._live[live.session]
        same = self._of_grant[live.tenant, live.grant]
        del same[live.session]
        if not same:
            del self._of_grant[live.tenant, live.grant]

    def _among(self, scope: Scope) -> Mapping[SessionId, LiveSession]:
        """Where the sessions of a scope are, and as few others as can be."""
        if scope.tenant is None or scope.grant is None:
            return self._live
        return self._of(scope.tenant, scope.grant)

    def _of(self, tenant: TenantId, grant: GrantId) -> Mapping[SessionId, LiveSession]:
        return self._of_grant.get((tenant, grant), {})

    def get(self, tenant: TenantId, session: SessionId) -> LiveSession | None:
        live = self._live.get(session)
        return live if live is not None and live.tenant == tenant else None

    def all(self) -> Sequence[LiveSession]:
        return tuple(self._live.values())

    def dismiss(self, key: bytes) -> None:
        for live in self._live.values():
            live.oversight.dismiss(key)

    def count(self, tenant: TenantId | None = None) -> int:
        return sum(1 for live in self._live.values() if tenant in (None, live.tenant))

    def recorder_lag(self) -> float:
        return max((live.recorder_lag() for live in self._live.values()), default=0.0)

    def close(self, tenant: TenantId | None, told: str) -> None:
        self._closed.setdefault(tenant, told)  # one step of the interpreter: from any thread

    def reopen(self, tenant: TenantId | None) -> None:
        self._closed.pop(tenant, None)

    def is_closed(self, tenant: TenantId) -> bool:
        return None in self._closed or tenant in self._closed

    def must_be_open(self, tenant: TenantId) -> None:
        told = self._closed.get(None) or self._closed.get(tenant)
        if told is not None:
            raise frozen(told)

    def strike(self, tenant: TenantId, grants: Iterable[GrantId], reason: str) -> int:
        hit = [live for grant in grants for live in self._of(tenant, grant).values()]
        for live in hit:
            live.cut(reason)
        return len(hit)

    async def cut(self, scope: Scope, reason: str, *, within: float, words: str = "") -> Cut:
        hit = [live for live in self._among(scope).values() if scope.covers(live)]
        for live in hit:
            live.cut(reason, words)
        waits = [asyncio.ensure_future(live.closed.wait()) for live in hit]  # noqa: TID251  awaited or cancelled below
        try:
            if waits:
                await asyncio.wait(waits, timeout=within)
        finally:  # also where this task is cancelled: the sessions stay cut, nobody waits for them any more
            for wait in waits:
                wait.cancel()
        return Cut(sessions=len(hit), late=tuple(live.session for live in hit if not live.closed.is_set()))
