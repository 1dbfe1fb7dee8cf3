"""What a login lets a certificate do beyond its command: an agent, X11, a tunnel, environment. Tried, never used.

Each is asked for as a client would; a server that follows the certificate refuses all of them. What its settings allow
other keys cannot be tried with a certificate that permits nothing, and is said to be unseen.
"""

from __future__ import annotations

import asyncio
from typing import Final

import asyncssh
from asyncssh.packet import String, UInt32
from asyncssh.tuntap import SSH_TUN_MODE_ETHERNET, SSH_TUN_MODE_POINTTOPOINT

from broker.adapters.target_ssh.connection import Connection
from broker.adapters.target_ssh.probe import Probe
from broker.adapters.target_ssh.process import Channel, RemoteProcess
from broker.core.errors import Fault
from broker.core.looks import Look
from broker.service.ports import Finding

_WITHIN: Final = 10.0
_CANNOT: Final = "run the check again"
_REJECTED, _NOT_MADE = b"rejected tunnel", b"failed to open the tunnel"
"""OpenSSH's words for a tunnel that its settings forbid, and for any that there is none of."""
_COOKIE, _NOT_ONCE = "0" * 32, bytes(1)
_NAMES: Final = (
    "BASH_ENV", "ENV", "PATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "SHELLOPTS", "BASHOPTS", "PS4", "IFS",
    "PYTHONPATH", "PERL5OPT", "PERL5LIB", "RUBYOPT", "NODE_OPTIONS", "GIT_SSH_COMMAND", "GIT_CONFIG_COUNT", "EDITOR",
    "PAGER", "LESSOPEN", "HOME", "XDG_CONFIG_HOME", "TMPDIR", "SHLVL",
)  # fmt: skip
"""Variables that decide what a command runs or reads; LANG and LC_* are let through by many systems, and are none."""
_ANY: Final = "GRANTD_DOCTOR"
UNSEEN: Final = Finding(
    ok=True,
    what="not to be seen from outside: what its settings let other keys of this login do (agent, X11, ~/.ssh/rc)",
    advice="on the target: sshd -T -C user=LOGIN,host=x,addr=192.0.2.1 | grep -iE 'agentforw|x11forw|userrc'",
)


async def openings(probe: Probe) -> list[Finding]:
    """One connection, one session on it, and each thing asked for once."""
    try:
        connection = await probe.log_in(probe.egress(probe.login, Look.NOTHING))
    except Fault:
        return [_untried("what it lets a certificate do beyond its command")]
    try:
        async with asyncio.timeout(_WITHIN):
            channel = RemoteProcess(connection).channel
            await channel.open()
            found = [await _agent(channel), await _x11(channel), await _environment(channel)]
            return [*found, await _tunnel(connection), UNSEEN]
    except (asyncssh.Error, OSError, TimeoutError):
        return [_untried("what it lets a certificate do beyond its command")]
    finally:
        connection.abort()


async def _agent(channel: Channel) -> Finding:
    if await channel.ask(b"auth-agent-req@openssh.com"):
        return Finding(ok=False, what="it forwards an agent that the certificate does not permit", advice=_disable())
    return Finding(ok=True, what="it forwards no agent for the certificate", advice="")


async def _x11(channel: Channel) -> Finding:
    words = (_NOT_ONCE, String("MIT-MAGIC-COOKIE-1"), String(_COOKIE), UInt32(0))
    if await channel.ask(b"x11-req", *words):
        return Finding(ok=False, what="it forwards X11, which the certificate does not permit", advice=_disable())
    return Finding(ok=True, what="it forwards no X11 for the certificate", advice="")


async def _environment(channel: Channel) -> Finding:
    taken = [name for name in (_ANY, *_NAMES) if await channel.ask(b"env", String(name), String("0"))]
    if not taken:
        return Finding(ok=True, what="it takes no environment from who connects that decides what runs", advice="")
    names = "any variable at all" if _ANY in taken else ", ".join(taken)
    advice = "set AcceptEnv for this login to LANG LC_* or to nothing: these decide what an approved command runs"
    return Finding(ok=False, what=f"it takes environment from who connects: {names}", advice=advice)


async def _tunnel(connection: Connection) -> Finding:
    advice = "set PermitTunnel no: no certificate forbids one, nor does DisableForwarding"
    allowed = False
    for mode in (SSH_TUN_MODE_POINTTOPOINT, SSH_TUN_MODE_ETHERNET):
        connection.debugs.clear()
        try:
            channel = connection.create_tuntap_channel()
            await channel.open(asyncssh.SSHTunTapSession, mode, None)
        except asyncssh.ChannelOpenError:
            said = b"\n".join(connection.debugs)
            allowed |= _NOT_MADE in said and _REJECTED not in said
            continue
        return Finding(ok=False, what="it opens a tunnel into its network", advice=advice)
    if allowed:
        return Finding(ok=False, what="its settings allow tunnels, though this login could make none", advice=advice)
    return Finding(ok=True, what="it opens no tunnel", advice="")


def _disable() -> str:
    return "set DisableForwarding yes for this login, and use a server that honours certificates as OpenSSH does"


def _untried(what: str) -> Finding:
    return Finding(ok=False, what=f"it could not be tried: {what}", advice=_CANNOT)
