"""Ceilings that no client can raise (I-26): each limit holds, is counted, and ends what exceeds it."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import asyncssh
import pytest
from asyncssh.constants import MSG_USERAUTH_FAILURE, MSG_USERAUTH_SUCCESS
from asyncssh.packet import String
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.proxy import limits
from tests.broker.proxy.forge import plain
from tests.broker.proxy.world import BOTH_PATHS, NO, Gate, Pass, until
from tests.pace import Since


@pytest.fixture
async def mine(front: Gate) -> Pass:
    """A certificate that is admitted."""
    return await front.admit()


async def test_three_certificates_that_do_not_hold(front: Gate, mine: Pass) -> None:
    """M7: the third refusal is the last word."""
    client = await front.raw()
    for _ in range(4):
        client.sign(mine, session=b"x" * 32)
    assert [(await client.next())[0] for _ in range(4)] == [MSG_USERAUTH_FAILURE] * 3 + [0]
    assert front.refusals() == ["certificate"] * 3 + ["too_many_failures"]


@pytest.mark.parametrize("how", ["keys", "none", "password", "nonsense"])
async def test_twenty_other_attempts(front: Gate, mine: Pass, how: str) -> None:
    """M7: plain keys that an agent holds, and any other method: twenty may come before the certificate."""
    client = await front.raw()
    key = plain(Ed25519PrivateKey.generate())

    def attempt() -> None:
        if how == "keys":
            client.offer(mine.user, key, b"ssh-ed25519")
        else:
            client.ask(mine.user, how.encode(), NO + String("x"))

    for _ in range(limits.MAX_OFFERS):
        attempt()
        assert (await client.next())[0] == MSG_USERAUTH_FAILURE
    assert await client.log_in(mine) == MSG_USERAUTH_SUCCESS
    client.abort()
    client = await front.raw()
    for _ in range(400):
        attempt()
    assert await client.hung_up()
    assert client.heard.qsize() <= limits.MAX_OFFERS + 1
    assert "too_many_offers" in front.refusals()


async def test_three_user_names(front: Gate, mine: Pass) -> None:
    """M7: two others may be tried first; two hundred may not."""
    client = await front.raw()
    for name in ("a", "b", "a"):
        client.ask(name, b"none")
        assert (await client.next())[0] == MSG_USERAUTH_FAILURE
    assert await client.log_in(mine) == MSG_USERAUTH_SUCCESS
    client = await front.raw()
    for number in range(200):
        client.ask(f"user{number}", b"none")
    assert await client.hung_up()
    assert client.heard.qsize() <= limits.MAX_USER_NAMES + 1
    assert front.refusals() == ["too_many_names"]


@pytest.mark.parametrize("stage", ["silent", "version", "exchanged", "slow"])
async def test_who_does_not_log_in_is_cut(front: Gate, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """I-26: in whatever stage, and however alive it seems."""
    assert limits.LOGIN_S == 20.0
    await front.door.stop()
    monkeypatch.setattr(limits, "LOGIN_S", 0.5)
    port = await front.door.start("127.0.0.1", 0)
    since = Since()
    if stage == "exchanged":
        front.port = port
        client = await front.raw()
        assert await client.hung_up(20)
    else:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if stage == "version":
            writer.write(b"SSH-2.0-x\r\n")
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                if stage == "slow":
                    writer.write(b"S")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1 if stage == "slow" else 20):
                        await reader.read(4096)
        writer.close()
    assert since.wall_s() > 0.4
    assert since.s() < 2
    await until(lambda: not front.door._sources and not front.door._connections)  # noqa: SLF001


@BOTH_PATHS
async def test_little_is_taken_from_who_is_not_known(front: Gate) -> None:
    """F29: a flood before the login ends the connection."""
    client = await front.raw()
    for _ in range(10):
        client.send_packet(2, String(b"x" * 30_000))
    assert await client.hung_up()
    assert front.refusals() == ["login_bytes"]


@pytest.mark.parametrize(("share", "of_one", "in_all"), [(0, 10, 100), (2, 10, 50), (32, 2, 4)])
async def test_some_unauthenticated_of_one_source_and_some_in_all(
    front: Gate, mine: Pass, share: int, of_one: int, in_all: int
) -> None:
    """M7: further ones are closed at once; who logged in does not count; one source never takes all the room."""
    front.door._share = share  # noqa: SLF001  of doors that listen at one address
    inside = await front.entered(mine)
    held: list[socket.socket] = []
    for source in range(12):
        for _ in range(12):
            sock = socket.socket()
            sock.bind((f"127.0.1.{source + 1}", 0))
            sock.connect(("127.0.0.1", front.port))
            held.append(sock)
        await asyncio.sleep(0.02)
    await until(lambda: len(front.refusals()) == 144 - in_all)
    assert max(front.door._sources.values()) == of_one  # noqa: SLF001
    assert front.door._sources.total() == in_all  # noqa: SLF001
    assert set(front.refusals()) == {"too_many_unauthenticated"}
    assert not inside.gone.is_set()
    # not on the loop, which may have the last of them still to close
    refused = await asyncio.to_thread(lambda: [sock for sock in held if _closed(sock)])
    assert len(refused) == 144 - in_all
    for sock in held:
        sock.close()
    await until(lambda: not front.door._sources)  # noqa: SLF001
    assert await (await front.raw()).log_in(mine) == MSG_USERAUTH_SUCCESS


def _closed(sock: socket.socket) -> bool:
    sock.settimeout(20)
    with contextlib.suppress(ConnectionError):
        return sock.recv(1) == b""
    return True


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True), ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True), ("fe80::1%eth0", "fe80::2%eth1", True), ("10.0.0.1", "10.0.0.2", False),
    ],
)  # fmt: skip
def test_what_one_source_is(one: str, other: str, *, same: bool) -> None:
    """I-26: a host with a /64 is not 2^64 hosts."""
    from broker.proxy.server import _source  # noqa: PLC0415

    assert (_source(one) == _source(other)) is same


async def test_connections_of_one_grant(front: Gate, mine: Pass, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-60: one agent does not take the whole door; a connection that ends makes room."""
    monkeypatch.setattr(limits, "CONNECTIONS_PER_GRANT", 3)
    inside = [await front.entered(mine) for _ in range(3)]
    late = await front.raw()
    assert await late.log_in(mine) == MSG_USERAUTH_FAILURE
    assert front.refusals() == ["too_many_connections"]
    inside[0].abort()
    await until(lambda: front.door._grants[mine.grant] == 2)  # noqa: SLF001
    assert await late.log_in(mine) == MSG_USERAUTH_SUCCESS


@BOTH_PATHS
async def test_a_key_exchange_ends_in_time(front: Gate, mine: Pass, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-26: begun and never ended; one that ends is not held against anybody."""
    assert limits.REKEY_S == 30.0
    monkeypatch.setattr(limits, "REKEY_S", 0.5)
    honest, client = await front.connect(mine), await front.entered(mine)
    honest._send_kexinit()  # noqa: SLF001
    honest._kexinit_sent = True  # noqa: SLF001
    client.begin_exchange()
    assert await client.hung_up(1.5)
    assert front.refusals() == ["rekey"]
    assert (await honest.run("id")).exit_status == 0
    honest.abort()


@pytest.mark.parametrize("opened", [False, True])
async def test_idle_connections_end(front: Gate, mine: Pass, monkeypatch: pytest.MonkeyPatch, *, opened: bool) -> None:
    """I-26: an open channel without a command is idle too; a connection that runs one is not."""
    assert limits.IDLE_S == 60.0
    monkeypatch.setattr(limits, "IDLE_S", 0.5)
    monkeypatch.setattr(limits, "LOOK_EVERY_S", 0.1)
    await front.trust()
    busy, client = await front.connect(mine), await front.entered(mine)
    process = await busy.create_process("sleep 1.5; echo still here")
    if opened:
        await client.session()
    assert await client.hung_up(20)
    assert front.refusals() == ["idle"]
    assert (await process.wait()).stdout == "still here\n"
    busy.abort()


_ANSWERS = 6_000
"""More than the kernel holds for a client that does not read, on the path that sends least."""


@BOTH_PATHS
async def test_who_does_not_listen_is_not_listened_to(front: Gate, mine: Pass) -> None:
    """F29: answers do not pile up for a client that only asks; once it reads, it has them all."""
    client = await front.entered(mine)
    (connection,) = front.door._connections  # noqa: SLF001
    theirs, ours = client._transport, connection._transport  # noqa: SLF001
    assert theirs is not None
    assert ours is not None
    theirs.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    ours.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ours.set_write_buffer_limits(high=4096)
    client.stop_reading()
    for _ in range(_ANSWERS):
        client.globally(b"keepalive@openssh.com")
    await until(lambda: connection._deaf)  # noqa: SLF001
    assert not ours.is_reading()
    theirs.resume_reading()
    for _ in range(_ANSWERS):
        assert (await client.next())[0] == 82
    client.abort()


@BOTH_PATHS
async def test_a_client_that_is_gone_without_a_word_is_noticed(
    front: Gate, mine: Pass, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-26: keepalives, three unanswered, and it is over: the command too."""
    assert (limits.KEEPALIVE_S, limits.KEEPALIVES) == (15.0, 3)
    await front.trust()
    await front.door.stop()
    monkeypatch.setattr(limits, "KEEPALIVE_S", 0.2)
    front.port = await front.door.start("127.0.0.1", 0)
    client, alive = await front.entered(mine), await front.connect(mine)
    await client.session()
    client.request(b"exec", String("sleep 60"))
    assert await front.house_runs(1)
    assert await client.hung_up(20)
    assert await front.house_runs(0)
    assert (await alive.run("id")).exit_status == 0
    alive.abort()


@pytest.mark.parametrize(
    "offer",
    [
        {"compression_algs": ["zlib@openssh.com", "zlib"]}, {"encryption_algs": ["aes128-cbc", "aes256-ctr"]},
        {"encryption_algs": ["chacha20-poly1305@openssh.com"]}, {"kex_algs": ["diffie-hellman-group14-sha1"]},
        {"server_host_key_algs": ["ssh-rsa"]},
    ],
)  # fmt: skip
async def test_other_algorithms_are_not_spoken(front: Gate, mine: Pass, offer: dict[str, object]) -> None:
    """M5, M6: no compression, no weak or other cipher; the key exchange fails."""
    with pytest.raises((asyncssh.KeyExchangeFailed, asyncssh.ConnectionLost)):
        await asyncssh.connect(
            "127.0.0.1", front.port, username=mine.user, client_keys=None, known_hosts=None, config=None, **offer
        )
    await until(lambda: not front.door._connections)  # noqa: SLF001


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-1.5-old\r\n", b"SSH-2.0-\xff\xfe\r\n", b"\x00" * 9000,
        b"SSH-2.0-x\r\n" + b"\xff" * 64, b"SSH-2.0-x\r\n\x00\x00\x00\x0c\x0a\x32" + b"\x00" * 40,
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nSSH-2.0-x\r\n",
    ],
)  # fmt: skip
async def test_noise_is_hung_up_on(front: Gate, noise: bytes) -> None:
    """F10, F29: other protocols, broken packets, a PROXY header: closed, counted out, and nothing is left behind."""
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    writer.write(noise)
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(20):
            assert (await reader.read(64)).startswith(b"SSH-2.0-grantd\r\n")
            await reader.read(-1)
    writer.close()
    await until(lambda: not front.door._sources and not front.door._connections)  # noqa: SLF001


async def test_a_handler_that_fails_closes_the_connection(
    front: Gate, mine: Pass, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of ours admits nobody and hangs nobody."""

    async def broken(shown: object) -> object:
        raise RuntimeError("a bug")

    monkeypatch.setattr(front.door, "admit", broken)
    client = await front.raw()
    client.sign(mine)
    assert await client.hung_up()
    await until(lambda: not front.door._connections)  # noqa: SLF001
