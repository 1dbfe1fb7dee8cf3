"""I-27: a target taken over cannot reach back, fill the broker's memory, stall it, or speak in its errors."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncssh
import pytest
from asyncssh.connection import SSHConnection
from asyncssh.constants import MSG_CHANNEL_DATA, MSG_CHANNEL_OPEN, MSG_CHANNEL_REQUEST, MSG_GLOBAL_REQUEST
from asyncssh.packet import Boolean, String, UInt32

from broker.adapters.target_ssh import SshTargets, connection
from broker.core.cert import Ca
from broker.core.errors import TargetFault
from tests.broker.adapters.target_ssh.world import (
    InProcessSigner,
    MachineClock,
    MachineEntropy,
    World,
    drained,
    target_for,
)
from tests.pace import Since

CANARY = "CANARY\x1b]0;owned\x07"
Handler = Callable[[asyncssh.SSHServerProcess[bytes]], Awaitable[None]]


@pytest.fixture(autouse=True, params=[True, False], ids=["fast", "stock"])
def _both_paths(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ceiling holds however packets go."""
    monkeypatch.setattr(SshTargets.__init__, "__kwdefaults__", {"fast_path": request.param, "glance": None})


class Anybody(asyncssh.SSHServer):
    """Says something to the user before the login."""

    def __init__(self, banner: str, connections: list[asyncssh.SSHServerConnection]) -> None:
        self._banner = banner
        self._connections = connections

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._connections.append(conn)

    def begin_auth(self, username: str) -> bool:
        if self._banner:
            for _ in range(50):
                self._connection.send_auth_banner(self._banner)
        return True


@asynccontextmanager
async def evil(handler: Handler, *, banner: str = "", **options: object) -> AsyncIterator[World]:
    """A target made of asyncssh whose every session is `handler`."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    signer = InProcessSigner()
    connections: list[asyncssh.SSHServerConnection] = []
    trusted = f'cert-authority,principals="grantd:*" {signer.line(Ca.EGRESS)}'
    server = await asyncssh.create_server(
        lambda: Anybody(banner, connections),
        "127.0.0.1",
        0,
        server_host_keys=[key],
        authorized_client_keys=asyncssh.import_authorized_keys(trusted),
        process_factory=handler,
        encoding=None,
        **options,
    )
    port = server.get_port()
    async with _before(signer, port, " ".join(key.export_public_key().decode().split()[:2])) as made:
        yield made
    for one in connections:
        one.abort()
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.05)


@asynccontextmanager
async def raw(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[World]:
    """A target that speaks whatever `serve` writes."""
    writers: list[asyncio.StreamWriter] = []

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await serve(reader, writer)

    server = await asyncio.start_server(client, "127.0.0.1", 0)
    key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    async with _before(InProcessSigner(), server.sockets[0].getsockname()[1], " ".join(key.split()[:2])) as made:
        yield made
    server.close()
    for writer in writers:
        writer.close()
    await asyncio.sleep(0.05)


@asynccontextmanager
async def _before(signer: InProcessSigner, port: int, host_key: str) -> AsyncIterator[World]:
    targets = SshTargets(signer=signer, clock=MachineClock(), entropy=MachineEntropy())
    target = target_for(port=port, host_key=host_key)
    yield World(sshd=None, login="deploy", signer=signer, targets=targets, target=target)  # type: ignore[arg-type]  # none
    await targets.close()


def deaf(conn: SSHConnection) -> None:
    """This end reads nothing any more."""
    transport = conn._transport  # noqa: SLF001  a hostile peer does what the library would not
    assert transport is not None
    transport.pause_reading()


def peak() -> int:
    """The most memory this process ever held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def test_channels_that_a_target_opens_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    """I-27: forwarded-tcpip, x11, agent and session opens: each refused, and the command goes on."""
    answers: list[str] = []

    async def handler(process: asyncssh.SSHServerProcess[bytes]) -> None:
        conn = process.channel.get_connection()
        for kind in (b"forwarded-tcpip", b"x11", b"auth-agent@openssh.com", b"session", b"direct-tcpip"):
            channel = asyncssh.channel.SSHTCPChannel(conn, asyncio.get_running_loop(), None, "strict", 1 << 20, 1 << 15)
            try:
                await channel._open(kind, String("127.0.0.1"), UInt32(22), String("x"), UInt32(1))  # noqa: SLF001
            except asyncssh.ChannelOpenError as refused:
                answers.append(refused.reason)
        process.stdout.write(b"fine")
        process.exit(0)

    async with evil(handler) as made:
        assert (await made.run("x", sealed=True)).out == b"fine"
    assert answers == ["refused"] * 5


async def test_a_flood_of_channel_opens_ends_the_connection() -> None:
    """I-27: a target that keeps asking is dropped."""

    async def handler(process: asyncssh.SSHServerProcess[bytes]) -> None:
        conn = process.channel.get_connection()
        for number in range(10_000):
            conn.send_packet(
                MSG_CHANNEL_OPEN, String("x11"), UInt32(number), UInt32(1), UInt32(1), String("h"), UInt32(1)
            )
        await asyncio.sleep(30)

    async with evil(handler) as made:
        with pytest.raises(TargetFault) as lost:
            await made.run("x", sealed=True)
        assert lost.value.code == "connection_lost"


async def test_a_flood_of_requests_unread_answers_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """I-27: global requests that want answers which the target never reads do not fill the broker's memory."""
    monkeypatch.setattr(connection, "MAX_UNSENT", 256 * 1024)
    before = peak()

    async def handler(process: asyncssh.SSHServerProcess[bytes]) -> None:
        conn = process.channel.get_connection()
        deaf(conn)
        with contextlib.suppress(Exception):
            while True:
                for _ in range(500):
                    conn.send_packet(MSG_GLOBAL_REQUEST, String("x@example"), Boolean(value=True))
                await asyncio.sleep(0)
                if conn.is_closed() or conn._transport is None:  # noqa: SLF001
                    return

    async with evil(handler) as made:
        process = await made.targets.start(made.plan("x", sealed=True))
        (ours,) = made.targets._sealed  # noqa: SLF001
        ours.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with pytest.raises(TargetFault):
            async with asyncio.timeout(30):
                await drained(process)
    assert peak() - before < 128 * 1024 * 1024


async def test_a_target_that_ignores_the_window_is_dropped() -> None:
    """I-26: nobody sends more than the window, and nobody makes it larger."""

    async def handler(process: asyncssh.SSHServerProcess[bytes]) -> None:
        channel = process.channel
        for _ in range(400):
            channel.send_packet(MSG_CHANNEL_DATA, String(bytes(32_000)))
        await asyncio.sleep(30)

    async with evil(handler) as made:
        process = await made.targets.start(made.plan("x", sealed=True))
        await asyncio.sleep(0.5)  # nobody reads
        with pytest.raises(TargetFault):
            await drained(process)


async def test_a_huge_window_does_not_make_the_broker_send_without_end() -> None:
    """M4: a target that opens a 2 GiB window and reads nothing gets a few MiB, and the writer waits."""
    before = peak()

    async def handler(process: asyncssh.SSHServerProcess[bytes]) -> None:
        process.channel.send_packet(93, UInt32(2**31))  # window adjust
        deaf(process.channel.get_connection())
        await asyncio.sleep(30)

    async with evil(handler) as made:
        process = await made.targets.start(made.plan("x", sealed=True, wants_stdin=True))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.write(bytes(200 * 1024 * 1024)), 1.5)
        await process.cut()
    assert peak() - before < (200 + 32) * 1024 * 1024  # the writer's own bytes, and ours


async def test_a_rekey_that_never_ends_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """I-26: a key exchange that a target starts and never finishes is bounded in time."""
    monkeypatch.setattr(connection, "REKEY_SECONDS", 0.3)

    async def handler(process: asyncssh.SSHServerProcess[bytes]) -> None:
        conn = process.channel.get_connection()
        conn._send_kexinit()  # noqa: SLF001
        conn._kexinit_sent = True  # noqa: SLF001
        conn._recv_handler = lambda: False  # noqa: SLF001  hears nothing any more
        while not process.channel.is_closing():
            await asyncio.sleep(0.05)
            conn._kex_complete = True  # noqa: SLF001  and goes on talking
            conn.send_packet(MSG_GLOBAL_REQUEST, String("x@example"), Boolean(value=False))

    async with evil(handler) as made:
        since = Since()
        with pytest.raises(TargetFault):
            await made.run("x", sealed=True)
        assert since.s() < 5


@pytest.mark.parametrize(
    "greeting", [b"", b"hello\r\n" * 500, b"SSH-2.0-slow\r\n"], ids=["silent", "chatty", "halfway"]
)
async def test_a_handshake_that_never_ends_is_bounded(monkeypatch: pytest.MonkeyPatch, greeting: bytes) -> None:
    """I-26: the login has its time, whatever the target does with it."""
    monkeypatch.setattr(connection, "LOGIN_SECONDS", 0.5)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        with contextlib.suppress(OSError):
            await reader.read()

    async with raw(serve) as made:
        since = Since()
        with pytest.raises(TargetFault) as slow:
            await made.run("x", sealed=True)
        assert slow.value.code == "too_slow"
        assert since.s() < 3


async def test_no_word_of_a_target_reaches_errors_or_logs(caplog: pytest.LogCaptureFixture) -> None:
    """I-27: banners, disconnect reasons and signal texts are the target's own; errors are fixed phrases."""
    caplog.set_level(logging.DEBUG)

    async def handler(process: asyncssh.SSHServerProcess[bytes]) -> None:
        process.channel.get_connection().send_debug(CANARY)
        process.channel.get_connection().disconnect(2, CANARY)
        await asyncio.sleep(0)

    async with evil(handler, banner=CANARY, server_version="CANARY_1") as made:
        with pytest.raises(TargetFault) as lost:
            await made.run("x", sealed=True)
        assert "CANARY" not in repr(lost.value) + str(lost.value.__cause__)
        assert lost.value.__suppress_context__ or lost.value.__context__ is None
    assert "CANARY" not in caplog.text


async def test_a_signal_with_an_invented_name_is_unknown() -> None:
    """I-27: the name of a signal is one of thirteen, or UNKNOWN."""

    async def handler(process: asyncssh.SSHServerProcess[bytes]) -> None:
        process.exit_with_signal(CANARY.encode().hex(), msg=CANARY)
        await asyncio.sleep(0)

    async with evil(handler) as made:
        assert (await made.run("x", sealed=True)).outcome.signal == "UNKNOWN"


async def test_a_target_that_says_nothing_of_the_end_did_not_end_well() -> None:
    """A closed channel without a status is a lost connection, never success."""

    async def handler(process: asyncssh.SSHServerProcess[bytes]) -> None:
        process.close()
        await asyncio.sleep(0)

    async with evil(handler) as made:
        with pytest.raises(TargetFault) as lost:
            await made.run("x", sealed=True)
        assert lost.value.code == "connection_lost"


async def test_a_status_without_the_end_of_the_output_is_no_success() -> None:
    """Exit 0, then the cable: what arrived may not be everything, so it did not end well."""

    async def handler(process: asyncssh.SSHServerProcess[bytes]) -> None:
        channel = process.channel
        channel.send_packet(MSG_CHANNEL_REQUEST, String("exit-status"), Boolean(value=False), UInt32(0))
        await asyncio.sleep(0.05)
        process.channel.get_connection().abort()

    async with evil(handler) as made:
        with pytest.raises(TargetFault) as lost:
            await made.run("x", sealed=True)
        assert lost.value.code == "connection_lost"


async def test_cut_returns_within_a_second_whatever_the_target_does() -> None:
    """A reaper that only pretends, a read that never ends: cut comes back, and the connection is gone."""

    async def handler(process: asyncssh.SSHServerProcess[bytes]) -> None:
        command = process.command or ""
        if "grantd-ready" in command:
            process.stdout.write(b"grantd-ready\n")
        else:
            nonce = command.split()[1]
            process.stderr.write(f"{nonce} 4711\n".encode())
        await asyncio.sleep(60)

    async with evil(handler) as made:
        process = await made.targets.start(made.plan("x", sealed=False))
        since = Since()
        await process.cut()
        assert since.wall_s() > 0.5
        assert since.s() < 1.1
        await asyncio.sleep(0.05)
        assert process._connection.is_closed()  # type: ignore[attr-defined]  # noqa: SLF001  fails closed
        assert (await drained(process)).outcome.reason == "cut"
