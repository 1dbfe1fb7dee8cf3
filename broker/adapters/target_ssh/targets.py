"""The only way to a target: plans in, running commands out. Never decides, never keeps a key beyond its connection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import asyncssh

from broker.adapters.target_ssh.connection import Connection, shown_host_key
from broker.adapters.target_ssh.credential import connect
from broker.adapters.target_ssh.doctor import examine
from broker.adapters.target_ssh.faults import fault, fault_of
from broker.adapters.target_ssh.pool import START_SECONDS, Pool, opened
from broker.adapters.target_ssh.probe import Probe
from broker.adapters.target_ssh.process import RemoteProcess
from broker.adapters.target_ssh.sshd_lines import sshd_lines
from broker.core.clock import Clock
from broker.core.errors import TargetFault
from broker.core.identity import Target
from broker.core.ids import GrantId, TenantId
from broker.core.terminal import Signal
from broker.core.wrapper import signal_request
from broker.service.ports import Entropy, ExecPlan, Finding, Signer, TargetProcess

# What a client asks for where sshd runs something else anyway; a server that ignores force-command fails loudly.
_SIGNAL_SECONDS: Final = 2.0
_NOT_FORCED: Final = "echo 'grantd: force-command was not honoured' >&2; exit 126"


@dataclass(slots=True)
class _Lease:
    """The pooled connection of one grant and login; `over` once the grant ended."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    target: Target | None = None
    pool: Pool | None = None
    over: bool = False


class SshTargets:
    """Targets over SSH. One object a process; `close` before the loop ends.

    Args:
        fast_path: whether packets go the quicker way; whoever says so has asked `fastpath.changed()`.
        glance: called with the loop's time before what any target sent is looked at: an end that has come goes first.
    """

    def __init__(
        self, *, signer: Signer, clock: Clock, entropy: Entropy, fast_path: bool = True,
        glance: Callable[[float], None] | None = None,
    ) -> None:  # fmt: skip
        self._signer = signer
        self._clock = clock
        self._entropy = entropy
        self._fast_path, self.glance = fast_path, glance
        self._leases: dict[tuple[TenantId, GrantId], dict[str, _Lease]] = {}
        """By grant, so that an end looks at its own and no others; then by login."""
        self._sealed: dict[Connection, tuple[TenantId, GrantId]] = {}
        # asyncssh logs what peers say of themselves: versions, reasons, banners (I-27)
        logging.getLogger("asyncssh").setLevel(logging.CRITICAL)

    async def start(self, plan: ExecPlan) -> TargetProcess:
        """See Targets. Sealed plans get a connection of their own, the others share their grant's."""
        try:
            return await (self._start_sealed(plan) if plan.sealed else self._start_pooled(plan))
        except (asyncssh.Error, OSError) as error:
            raise fault_of(error) from None

    async def end_grant(self, tenant: TenantId, grant: GrantId) -> None:
        """See Targets. Needs nothing from the target, so it takes no time."""
        for lease in self._leases.pop((tenant, grant), {}).values():
            lease.over = True
            if lease.pool is not None:
                lease.pool.abort()
        for connection in [own for own, of in self._sealed.items() if of == (tenant, grant)]:
            connection.abort()

    async def close(self) -> None:
        """Ends every connection, and with it, on the targets, whatever still runs."""
        for tenant, grant in {*self._leases, *self._sealed.values()}:
            await self.end_grant(tenant, grant)

    async def fetch_host_key(self, host: str, port: int) -> str:
        """See Targets."""
        key = await shown_host_key(host, port)
        return " ".join(key.export_public_key().decode().split()[:2])

    async def probe(
        self, target: Target, login: str, announce: Callable[[int], Awaitable[None]], serial: int
    ) -> Sequence[Finding]:
        """See Targets."""
        probe = Probe(
            signer=self._signer,
            entropy=self._entropy,
            now=self._clock.now,
            target=target,
            login=login,
            announce=announce,
            serial=serial,
            generation=0,
        )
        return await examine(probe)

    async def believes(
        self, target: Target, login: str, announce: Callable[[int], Awaitable[None]], generation: int
    ) -> bool:
        """See Targets."""
        probe = Probe(
            signer=self._signer,
            entropy=self._entropy,
            now=self._clock.now,
            target=target,
            login=login,
            announce=announce,
            serial=int.from_bytes(self._entropy.token(8), "big") >> 1 | 1,
            generation=generation,
        )
        return await probe.is_let_in()

    def sshd_lines(self, target: Target, egress_cas: Sequence[str]) -> str:
        """See Targets."""
        return sshd_lines(target, egress_cas)

    async def _start_sealed(self, plan: ExecPlan) -> TargetProcess:
        connection = await self._connect(plan)
        self._sealed[connection] = (plan.tenant, plan.grant_id)
        connection.on_lost = lambda: self._sealed.pop(connection, None)
        try:
            process = await opened(connection)
            process.on_gone = connection.close
            process.stop = _aborting(connection)
            process.deliver = _signalling(connection)
            async with asyncio.timeout(START_SECONDS):
                await process.run(
                    _NOT_FORCED, nonce="", stdin=plan.wants_stdin, kind=plan.env.get("TERM", "dumb"), pty=plan.pty
                )
        except BaseException:
            connection.abort()
            raise
        return process

    async def _start_pooled(self, plan: ExecPlan) -> TargetProcess:
        pool, fresh = await self._pool(plan)
        try:
            process = await pool.session()
        except TargetFault as lost:
            # a connection that died while nobody used it: nothing was sent on it, so another one is no second run
            if fresh or pool.usable or lost.code != "connection_lost":
                raise
            pool, _ = await self._pool(plan)
            process = await pool.session()
        await pool.run(process, plan)
        return process

    async def _pool(self, plan: ExecPlan) -> tuple[Pool, bool]:
        """The pool of the plan's grant and login, and whether it was opened for this plan."""
        leases = self._leases.setdefault((plan.tenant, plan.grant_id), {})
        lease = leases.setdefault(plan.login, _Lease())
        async with lease.lock:
            pool, fresh = lease.pool, False
            if pool is None or not pool.usable or lease.target != plan.target:
                if pool is not None:
                    pool.abort()
                lease.pool = pool = await self._open_pool(plan)
                lease.target, fresh = plan.target, True
        if lease.over:
            pool.abort()
            raise fault("connection_lost")
        return pool, fresh

    async def _open_pool(self, plan: ExecPlan) -> Pool:
        connection = await self._connect(plan)
        left = (plan.not_after - self._clock.now()).total_seconds()
        try:
            return await Pool.open(connection, seconds=max(left, 1.0), nonces=self._entropy)
        except BaseException:
            connection.abort()
            raise

    async def _connect(self, plan: ExecPlan) -> Connection:
        connection = await connect(
            sign=lambda spec, key: self._signer.sign_ssh(spec, key, plan.proof),
            target=plan.target,
            login=plan.login,
            spec=lambda source: plan.certificate(source_address=source, now=self._clock.now()),
            announce=plan.announce,
            fast_path=self._fast_path,
        )
        connection.glance = self.glance
        return connection


def _signalling(connection: Connection) -> Callable[[Signal], Awaitable[None]]:
    """A second session on a sealed connection, whose wrapper then signals instead of running the command."""

    async def deliver(name: Signal) -> None:
        # a target that gives no second session leaves the command to its end, or to a cut
        with contextlib.suppress(asyncssh.Error, OSError, TargetFault, TimeoutError):
            async with asyncio.timeout(_SIGNAL_SECONDS):
                messenger = RemoteProcess(connection)
                await messenger.channel.open()
                await messenger.run(signal_request(name), nonce="", stdin=False)
                await messenger.ended()

    return deliver


def _aborting(connection: Connection) -> Callable[[], Awaitable[None]]:
    async def stop() -> None:
        connection.abort()

    return stop
