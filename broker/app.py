"""The house, put together: signer, vault, store, log, recorder, targets, use cases, doors, jobs.

Holds no rule of its own.

Read it top to bottom to find every room. A start: the signer, then the store, then whatever ended while the broker
was down is ended, and only then a door opens. A stop: doors shut, sessions are cut and sealed, the log is drained.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog
from sqlalchemy import Connection

from broker.adapters.audit_log.health import LogHealth
from broker.adapters.audit_log.keeper import SqlAuditKeeper
from broker.adapters.audit_log.pins import Pins
from broker.adapters.audit_log.reading import SqlAuditLog
from broker.adapters.audit_log.signing import Keyring, LogNames
from broker.adapters.audit_log.times import newest_moment
from broker.adapters.freeze_spool import FreezeFiles
from broker.adapters.high_water import HighWater
from broker.adapters.indexer import index_apart
from broker.adapters.issuers.every import every_issuer
from broker.adapters.metrics import PrometheusMeter, serve_metrics
from broker.adapters.server_identity import ServerCertificate
from broker.adapters.signer_client import SignerClient, start_signer
from broker.adapters.signer_heads import SignerHeads
from broker.adapters.store.keys import KeyRowsSql
from broker.adapters.store.store import SqlStore
from broker.adapters.system import SystemClock, SystemEntropy, SystemGarbage
from broker.adapters.target_ssh.revocation_list import SshRevocationLists
from broker.adapters.target_ssh.targets import SshTargets
from broker.adapters.tokens import JwtTokens
from broker.adapters.uploads import UploadKey
from broker.bus.crew import CrewTargets
from broker.config import Settings
from broker.core.cert import Ca
from broker.core.clock import Instant
from broker.core.ids import SYSTEM_TENANT, TenantId
from broker.core.secret import Secret
from broker.fastpath import changed
from broker.founding import limits_of, names_of, open_vault, places_of, rows_over, with_ports
from broker.gatehouse import Gatehouse
from broker.jobs import Job
from broker.jobs.collecting import Collecting
from broker.jobs.expiry import Expiry
from broker.jobs.freezing import Freezing
from broker.jobs.gauges import Gauges
from broker.jobs.indexing import Indexing
from broker.jobs.leftovers import Leftovers
from broker.jobs.lifeline import Lifeline
from broker.jobs.pinning import Pinning
from broker.jobs.rekeying import Rekeying
from broker.jobs.renewal import Renewal
from broker.jobs.reviving import Reviving
from broker.jobs.revocations import KeepingLists
from broker.jobs.sequencer import Sequencer
from broker.jobs.tidying import Tidying
from broker.jobs.timekeeping import Timekeeping
from broker.rpc.host import HostSocket
from broker.rpc.lane import FreezeLane
from broker.rpc.server import Listen, RpcServers
from broker.rpc.services import servicers
from broker.rpc.tls import ServerIdentity
from broker.service import story
from broker.service.ends import Ends
from broker.service.leases import Leases
from broker.service.live import LiveRegistry, Scope
from broker.service.policies import Policies
from broker.service.ports import Meter, Tx
from broker.service.revocations import Revocations
from broker.service.switch import KillSwitch
from broker.service.use_cases import UseCases
from broker.service.wake import Bell
from broker.service.world import Places, World
from recorder.store.files import FileRecordingStore
from recorder.writer import RecorderThread

log = structlog.get_logger()
VERSION = "0.1.0"
_TOKEN_KEY = "grant-token-key"  # noqa: S105  the name of a vault secret, not its value
_STOP_WITHIN = 5.0
_STOOD_STILL = 70
"""Exit status where the loop did not begin to cut at a freeze (EX_SOFTWARE)."""
_RECORDERS = 4
"""Recorder threads: commands that begin and end at the same time wait for the disk together, not in a row."""


class House:
    """Everything that lives as long as the process. Built by `build`, in the order of its methods."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self.settings, self._stack = settings, stack
        self.clock, self.entropy, self.meter = SystemClock(), SystemEntropy(), PrometheusMeter()
        self.fast_path = _fast_path(settings, self.meter)
        self.health = LogHealth(clock=self.clock, meter=self.meter)
        self.keyring = Keyring()
        self.high_water = HighWater(settings.data / "high-water")
        self.gatehouse: Gatehouse
        self.reviving: Reviving | None = None
        """Only where the signer is this process's child."""

    async def build_foundation(self) -> None:
        """Signer, vault and store: all that `grantd init` needs."""
        self.vault = open_vault(self.settings)  # first: a root key that is not to be trusted starts nothing at all
        self.signer = await self._open_signer()
        rows = rows_over(self.vault, broker=self.settings.broker, entropy=self.entropy, noted=self.health.noted)
        self.store = await SqlStore.open(self.settings.store_url, source=rows)
        self._stack.push_async_callback(self.store.close)

    async def build(self) -> None:
        """Foundations up: raises Fault or Refusal, and nothing was served."""
        await self.build_foundation()
        self.sequencer = await self._open_log()
        self.world = await self._open_world()
        await self._remember_the_time()
        self.signer_heads = SignerHeads(
            ask=self.signer.head, store=self.store, folder=self.settings.data / "signer-heads", meter=self.meter
        )
        self.use_cases = UseCases.over(self.world, self._log_reader())
        self.gatehouse = Gatehouse(self.settings, self.world, self.use_cases, fast_path=self.fast_path)
        self.use_cases.cas.told += [self.use_cases.issue.ca_changed, self._ca_changed]
        self.certificate = ServerCertificate(signer=self.signer, entropy=self.entropy, hosts=names_of(self.settings))
        await self.renew_certificate(self.clock.now())

    async def renew_certificate(self, now: datetime) -> None:
        """A new TLS certificate for both gRPC listeners, where the present one is due; handshakes see it at once."""
        if await self.certificate.is_due(now):
            await self.certificate.renew(now)
            shown = self.certificate
            self.tls = ServerIdentity(key=shown.key, chain=shown.chain, client_ca=shown.ca)

    async def _ca_changed(self, ca: Ca) -> None:
        now = self.clock.now()
        if ca is Ca.X509:
            await self.renew_certificate(now)
        await self.gatehouse.renew(now)
        log.info("ca.changed", ca=ca.value)

    async def _open_signer(self) -> SignerClient:
        settings = self.settings
        settings.signer_socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if settings.signer.embedded:
            start = partial(start_signer, directory=settings.signer_directory, path=settings.signer_socket)
            process = await start()
            # the first process's client goes on with those after it: it connects anew by itself, and the CAs it knows
            # are the ones it keeps believing
            self._stack.push_async_callback(process.client.close)
            self.reviving = Reviving(child=process, start=start, clock=self.clock, meter=self.meter)
            self._stack.push_async_callback(self.reviving.stop)
            return process.client
        uid = os.geteuid() if settings.signer.uid is None else settings.signer.uid
        client = SignerClient(settings.signer_socket, signer_uid=uid)
        self._stack.push_async_callback(client.close)
        return client

    async def _open_log(self) -> Sequencer:
        keeper = SqlAuditKeeper(
            store=self.store,
            names=LogNames(domain=self.settings.audit.domain, cluster=self.settings.audit.cluster),
            pins=Pins(self.settings.data / "checkpoints"),
            keyring=self.keyring,
            health=self.health,
            entropy=self.entropy,
            meter=self.meter,
        )
        await keeper.start(self.clock.now())
        sequencer = Sequencer(keeper=keeper, clock=self.clock, meter=self.meter)
        self._stack.push_async_callback(sequencer.drain)
        return sequencer

    def _log_reader(self) -> SqlAuditLog:
        def keys(conn: Connection, tenant: TenantId) -> KeyRowsSql:
            return KeyRowsSql(conn, tenant, self.vault)

        folder = self.settings.recordings_directory
        return SqlAuditLog(store=self.store, openers=keys, keyring=self.keyring, recordings=folder)

    async def _open_world(self) -> World:
        settings = self.settings
        recorders = [RecorderThread() for _ in range(_RECORDERS)]
        for recorder in recorders:
            recorder.start()
            self._stack.callback(recorder.close)
        ends = Ends()
        targets = SshTargets(
            signer=self.signer, clock=self.clock, entropy=self.entropy, fast_path=self.fast_path, glance=ends.glance
        )
        self._stack.push_async_callback(targets.close)
        floor = settings.recordings.floor_mib << 20
        issuer = f"{settings.audit.domain}/{settings.audit.cluster}"
        return World(
            store=self.store,
            clock=self.clock,
            entropy=self.entropy,
            signer=self.signer,
            targets=CrewTargets(targets) if settings.ssh.workers else targets,
            issuers=every_issuer(
                self.store, issuer=issuer, sessions=settings.limits.database_sessions, clock=self.clock
            ),
            uploads=UploadKey(),
            recordings=FileRecordingStore(settings.recordings_directory, *recorders, floor_bytes=floor),
            tokens=JwtTokens(await self._token_seed(), issuer=issuer, kid="t1"),
            meter=self.meter,
            audit_health=self.health,
            freezes=FreezeFiles(settings.freezes_directory),
            live=LiveRegistry(),
            leases=Leases(),
            ends=ends,
            policies=Policies.tried(),
            bell=Bell(),
            limits=limits_of(settings),
            keeps_input=settings.recordings.input,
            operators=TenantId(settings.tenant),
            places=places_of(settings),
            index=index_apart,
        )

    async def _remember_the_time(self) -> None:
        """A moment that was kept, or of any log's newest entry, has been: a clock behind it is not trusted (I-05)."""
        kept = await asyncio.to_thread(self.high_water.read)
        if kept is not None:
            self.world.leases.remember(Instant(wall=kept, mono=self.clock.monotonic()))
        for tenant in [SYSTEM_TENANT, *await self.store.tenants()]:
            newest = await self.store.read_sql(tenant, partial(newest_moment, tenant=tenant))
            if newest is not None:
                self.world.leases.remember(Instant(wall=newest, mono=self.clock.monotonic()))

    async def _token_seed(self) -> Secret[bytes]:
        """The grant tokens' signing key: made once, kept in the vault of `_system`."""

        def unit(tx: Tx) -> Secret[bytes]:
            seed = tx.keys.secret(_TOKEN_KEY)
            if seed is None:
                seed = Secret(self.entropy.token(32))
                sealed = tx.keys.put_secret(_TOKEN_KEY, seed)
                tx.audit.append(story.of_secret(SYSTEM_TENANT, sealed, actor=""), self.clock.now())
            return seed

        return await self.store.run(SYSTEM_TENANT, unit)

    # ---- doors -------------------------------------------------------------------------------------------------------
    async def open_doors(self) -> None:
        """gRPC, SSH and metrics: only now does anybody outside reach the house."""
        settings = self.settings
        rpc = RpcServers(
            listen=Listen(main=settings.grpc.bound(), join=settings.join.bound()),
            identity=lambda: self.tls,
            servicers=servicers(self.use_cases, places=self.world.places, clock=self.clock, version=VERSION),
            identify=self.use_cases.identify,
            tell=self.use_cases.refused,
            meter=self.meter,
            clock=self.clock,
        )
        await rpc.start()
        self._stack.push_async_callback(rpc.stop, _STOP_WITHIN)
        await self.gatehouse.open()
        self._stack.push_async_callback(self.gatehouse.close)
        metrics = await serve_metrics(self.meter, host=settings.metrics.host, port=settings.metrics.port)
        self._stack.callback(metrics.close)
        self._stack.push_async_callback(self._cut_all)
        self._open_freeze_lane()
        self.meter.gauge("build_info", 1, version=VERSION)
        await rpc.serving(True)  # noqa: FBT003  reads as a sentence

    def _open_freeze_lane(self) -> None:
        """The kill switch's own ways in; they stay open while everything else shuts."""
        switch = KillSwitch(
            freeze=self.use_cases.freeze, roster=self.world.roster, clock=self.clock,
            loop=asyncio.get_running_loop(), give_up=_give_up,
        )  # fmt: skip
        lane = FreezeLane(
            address=self.settings.freeze.bound(), identity=lambda: self.tls, switch=switch, clock=self.clock,
            meter=self.meter,
        )  # fmt: skip
        host = HostSocket(self.settings.host_socket, switch)
        host.start()
        self._stack.callback(host.stop)
        lane.start()
        self._stack.callback(lane.stop)

    async def _cut_all(self) -> None:
        """A stop takes the access away: sessions are cut, sealed and written before the store closes."""
        for tenant in await self.store.tenants():
            await self.world.live.cut(Scope(tenant=tenant), "broker_stopping", within=_STOP_WITHIN)

    def jobs(self) -> Sequence[Job]:
        """The loops; each runs until the process ends."""
        ending, live = self.use_cases.ending, self.world.live
        late = (ending.write_late, self.use_cases.closing.write_late)
        return [
            self.sequencer,
            Expiry(
                store=self.store,
                ending=ending,
                late=late,
                ends=self.world.ends,
                leases=self.world.leases,
                clock=self.clock,
                meter=self.meter,
            ),
            Collecting(garbage=SystemGarbage(), ends=self.world.ends, leases=self.world.leases, clock=self.clock),
            Freezing(self.use_cases.freeze),
            Gauges(store=self.store, live=live, meter=self.meter),
            Lifeline(store=self.store, live=self.world.live, clock=self.clock),
            Timekeeping(leases=self.world.leases, clock=self.clock, keep=self.high_water.keep),
            Tidying(store=self.store, forgetting=self.use_cases.forgetting),
            self._keeping_lists(),
            Leftovers(store=self.store, leftovers=self.use_cases.leftovers, clock=self.clock),
            Indexing(closing=self.use_cases.closing, search=self.use_cases.search),
            Rekeying(look_again=self.vault.look_again, store=self.store, vault=self.use_cases.vault, meter=self.meter),
            Renewal(renew_if_due=self.renew_certificate, clock=self.clock),
            Renewal(renew_if_due=self.gatehouse.renew, clock=self.clock),
            Pinning(look=self.signer_heads.look, clock=self.clock),
            *self.gatehouse.jobs(),
            *([self.reviving] if self.reviving is not None else []),
        ]

    def _keeping_lists(self) -> KeepingLists:
        lists = SshRevocationLists(signer=self.signer, entropy=self.entropy, now=self.clock.now)
        revocations = Revocations(self.world, lists)
        return KeepingLists(store=self.store, revocations=revocations, bell=self.world.bell)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A broker that serves."""

    house: House
    places: Places


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """A broker that serves while the context is open; a job that dies ends it.

    Raises:
        Refusal, Fault: it may not or cannot start; nothing was served.
    """
    settings = with_ports(settings)
    async with AsyncExitStack() as stack:
        house = House(settings, stack)
        await house.build()
        began = house.clock.monotonic()
        recovered = await house.use_cases.recovery.run()
        log.info(
            "broker.recovered",
            sessions=recovered.sessions,
            grants=recovered.grants,
            recordings=recovered.recordings,
            awaited=len(house.world.ends),
            seconds=round(house.clock.monotonic() - began, 3),
        )
        async with asyncio.TaskGroup() as group:
            jobs = [group.create_task(job.run()) for job in house.jobs()]
            await house.open_doors()
            log.info("broker.started", version=VERSION, grpc=house.world.places.grpc, ssh=house.world.places.gateway)
            yield Running(house=house, places=house.world.places)
            for job in jobs:
                job.cancel()
    log.info("broker.stopped")


def _give_up() -> None:
    """Ends this process, and with its connections everything that ran through it; a service manager starts another.

    A moment later, so that whoever pulled the switch hears of it. The signer and the workers end with it.
    """
    ending = threading.Timer(0.1, os._exit, args=(_STOOD_STILL,))
    ending.daemon = True
    ending.start()


def _fast_path(settings: Settings, meter: Meter) -> bool:
    """As configured, unless asyncssh is not the one that the quick way was written against."""
    unknown = changed() if settings.ssh.fast_path else ()
    if unknown:
        log.warning("ssh.fast_path_off", cause="asyncssh changed", names=unknown)
    taken = settings.ssh.fast_path and not unknown
    meter.gauge("ssh_fast_path", int(taken))
    return taken
