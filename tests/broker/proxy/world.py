"""An open SSH door before a whole broker, agents with certificates, and a client that says whatever a test wants.

The broker is that of tests/broker/rpc/world.py: real store, services and recorder; commands are processes of bash.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import asyncssh
import pytest
from asyncssh.constants import MSG_SERVICE_ACCEPT, MSG_USERAUTH_REQUEST, MSG_USERAUTH_SUCCESS
from asyncssh.packet import Boolean, Byte, SSHPacket, SSHPacketHandler, String, UInt32
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.adapters.gateway_identity import gateway_identity
from broker.core.action import Action
from broker.core.ids import GrantId
from broker.core.sshcert import CERT_KIND
from broker.core.sshwire import ed25519_blob
from broker.proxy.server import SshDoor
from broker.service.ports import Tx
from policy.classes import CommandClass, Tier
from recorder.events import Event
from tests.broker.rpc.agent import granted, identified
from tests.broker.rpc.world import TENANT, House, opened
from tests.pace import Since

PATIENCE = 30.0
BOTH_PATHS = pytest.mark.parametrize("front", [True, False], ids=["fast", "stock"], indirect=True)
"""For what has to hold however packets go."""
NO = Boolean(False)  # noqa: FBT003  asyncssh's own signature
YES = Boolean(True)  # noqa: FBT003


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What an agent needs at the door."""

    key: Ed25519PrivateKey
    certificate: bytes
    """Blob."""
    user: str
    grant: GrantId

    def blob(self) -> bytes:
        """The plain public key's."""
        return ed25519_blob(self.key.public_key().public_bytes_raw())


class Gate:
    """A house with its SSH door."""

    def __init__(self, house: House, door: SshDoor, port: int, host_ca: bytes) -> None:
        self.house, self.door, self.port, self.host_ca = house, door, port, host_ca

    async def admit(self, *, flags: frozenset[str] = frozenset(), grant: str = "", ttl_s: int = 600) -> Pass:
        """A grant for the agent and a certificate for it, both by the services' own ways."""
        caller = await identified(self.house, "agent")
        made = GrantId(grant or await granted(self.house, flags=flags, ttl_s=ttl_s, ceiling=CommandClass.EXECUTE))
        key = Ed25519PrivateKey.generate()
        issued = await self.house.cases.issue.ssh(caller, made, ed25519_blob(key.public_key().public_bytes_raw()))
        return Pass(key=key, certificate=issued.certificate, user=issued.user, grant=made)

    async def trust(self) -> None:
        """The target lets all commands run unasked."""

        def unit(tx: Tx) -> None:
            for target in tx.targets.all():
                tx.targets.put(replace(target, tier=Tier.TRUSTED))

        await self.house.world.store.run(TENANT, unit)

    async def connect(self, shown: Pass, *, port: int = 0) -> asyncssh.SSHClientConnection:
        """A well-behaved client, logged in."""
        return await asyncssh.connect(
            "127.0.0.1", port or self.port, username=shown.user, client_keys=[keypair(shown)], config=None,
            known_hosts=None, agent_path=None, gss_host=None, preferred_auth="publickey", compression_algs=["none"],
        )  # fmt: skip

    async def raw(self, *, source: str = "127.0.0.1", kex: bool = True) -> Raw:
        """A client that has done nothing but the key exchange."""
        return await raw(self.port, source=source, kex=kex)

    async def entered(self, shown: Pass) -> Raw:
        """A raw client that is logged in."""
        client = await self.raw()
        assert await client.log_in(shown) == MSG_USERAUTH_SUCCESS
        return client

    def refusals(self) -> list[str]:
        """What the door counted as refused, by reason."""
        return [labels["reason"] for name, labels in self.house.meter.counted if name == "connections_refused"]

    async def features(self) -> list[str]:
        """The refused features in the audit log, in order."""
        await until(lambda: not self.door_busy())
        names = await self.house.events()
        records = await self.house.cases.audit._log.entries(TENANT, from_seq=0, limit=1000)  # noqa: SLF001
        assert len(names) == len(records)
        return [json.loads(r.entry)["feature"] for r in records if r.name == "session.feature_refused"]

    async def recorded(self, action: Action) -> list[Event]:
        """Every event of a finished action's recording."""
        assert action.session_id is not None
        caller = await identified(self.house, "owner")
        reader = await self.house.cases.session.play(caller, action.session_id, "a test")
        return list(reader.events())

    async def house_runs(self, number: int) -> bool:
        """Waits until so many commands run, and the target was asked for as many."""
        house = self.house
        await until(lambda: house.world.live.count() == number and len(house.targets.plans) >= number)
        return True

    def door_busy(self) -> bool:
        """Whether the door still writes or runs something."""
        return len(self.door._tasks) > 1  # noqa: SLF001  the watcher is always there


def keypair(shown: Pass) -> tuple[asyncssh.SSHKey, asyncssh.SSHCertificate]:
    """As asyncssh's own clients want it."""
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    pem = shown.key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    import base64  # noqa: PLC0415

    line = CERT_KIND + b" " + base64.b64encode(shown.certificate)
    return asyncssh.import_private_key(pem), asyncssh.import_certificate(line)


async def expire(front: Gate, shown: Pass) -> None:
    """The grant's time is over, and nobody has noticed yet."""

    def unit(tx: Tx) -> None:
        grant = tx.grants.get(shown.grant)
        assert grant is not None
        tx.grants.put(replace(grant, not_after=front.house.world.clock.now()))

    await front.house.world.store.run(TENANT, unit)


async def until(holds: object, *, within: float = PATIENCE) -> None:
    """Waits until a condition without an event holds."""
    assert callable(holds)
    since = Since()
    while not holds():
        assert since.s() < within, "it never came true"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def gate(folder: Path, *, fast_path: bool = True) -> AsyncIterator[Gate]:
    """An open door."""
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(opened(folder))
        world = house.world
        identity = await gateway_identity(
            signer=world.signer, entropy=world.entropy, name="127.0.0.1", now=world.clock.now()
        )
        door = SshDoor(
            sessions=house.cases.sessions, host_key=identity.host_key, host_certificate=identity.host_certificate,
            ingress_cas=identity.ingress_cas, clock=world.clock, meter=world.meter,
            fast_path=fast_path,
        )  # fmt: skip
        port = await door.start("0.0.0.0", 0)  # noqa: S104  sources of 127.0.0.0/8, in the tests' own network
        stack.push_async_callback(door.stop)
        yield Gate(house, door, port, await world.signer.ssh_ca("host"))


class _Heard(SSHPacketHandler):
    """Any channel, and the authentication: passes on what the server says of it."""

    def __init__(self, client: Raw) -> None:
        self._client = client

    @property
    def logger(self) -> object:  # type: ignore[override]
        return self._client.logger

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool:
        self._client.heard.put_nowait((pkttype, packet.get_remaining_payload()))
        return True

    def cancel(self) -> None:
        """As Auth."""

    def process_connection_close(self, exc: Exception | None) -> None:
        """As a channel."""


class _All(dict[int, SSHPacketHandler]):
    def __init__(self, handler: SSHPacketHandler) -> None:
        self._handler = handler

    def __missing__(self, key: int) -> SSHPacketHandler:
        return self._handler


class Raw(asyncssh.SSHClientConnection):
    """A client that exchanges keys, and for the rest sends what it is told to and keeps what it hears."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: asyncssh.SSHClientConnectionOptions) -> None:
        super().__init__(loop, options)
        self.heard: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self.lets_exchanges_hang = False
        self.ready, self.gone = asyncio.Event(), asyncio.Event()
        self._any = _Heard(self)
        self._auth = self._any  # type: ignore[assignment]
        self._channels = _All(self._any)  # type: ignore[assignment]

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> object:  # type: ignore[override]
        if pkttype == MSG_SERVICE_ACCEPT:
            self._auth_in_progress = True
            self.ready.set()
            return True
        if self.lets_exchanges_hang and 20 <= pkttype < 50:
            return True
        if 1 < pkttype < 50:
            return super().process_packet(pkttype, pktid, packet)
        if pkttype == MSG_USERAUTH_SUCCESS:
            self._auth_complete = True
        self.heard.put_nowait((pkttype, packet.get_remaining_payload()))
        return True

    def connection_lost(self, exc: Exception | None = None) -> None:
        self.gone.set()
        self.ready.set()
        super().connection_lost(exc)

    async def next(self, *types: int, within: float = PATIENCE) -> tuple[int, bytes]:
        """The next thing heard of these types (of any, without); 0 once the server hung up."""
        async with asyncio.timeout(within):
            while True:
                if self.heard.empty() and self.gone.is_set():
                    return 0, b""
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        got = await self.heard.get()
                        if not types or got[0] in types:
                            return got

    async def hung_up(self, within: float = PATIENCE) -> bool:
        """Whether the server ends the connection in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self.gone.wait()
        return self.gone.is_set()

    # ---- logging in --------------------------------------------------------------------------------------------------
    def ask(self, user: str, method: bytes, *fields: bytes) -> None:
        """An authentication request of any kind."""
        self.send_packet(MSG_USERAUTH_REQUEST, String(user), String("ssh-connection"), String(method), *fields)

    def offer(self, user: str, key: bytes, algorithm: bytes = CERT_KIND) -> None:
        """A public key without a signature."""
        self.ask(user, b"publickey", NO, String(algorithm), String(key))

    def sign(
        self,
        shown: Pass,
        *,
        user: str | None = None,
        session: bytes = b"",
        key: bytes = b"",
        algorithm: bytes = CERT_KIND,
    ) -> None:
        """A signed request; fields may differ from what they should be."""
        body = b"".join(
            (String(shown.user if user is None else user), String("ssh-connection"), String(b"publickey"), YES,
             String(algorithm), String(key or shown.certificate))
        )  # fmt: skip
        message = Byte(MSG_USERAUTH_REQUEST) + body
        raw_signature = shown.key.sign(String(session or self._session_id) + message)
        self.send_packet(MSG_USERAUTH_REQUEST, body, String(String(b"ssh-ed25519") + String(raw_signature)))

    async def log_in(self, shown: Pass, **fields: object) -> int:
        """The type of the answer to a signed request."""
        self.sign(shown, **fields)  # type: ignore[arg-type]
        return (await self.next())[0]

    def begin_exchange(self) -> None:
        """KEXINIT, and nothing of what should follow; other messages may go on."""
        self.lets_exchanges_hang = True
        self._send_kexinit()
        self._kex_complete = True

    def stop_reading(self) -> None:
        """The socket fills up."""
        assert self._transport is not None
        self._transport.pause_reading()

    # ---- channels ----------------------------------------------------------------------------------------------------
    def open(self, number: int, kind: bytes = b"session", *, window: int = 1 << 21, size: int = 1 << 15,
             rest: bytes = b"") -> None:  # fmt: skip
        """CHANNEL_OPEN."""
        self.send_packet(90, String(kind), UInt32(number), UInt32(window), UInt32(size), rest)

    async def session(self, *, window: int = 1 << 21, size: int = 1 << 15) -> int:
        """An open session; returns the server's number of it."""
        self.open(0, window=window, size=size)
        kind, payload = await self.next(91, 92)
        assert kind == 91, payload
        return int.from_bytes(payload[4:8], "big")

    def request(self, name: bytes, *fields: bytes, channel: int = 0, reply: bool = True) -> None:
        """CHANNEL_REQUEST."""
        self.send_packet(98, UInt32(channel), String(name), Boolean(reply), *fields)

    def globally(self, name: bytes, *fields: bytes, reply: bool = True) -> None:
        """GLOBAL_REQUEST."""
        self.send_packet(80, String(name), Boolean(reply), *fields)


async def raw(port: int, *, source: str = "127.0.0.1", kex: bool = True) -> Raw:
    """A raw client, after the key exchange."""
    loop = asyncio.get_running_loop()
    options = await asyncssh.SSHClientConnectionOptions.construct(
        config=None, host="127.0.0.1", port=port, username="nobody", known_hosts=None, client_keys=None,
        agent_path=None, gss_host=None, login_timeout=600, x509_trusted_certs=None, compression_algs=["none"],
    )  # fmt: skip
    _, client = await loop.create_connection(lambda: Raw(loop, options), "127.0.0.1", port, local_addr=(source, 0))
    if kex:
        async with asyncio.timeout(PATIENCE):
            await client.ready.wait()
    return client


def environment() -> Mapping[str, str]:
    """For stock clients: nothing of this machine's person."""
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
