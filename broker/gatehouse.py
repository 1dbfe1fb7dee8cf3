"""The SSH door, put together: in this process, or in workers that ask this one. Holds no rule of its own."""

from __future__ import annotations

from datetime import datetime

from broker.adapters.gateway_identity import RENEW_BEFORE, GatewayIdentity, believed, gateway_identity
from broker.bus import messages as m
from broker.bus.crew import Crew, CrewTargets
from broker.bus.desk import Rooms
from broker.config import Settings
from broker.core.cert import Ca
from broker.proxy.server import SshDoor
from broker.service.use_cases import UseCases
from broker.service.world import World


class Gatehouse:
    """Whatever listens for SSH.

    Args:
        fast_path: as SshDoor.
    """

    def __init__(self, settings: Settings, world: World, cases: UseCases, *, fast_path: bool) -> None:
        self._settings, self._world, self._cases, self._fast_path = settings, world, cases, fast_path
        self._identity: GatewayIdentity
        self._door: SshDoor | None = None
        self._crew = Crew(settings.ssh.workers, self._rooms(), self._begin) if settings.ssh.workers else None

    async def open(self) -> None:
        """Listens. Raises Fault: a worker cannot."""
        self._identity = await self._fresh()
        if self._crew is None:
            await self._open_door()
            return
        if isinstance(self._world.targets, CrewTargets):
            self._world.targets.crew = self._crew
        await self._crew.start()

    async def close(self) -> None:
        """Takes nothing new, ends every connection, waits for what they ran to be sealed and written."""
        if self._door is not None:
            await self._door.stop()
        if self._crew is not None:
            await self._crew.stop()

    def jobs(self) -> list[Crew]:
        """What keeps it whole."""
        return [self._crew] if self._crew is not None else []

    async def renew(self, now: datetime) -> None:
        """A new host certificate, where the present one is due, and the CAs that count; connections that come see it.

        Raises:
            SignerFault: what was shown goes on.
        """
        if not await self._is_due(now):
            return
        shown = self._identity = await self._fresh()
        if self._door is not None:
            await self._door.show(shown.host_key, shown.host_certificate, shown.ingress_cas)
        if self._crew is not None:
            told = m.Shows(shown.host_key.reveal(), shown.host_certificate, shown.ingress_cas)
            self._crew.show(told)

    async def _is_due(self, now: datetime) -> bool:
        shown, signer = self._identity, self._world.signer
        if now >= shown.not_after - RENEW_BEFORE or shown.host_ca != await signer.ssh_ca("host"):
            return True
        return shown.ingress_cas != await believed(signer, Ca.INGRESS)

    async def _fresh(self) -> GatewayIdentity:
        world = self._world
        name = world.places.gateway_names[0]
        return await gateway_identity(signer=world.signer, entropy=world.entropy, name=name, now=world.clock.now())

    async def _open_door(self) -> None:
        shown, ssh = self._identity, self._settings.ssh
        self._door = SshDoor(
            sessions=self._cases.sessions,
            host_key=shown.host_key,
            host_certificate=shown.host_certificate,
            ingress_cas=shown.ingress_cas,
            clock=self._world.clock,
            meter=self._world.meter,
            fast_path=self._fast_path,
            glance=self._world.ends.glance,
        )
        await self._door.start(ssh.host, ssh.port)

    def _rooms(self) -> Rooms:
        world = self._world
        return Rooms(
            control=self._cases.control,
            signer=world.signer,
            clock=world.clock,
            entropy=world.entropy,
            meter=world.meter,
        )

    def _begin(self) -> m.Begin:
        settings, limits, shown = self._settings, self._world.limits, self._identity
        return m.Begin(
            host=settings.ssh.host,
            port=settings.ssh.port,
            share=settings.ssh.workers,
            host_key=shown.host_key.reveal(),
            host_certificate=shown.host_certificate,
            ingress_cas=shown.ingress_cas,
            recordings=str(settings.recordings_directory),
            floor_bytes=settings.recordings.floor_mib << 20,
            max_output_bytes=limits.max_output_bytes,
            unwatched_for=limits.unwatched_for,
            keeps_input=self._world.keeps_input,
            fast_path=self._fast_path,
        )
