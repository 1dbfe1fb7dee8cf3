"""Everything but one exec is refused: by its name in the log, in fixed words to the client, and not for ever (I-20)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from asyncssh.constants import (
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_CHANNEL_OPEN_FAILURE,
    MSG_CHANNEL_SUCCESS,
    MSG_REQUEST_FAILURE,
)
from asyncssh.packet import String, UInt32

from broker.proxy import limits
from tests.broker.proxy.world import NO, YES, Gate, Raw

PTY = (String("xterm"), UInt32(80), UInt32(24), UInt32(0), UInt32(0), String(""))
ADDRESS = String("127.0.0.1") + UInt32(22) + String("127.0.0.1") + UInt32(1)
CHANNELS = {
    b"direct-tcpip": ("direct_tcpip", ADDRESS),
    b"direct-streamlocal@openssh.com": ("direct_streamlocal", String("/run/x") + String("") + UInt32(0)),
    b"forwarded-tcpip": ("forwarded_tcpip", ADDRESS),
    b"forwarded-streamlocal@openssh.com": ("forwarded_streamlocal", String("/run/x") + String("")),
    b"tun@openssh.com": ("tun", UInt32(1) + UInt32(0x7FFFFFFF)),
    b"x11": ("x11", String("127.0.0.1") + UInt32(1)),
    b"auth-agent@openssh.com": ("agent", b""),
    b"\x1b[2J": ("unknown_channel", b""),
    b"\xff\xfe": ("unknown_channel", b"junk"),
    b"Session": ("unknown_channel", b""),
}
REQUESTS = {
    b"x11-req": ("x11", (NO, String("MIT-MAGIC-COOKIE-1"), String("00"), UInt32(0))),
    b"auth-agent-req@openssh.com": ("agent", ()),
    b"shell": ("shell", ()),
    b"subsystem": ("subsystem", (String("sftp"),)),
    b"signal": ("signal", (String("QUIT"),)),
    b"break": ("break", (UInt32(1000),)),
    b"pty_req": ("unknown_request", PTY),
    b"exec ": ("unknown_request", (String("id"),)),
    b"exit-status": ("unknown_request", (UInt32(0),)),
    b"xon-xoff": ("unknown_request", (YES,)),
}
GLOBALS = {
    b"tcpip-forward": ("tcpip_forward", (String("127.0.0.1"), UInt32(0))),
    b"cancel-tcpip-forward": ("tcpip_forward", (String("127.0.0.1"), UInt32(22))),
    b"streamlocal-forward@openssh.com": ("streamlocal_forward", (String("/run/x"),)),
    b"cancel-streamlocal-forward@openssh.com": ("streamlocal_forward", (String("/run/x"),)),
    b"hostkeys-prove-00@openssh.com": ("unknown_request", (String("x"),)),
    b"anything": ("unknown_request", ()),
}
RUNS_LONG = String("sleep 30")


@pytest.fixture
async def client(front: Gate) -> Raw:
    """Logged in, nothing opened."""
    await front.trust()
    return await front.entered(await front.admit())


async def test_no_channel_but_a_session_opens(front: Gate, client: Raw) -> None:
    """I-20, F02: each kind is refused in the same words, and stands in the log once by its name."""
    answers = set()
    for kind, (_, rest) in CHANNELS.items():
        for _ in range(2):
            client.open(7, kind, rest=rest)
            answers.add(await client.next())
    assert answers == {
        (MSG_CHANNEL_OPEN_FAILURE, UInt32(7) + UInt32(1) + String("not permitted by this grant") + String("en"))
    }
    assert await front.features() == list(dict.fromkeys(name for name, _ in CHANNELS.values()))


@pytest.mark.parametrize("running", [False, True])
async def test_no_request_but_an_exec_is_granted(front: Gate, client: Raw, *, running: bool) -> None:
    """I-20, I-22, M7: before the command and while it runs (agent forwarding after exec was granted elsewhere)."""
    assert await client.session() == 0
    if running:
        client.request(b"exec", RUNS_LONG)
        assert (await client.next())[0] == MSG_CHANNEL_SUCCESS
    for name, (_, fields) in REQUESTS.items():
        client.request(name, *fields)
        assert await client.next(MSG_CHANNEL_FAILURE, MSG_CHANNEL_SUCCESS) == (MSG_CHANNEL_FAILURE, b""), name
    assert await front.house_runs(int(running))
    client.abort()
    assert await front.features() == list(dict.fromkeys(name for name, _ in REQUESTS.values()))
    assert [b"sleep 30"] * running == [plan.command for plan in front.house.targets.plans]


async def test_nothing_is_granted_to_a_whole_connection(front: Gate, client: Raw) -> None:
    """I-20: forwardings and whatever else: no, by name; a keepalive is answered."""
    for name, (_, fields) in GLOBALS.items():
        client.globally(name, *fields)
        assert await client.next() == (MSG_REQUEST_FAILURE, b""), name
    client.globally(b"keepalive@openssh.com")
    assert await client.next() == (MSG_REQUEST_FAILURE, b"")
    assert await front.features() == ["tcpip_forward", "streamlocal_forward", "unknown_request"]


async def test_a_refused_request_leaves_the_command_possible(front: Gate, client: Raw) -> None:
    """`ssh -X host id` says it has no display, and runs."""
    assert await client.session() == 0
    client.request(b"x11-req", NO, String("MIT-MAGIC-COOKIE-1"), String("00"), UInt32(0))
    assert (await client.next())[0] == MSG_CHANNEL_FAILURE
    client.request(b"exec", String("echo yes"))
    assert (await client.next(94)) == (94, String("yes\n"))


async def test_there_is_one_command_a_channel(front: Gate, client: Raw) -> None:
    """I-22: a second exec, a shell, or env after the start are refused; the first goes on."""
    assert await client.session() == 0
    client.request(b"exec", RUNS_LONG)
    assert (await client.next())[0] == MSG_CHANNEL_SUCCESS
    for name, field in ((b"exec", "id"), (b"shell", ""), (b"env", "LANG")):
        client.request(name, *([String(field)] if field else []), *([String("C")] if name == b"env" else []))
        assert (await client.next())[0] == MSG_CHANNEL_FAILURE
    assert await front.house_runs(1)
    client.abort()
    assert await front.features() == ["second_exec", "shell", "env"]


async def test_there_is_one_session_at_a_time(front: Gate, client: Raw) -> None:
    """I-22: also when both are asked for in one breath; after the first is closed another may come."""
    client.open(0)
    client.open(1)
    kinds = [(await client.next())[0] for _ in range(2)]
    assert sorted(kinds) == [MSG_CHANNEL_OPEN_CONFIRMATION, MSG_CHANNEL_OPEN_FAILURE]
    client.send_packet(97, UInt32(0))
    assert (await client.next())[0] == 97
    await client.session()
    assert await front.features() == ["second_session"]


async def test_the_next_session_may_stand_right_behind_the_last(front: Gate, client: Raw) -> None:
    """Who runs one command after the other is refused none: the close and the next open come in one read."""
    for number in range(3):
        client.open(number)
        kind, body = await client.next(MSG_CHANNEL_OPEN_CONFIRMATION, MSG_CHANNEL_OPEN_FAILURE)
        assert kind == MSG_CHANNEL_OPEN_CONFIRMATION
        theirs = int.from_bytes(body[4:8], "big")
        client.request(b"exec", String("true"), channel=theirs)
        await client.next(97)
        client.send_packet(97, UInt32(theirs))
    # one that is still open keeps its place, whoever else leaves
    await client.session()
    client.open(9)
    assert (await client.next(MSG_CHANNEL_OPEN_CONFIRMATION, MSG_CHANNEL_OPEN_FAILURE))[0] == MSG_CHANNEL_OPEN_FAILURE
    assert await front.features() == ["second_session"]


async def test_no_more_sessions_is_kept_to(front: Gate, client: Raw) -> None:
    """A stock client asks for it; it is its own wish."""
    assert await client.session() == 0
    client.globally(b"no-more-sessions@openssh.com", reply=False)
    client.send_packet(97, UInt32(0))
    await client.next(97)
    client.open(0)
    assert (await client.next())[0] == MSG_CHANNEL_OPEN_FAILURE


PASSES = [("LANG", "de_DE.UTF-8"), ("TERM", "xterm-256color"), ("LC_ALL", "C"), ("LC_ALL", ""), ("LC_TIME", "A" * 64)]
FAILS = [
    ("LC_TIME", "A" * 65), ("LD_PRELOAD", "/srv/x.so"), ("GLIBC_TUNABLES", "a"), ("BASH_ENV", "x"), ("PATH", "x"),
    ("lang", "C"), ("LC_", "C"), ("LC_ALL\x00X", "C"), ("LANG", "$(id)"), ("LANG", "a b"), ("LANG", "a\nb"),
    ("TERM", "../x"), ("", ""), ("LC_ÄÖ", "C"), ("LANG", "ü"), ("SSH_AUTH_SOCK", "x"), ("IFS", "x"),
    ("LC_ALL", "zh_CN.GBK"), ("LANG", "zh_TW"), ("LC_CTYPE", "ja_JP.SJIS"),
]  # fmt: skip


async def test_the_environment_is_an_allow_list(front: Gate) -> None:
    """I-21, F16: names and values; what does not pass never reaches the target."""
    await front.trust()
    shown = await front.admit()
    for name, value in PASSES + FAILS:
        client = await front.entered(shown)
        await client.session()
        client.request(b"env", String(name), String(value))
        passes = (name, value) in PASSES
        assert (await client.next())[0] == (MSG_CHANNEL_SUCCESS if passes else MSG_CHANNEL_FAILURE), name
        client.request(b"exec", String("id"))
        await client.next(97)
        assert dict(front.house.targets.plans[-1].env) == ({name: value} if passes else {})
        client.abort()
    assert await front.features() == ["env"] * len(FAILS)


async def test_the_environment_is_small(front: Gate, client: Raw) -> None:
    """I-21: sixteen variables; M6: three thousand requests end the connection."""
    assert await client.session() == 0
    words = [f"LC_{chr(65 + i % 26)}{chr(65 + i // 26)}" for i in range(20)]
    answers = []
    for word in words:
        client.request(b"env", String(word), String("C"))
        answers.append((await client.next())[0])
    assert answers == [MSG_CHANNEL_SUCCESS] * 16 + [MSG_CHANNEL_FAILURE] * 4
    for _ in range(3_000):
        client.request(b"env", String("LANG"), String("A" * 30_000)) if not client.gone.is_set() else None
        await asyncio.sleep(0)
    assert await client.hung_up()
    assert await front.features() == ["env"]
    assert front.refusals() == ["refused_features"]


@pytest.mark.parametrize("ask", ["channels", "requests", "globals", "sessions"])
async def test_who_keeps_asking_is_cut(front: Gate, client: Raw, ask: str) -> None:
    """I-26, M7: after fifty refusals of whatever kind; the log has one line."""
    assert await client.session() == 0
    asked: dict[str, Callable[[], None]] = {
        "channels": lambda: client.open(9, b"direct-tcpip", rest=ADDRESS),
        "requests": lambda: client.request(b"shell"),
        "globals": lambda: client.globally(b"tcpip-forward", String("x"), UInt32(1)),
        "sessions": lambda: client.open(9),
    }
    for _ in range(3_000):
        asked[ask]()
    assert await client.hung_up()
    answered = client.heard.qsize()
    assert answered <= limits.REFUSALS + 1
    assert len(await front.features()) == 1
    assert front.refusals() == ["refused_features"]


async def test_a_thousand_sessions_are_enough(front: Gate, client: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-22: one after the other, over the life of a connection."""
    monkeypatch.setattr(limits, "SESSIONS", 3)
    for _ in range(3):
        number = await client.session()
        client.send_packet(97, UInt32(number))
        await client.next(97)
    client.open(0)
    assert (await client.next())[0] == MSG_CHANNEL_OPEN_FAILURE


async def test_tiny_packets_are_refused(front: Gate, client: Raw) -> None:
    """F11: a client that takes a byte a packet would cost 65,536 packets for each 64 KiB of output."""
    client.open(0, size=1)
    assert (await client.next())[0] == MSG_CHANNEL_OPEN_FAILURE
    assert await front.features() == ["small_packets"]
