"""The only way to a target, as services see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from broker.core.action import Outcome
from broker.core.cert import CertSpec, egress_spec, principal_of
from broker.core.identity import Target
from broker.core.ids import (
    ActionId,
    GrantId,
    TenantId,
)
from broker.core.terminal import Signal, Size, Terminal
from broker.core.wrapper import force_command
from broker.service.ports.signer import Proof

_LEAST_SECONDS: Final = 0.01


class Stream(StrEnum):
    OUT = "out"
    ERR = "err"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Bytes that the command wrote; at most 64 KiB."""

    stream: Stream
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecPlan:
    """One decided command, ready to run. Nothing in it is decided by the adapter."""

    tenant: TenantId
    grant_id: GrantId
    action_id: ActionId
    target: Target
    login: str
    """The login on the target: the grant's, or its read_login for a pooled read."""
    command: bytes
    cwd: str
    env: Mapping[str, str]
    sealed: bool
    """True: own connection, own certificate, force-command = this command in the wrapper. False: pooled read."""
    wants_stdin: bool
    serial: int
    """For the certificate, if a connection has to be opened for it."""
    not_after: datetime
    seconds_left: float
    """Counted on the target itself by the reaper or the wrapper."""
    proof: Proof
    announce: Callable[[int], Awaitable[None]]
    """Awaited with the serial before the signer is asked: the intent is durable first."""
    pty: Terminal | None = None
    """A terminal to run it in; such a plan is always sealed. TERM stands in `env`.

    Its output is all stdout. Without `wants_stdin` it has no keyboard: nothing can be typed, `signal` still reaches it.
    """

    def certificate(self, *, source_address: str, now: datetime) -> CertSpec:
        """What is signed for its connection: for a sealed plan it runs this command and no other.

        `source_address` is the one from which the target will see it come.
        """
        seconds = max(self.seconds_left, _LEAST_SECONDS)
        forced = force_command(self.command, cwd=self.cwd, env=self.env, seconds=seconds) if self.sealed else ""
        return egress_spec(
            grant=self.grant_id,
            serial=self.serial,
            principal=principal_of(self.tenant, self.target.id, self.login),
            source_address=source_address,
            force_command=forced,
            permit_pty=self.pty is not None,
            now=now,
            not_after=self.not_after,
        )


class TargetProcess(Protocol):
    """One running command. Not reading is the back-pressure: at most 2 MiB wait in the broker."""

    async def read(self) -> Chunk | Outcome:
        """The next bytes, or how it ended; after that it is closed. Raises TargetFault `connection_lost`."""
        ...

    async def write(self, data: bytes) -> None:
        """To its stdin; waits while the target does not read."""
        ...

    async def write_eof(self) -> None: ...
    async def resize(self, size: Size) -> None:
        """Its terminal has another size now; nothing without one."""
        ...

    async def signal(self, name: Signal) -> None:
        """To the command, or to what stands in front on its terminal; nothing where it has ended. At best effort."""
        ...

    async def cut(self) -> None:
        """Ends it on the target too (reaper, wrapper), at once; idempotent.

        Returns within 1 s whatever the target does.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of a check of a target from outside."""

    ok: bool
    what: str
    """Short, plain; never the target's own text."""
    advice: str
    """What to do; a good line with advice is a note."""


class Targets(Protocol):
    """The only way to a target.

    Raises TargetFault with codes `unreachable`, `host_key_changed`, `login_refused`, `too_slow`, `connection_lost`,
    `no_bash`, `no_terminal`.
    """

    async def start(self, plan: ExecPlan) -> TargetProcess: ...
    async def end_grant(self, tenant: TenantId, grant: GrantId) -> None:
        """Closes the pooled connection of a grant and what still runs on it; idempotent; bounded to 1 s."""
        ...

    async def probe(
        self, target: Target, login: str, announce: Callable[[int], Awaitable[None]], serial: int
    ) -> Sequence[Finding]:
        """Checks from outside.

        Reachable, host key as pinned, egress certificate accepted, wrong principal refused, bash there, no start-up
        file sourced.
        """
        ...

    async def believes(
        self, target: Target, login: str, announce: Callable[[int], Awaitable[None]], generation: int
    ) -> bool:
        """Whether it lets in what that generation of the egress CA signed; False also where it cannot be asked."""
        ...

    def sshd_lines(self, target: Target, egress_cas: Sequence[str]) -> str:
        """What an administrator adds to the target's sshd, ready to paste.

        `egress_cas` are OpenSSH public key lines: of every generation that signs or will.
        """
        ...

    async def fetch_host_key(self, host: str, port: int) -> str:
        """The Ed25519 host key that the address shows right now, as an OpenSSH line.

        For an administrator to compare, never trusted by itself.
        """
        ...
