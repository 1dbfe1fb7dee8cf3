"""The rest of a target's check, once its login works: what it lets others do, and what it lets our certificates do.

Looks from outside, and where a fixed command has to look from inside, believes only fixed words and a number of it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import asyncssh
from asyncssh.constants import OPEN_ADMINISTRATIVELY_PROHIBITED

from broker.adapters.target_ssh.connection import Connection
from broker.adapters.target_ssh.greeting import look_at
from broker.adapters.target_ssh.openings import openings
from broker.adapters.target_ssh.probe import RUNS_IT, Probe
from broker.adapters.target_ssh.process import RemoteProcess
from broker.core.cert import SKEW, Ca
from broker.core.errors import Fault, TargetFault
from broker.core.generation import Stage
from broker.core.kinds import SshSettings
from broker.core.krl import NoList, read_header
from broker.core.looks import NO_LIST, Look
from broker.core.revoking import CANARY, FILE, FRESH, comment_of
from broker.core.sshwire import parse_line
from broker.service.ports import Finding

_WITHIN: Final = 10.0
_FEWEST: Final = 2
"""Sessions on one connection: a command, and the reaper that ends it."""
_ENOUGH: Final = 10
_FAR: Final = 5.0
"""Seconds between two clocks from which on an administrator is told."""
_OTHERS: Final = ("root", "daemon", "nobody")
_NOWHERE: Final = ("127.0.0.1", 1)
_CANNOT: Final = "run the check again"


async def examine(probe: Probe) -> list[Finding]:
    """The probe's findings, and where its login works, these. Later ones need none of the earlier."""
    found = await probe.run()
    if len(found) > _FEWEST and found[1].ok:
        ward = Ward(probe=probe)
        found += [await ward.other_login(), await ward.forwarding(), *await openings(probe)]
        found += [await ward.sessions(), await ward.methods(), *await ward.greeting()]
        if RUNS_IT in found:
            found += await ward.state()
        found += [*await ward.next_key(), *await ward.revocation_list()]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Ward:
    """One target and login whose certificate is accepted."""

    probe: Probe

    async def other_login(self) -> Finding:
        """This login's certificate at another login of the machine: each has a principals file of its own."""
        other = next(name for name in _OTHERS if name != self.probe.login)
        good = "this login's certificate is refused for another login"
        try:
            connection = await self.probe.log_in(self.probe.egress(self.probe.login, Look.NOTHING), login=other)
        except TargetFault as error:
            ok = error.code == "login_refused"
            return Finding(ok=ok, what=good if ok else "it could not be tried: " + good, advice="" if ok else _CANNOT)
        connection.abort()
        advice = "give AuthorizedPrincipalsFile a %u, so that each login has its own file"
        return Finding(ok=False, what="this login's certificate opens another login", advice=advice)

    async def forwarding(self) -> Finding:
        """A connection onwards from the target: the certificate does not permit one."""
        good = "it opens no connection onwards for the certificate"
        try:
            connection = await self._in()
        except Fault:
            return Finding(ok=False, what="it could not be tried: " + good, advice=_CANNOT)
        try:
            async with asyncio.timeout(_WITHIN):
                await connection.open_connection(*_NOWHERE)
        except asyncssh.ChannelOpenError as error:
            if error.code == OPEN_ADMINISTRATIVELY_PROHIBITED:
                return Finding(ok=True, what=good, advice="")
        except (asyncssh.Error, OSError, TimeoutError):
            return Finding(ok=False, what="it could not be tried: " + good, advice=_CANNOT)
        finally:
            connection.abort()
        advice = "set DisableForwarding yes for this login, and use a server that honours certificates as OpenSSH does"
        return Finding(
            ok=False, what="it opens connections onwards that the certificate does not permit", advice=advice
        )

    async def sessions(self) -> Finding:
        """How many sessions one connection takes, tried."""
        try:
            connection = await self._in()
        except Fault:
            return Finding(ok=False, what="its number of sessions could not be tried", advice=_CANNOT)
        try:
            number = await _opened(connection)
        finally:
            connection.abort()
        if number < _FEWEST:
            advice = "set MaxSessions 10 or more in sshd_config: a command needs one, and what ends it another"
            return Finding(ok=False, what="it takes fewer than two sessions on a connection", advice=advice)
        advice = "" if number >= _ENOUGH else "MaxSessions 10 or more lets more reads of a grant run at once"
        return Finding(ok=True, what=f"it takes {number} sessions on a connection", advice=advice)

    async def methods(self) -> Finding:
        """Other ways in to this login than a key: shown by the server before anybody logs in."""
        target = self.probe.target
        try:
            async with asyncio.timeout(_WITHIN):
                told = await asyncssh.get_server_auth_methods(target.host, target.port, self.probe.login, config=None)
        except (asyncssh.Error, OSError, TimeoutError):
            return Finding(ok=False, what="its ways to log in could not be asked for", advice=_CANNOT)
        if set(told) <= {"publickey"}:
            return Finding(ok=True, what="it takes keys for this login, and no password", advice="")
        advice = "set PasswordAuthentication no and KbdInteractiveAuthentication no for this login"
        return Finding(ok=True, what="it takes more than keys for this login", advice=advice)

    async def greeting(self) -> Sequence[Finding]:
        """What the server says of itself before anybody logs in."""
        target, host_ca = self.probe.target, await self.probe.signer.ssh_ca(Ca.HOST)
        return await look_at(target.host, target.port, parse_line(target.host_key).blob, host_ca, self.probe.now())

    async def state(self) -> list[Finding]:
        """The target's clock, and keys that open this login beside grantd."""
        said, ended = await self.probe.asked(Look.STATE, "look")
        words = said.decode("ascii", "replace").split()
        if ended != 0 or not words or not words[0].isdecimal():
            return [Finding(ok=False, what="its clock cannot be read", advice="install date(1) in /usr/bin or /bin")]
        found = [_clock(int(words[0]), self.probe.now())]
        if "keys" in words[1:]:
            advice = "set AuthorizedKeysFile none for this login: with those keys it is entered unseen"
            found.append(
                Finding(ok=True, what="this login has keys of its own in ~/.ssh/authorized_keys", advice=advice)
            )
        return found

    async def next_key(self) -> Sequence[Finding]:
        """While the egress CA's key changes: whether the target knows the one to come."""
        told = await self.probe.signer.generations(Ca.EGRESS)
        numbers = [each.number for each in told if each.stage is Stage.NEXT]
        if not numbers:
            return []
        good, bad = "it lets in the egress CA's next key", "it does not let in the egress CA's next key"
        if await self.probe.of_generation(numbers[0]).is_let_in():
            return [Finding(ok=True, what=good, advice="")]
        return [
            Finding(ok=False, what=bad, advice="put both lines of `grantctl ca list` into its TrustedUserCAKeys file")
        ]

    async def revocation_list(self) -> Sequence[Finding]:
        """Where a list is kept: whether it is there, ours and fresh, and whether sshd reads it.

        RevokedKeys is advised in one case alone: without the file sshd refuses everybody's keys.
        """
        settings, now = self.probe.target.settings, self.probe.now()
        if not isinstance(settings, SshSettings) or not settings.krl_login:
            return []
        said, ended = await replace(self.probe, login=settings.krl_login).asked(Look.LIST, "look")
        wrong = _wrong_with_list(said, ended, comment_of(self.probe.target.id), now)
        if wrong:
            advice = "set no RevokedKeys until this is gone: without a good list sshd refuses all keys of these logins"
            return [Finding(ok=False, what=wrong, advice=advice)]
        return [await self._list_is_read()]

    async def _list_is_read(self) -> Finding:
        """A certificate with the serial that every list of ours revokes."""
        try:
            connection = await self.probe.log_in(self.probe.egress(self.probe.login, Look.NOTHING, CANARY))
        except TargetFault as error:
            if error.code == "login_refused":
                return Finding(ok=True, what="it keeps a fresh revocation list, and its sshd obeys it", advice="")
            return Finding(ok=False, what="its revocation list could not be tried", advice=_CANNOT)
        connection.abort()
        advice = f"set RevokedKeys to the file {FILE} in the home of the login that keeps it, for this login"
        return Finding(ok=True, what="it keeps a fresh revocation list that its sshd does not read", advice=advice)

    async def _in(self) -> Connection:
        return await self.probe.log_in(self.probe.egress(self.probe.login, Look.NOTHING))


async def _opened(connection: Connection) -> int:
    with contextlib.suppress(asyncssh.Error, OSError, TimeoutError):
        async with asyncio.timeout(_WITHIN):
            for number in range(_ENOUGH):
                try:
                    await RemoteProcess(connection).channel.open()
                except asyncssh.ChannelOpenError:
                    return number
    return _ENOUGH


def _wrong_with_list(said: bytes, ended: int | None, comment: str, now: datetime) -> str:
    """Nothing, where the list is there, ours and fresh."""
    if ended == NO_LIST:
        return "it keeps no revocation list yet"
    if ended != 0:
        return "its revocation list cannot be read by the login that keeps it"
    try:
        header = read_header(base64.b64decode(said, validate=True))
    except (NoList, ValueError):
        return "its revocation list is damaged"
    if header.comment != comment:
        return "its revocation list is another target's, or not grantd's"
    return "its revocation list is not kept up" if abs(now - header.generated) > FRESH else ""


def _clock(shown: int, now: datetime) -> Finding:
    apart = abs(shown - now.timestamp())
    if apart > SKEW.total_seconds() - _FAR:
        advice = "let it keep time (chrony, systemd-timesyncd): certificates are about to be refused"
        return Finding(ok=False, what="its clock is half a minute from the broker's", advice=advice)
    advice = "" if apart <= _FAR else "let it keep time (chrony, systemd-timesyncd)"
    return Finding(
        ok=True, what="its clock agrees with the broker's" if not advice else "its clock is off", advice=advice
    )
