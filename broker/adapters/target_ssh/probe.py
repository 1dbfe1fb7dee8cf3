"""Checks a target from outside, as a careless administrator would leave it. Never changes anything there.

Every check logs in with a certificate made for it; each serial is announced before it is signed, like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from broker.adapters.target_ssh.connection import Connection, dial
from broker.adapters.target_ssh.credential import connect
from broker.adapters.target_ssh.pool import opened
from broker.adapters.target_ssh.start_up import findings
from broker.core.action import Outcome
from broker.core.cert import Ca, CertSpec, egress_spec, ingress_spec, principal_of
from broker.core.errors import Fault, TargetFault
from broker.core.generation import signing
from broker.core.identity import Target
from broker.core.ids import GrantId, render
from broker.core.looks import HOSTILE, Look
from broker.service.ports import Chunk, Entropy, Finding, Proof, Signer, Stream

_LIFE: Final = timedelta(seconds=60)
_SECONDS: Final = 10.0
_MAX_ANSWER: Final = 4096
_NOBODY: Final = "grantd-nobody"
_OTHER: Final = "printf other"
_QUIET_LEVEL: Final = 2
"""bash under sshd reads ~/.bashrc while its SHLVL is below this."""
_ACCEPTED: Final = {
    "unreachable": ("the target cannot be reached", "run the check again"),
    "host_key_changed": (
        "it shows another host key than the pinned one",
        "compare the key on the host's console; pin the new one only if somebody changed it on purpose",
    ),
    "login_refused": (
        "it refuses the certificate for this login",
        "check TrustedUserCAKeys, the login's principals file, the host's clock, and the target's source address",
    ),
    "too_slow": ("it does not finish the login in time", "check its load, UseDNS and MaxStartups"),
    "connection_lost": ("it ends the connection during the login", "look into sshd's log for the reason"),
}
RUNS_IT: Final = Finding(ok=True, what="it runs the certificate's command byte for byte, in bash", advice="")
NO_PROOF: Final = Proof(record=b"", signatures=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One target and login, looked at once."""

    signer: Signer
    entropy: Entropy
    now: Callable[[], datetime]
    target: Target
    login: str
    announce: Callable[[int], Awaitable[None]]
    serial: int
    """Of the first certificate; the others draw theirs."""
    generation: int
    """Of the egress CA; 0 for what signs now."""

    async def run(self) -> list[Finding]:
        """All findings, in the order in which an administrator can act on them; later checks need the earlier ones."""
        found = [await self._reachable()]
        if found[-1].ok:
            found.append(await self._accepted())
        if found[-1].ok:
            found += [await self._refused_principal(), await self._refused_ingress()]
            found += [await self._forced(), await self._start_up()]
            if found[-2].ok:
                found += [*await self._home(), *await self._files()]
        return found

    def of_generation(self, number: int) -> Probe:
        """The same look with certificates of that generation of the egress CA."""
        return replace(self, generation=number, serial=self._serial())

    async def is_let_in(self) -> bool:
        """Whether the target lets in what this generation signed; False also where it cannot be asked."""
        return (await self._accepted()).ok

    async def _reachable(self) -> Finding:
        advice = f"check host and port of the target, and that the gateway may connect to port {self.target.port}"
        try:
            (await dial(self.target.host, self.target.port)).close()
        except TargetFault:
            return Finding(ok=False, what="the target cannot be reached", advice=advice)
        return Finding(ok=True, what="the target can be reached", advice="")

    async def _accepted(self) -> Finding:
        try:
            connection = await self.log_in(self.egress(self.login, Look.NOTHING, self.serial))
        except TargetFault as error:
            return Finding(ok=False, what=_ACCEPTED[error.code][0], advice=_ACCEPTED[error.code][1])
        connection.abort()
        return Finding(
            ok=True, what="it shows its pinned host key and accepts the certificate for this login", advice=""
        )

    async def _refused_principal(self) -> Finding:
        return await self._refused(
            self.egress(_NOBODY, Look.NOTHING),
            "a certificate for another login is refused",
            "a certificate for another login is accepted",
            "set AuthorizedPrincipalsFile, and list in it this login's one principal alone",
        )

    async def _refused_ingress(self) -> Finding:
        return await self._refused(
            self._ingress(),
            "the kind of certificate that an agent holds is refused",
            "the kind of certificate that an agent holds is accepted",
            "TrustedUserCAKeys must hold grantd's egress CA alone, never its ingress CA",
        )

    async def _refused(self, spec: Callable[[str], CertSpec], good: str, bad: str, advice: str) -> Finding:
        try:
            connection = await self.log_in(spec)
        except TargetFault as error:
            if error.code == "login_refused":
                return Finding(ok=True, what=good, advice="")
            return Finding(ok=False, what="it could not be tried: " + good, advice="run the check again")
        except Fault:
            return Finding(ok=False, what="the signer did not sign it: " + good, advice="look into the signer's log")
        connection.abort()
        return Finding(ok=False, what=bad, advice=advice)

    async def _forced(self) -> Finding:
        said, ended = await self.asked(Look.EXACT, _OTHER)
        if ended == 0 and said == HOSTILE.encode():
            return RUNS_IT
        if said == b"other":
            advice = "the server must honour the force-command of certificates, as OpenSSH does"
            return Finding(ok=False, what="it ran another command than the certificate's", advice=advice)
        advice = "grantd needs /usr/bin/env, bash, /proc, and a login shell that reads single quotes as POSIX says"
        return Finding(ok=False, what="it does not run the certificate's command byte for byte", advice=advice)

    async def _start_up(self) -> Finding:
        said, _ = await self.asked(Look.SHELL, "look")
        words = said.decode("ascii", "replace").split()
        level = int(words[-1].removeprefix("level=")) if words and words[-1].removeprefix("level=").isdigit() else 0
        if words[:1] != ["grantd"]:
            advice = "give the login /bin/sh, dash or bash"
            return Finding(ok=False, what="its login shell is no POSIX shell, or talks by itself", advice=advice)
        if "zsh" in words:
            advice = "give the login /bin/sh or bash"
            return Finding(ok=False, what="its login shell reads ~/.zshenv first", advice=advice)
        if "startup" in words or ("bash" in words and level < _QUIET_LEVEL):
            advice = "add `SetEnv SHLVL=3` for this login to sshd_config, and no BASH_ENV: bash then reads no ~/.bashrc"
            return Finding(ok=False, what="its login shell reads a start-up file before each command", advice=advice)
        return Finding(ok=True, what="no start-up file is read before a command", advice="")

    async def _home(self) -> list[Finding]:
        said, _ = await self.asked(Look.SETTINGS, "look")
        return list(findings(said))

    async def _files(self) -> list[Finding]:
        """Notes: a target without either is fine for every other grant."""
        said, ended = await self.asked(Look.FILES, "look")
        words = said.decode("ascii", "replace").split()
        if ended != 0 or "root" in words:
            return []
        if "server" not in words:
            advice = "install OpenSSH's sftp-server before you grant sftp on it"
            return [Finding(ok=True, what="it has no sftp-server: no file transfer", advice=advice)]
        advice = "sftp-root is refused here: it needs user namespaces for this login, and util-linux 2.36 or newer"
        return [Finding(ok=True, what="it cannot confine file transfer to a folder", advice=advice)]

    async def asked(self, look: Look, command: str) -> tuple[bytes, int | None]:
        """The command's stdout, about _MAX_ANSWER bytes at most, and its exit status; (b"", None) where it failed."""
        said = b""
        try:
            connection = await self.log_in(self.egress(self.login, look))
        except Fault:
            return said, None
        try:
            async with asyncio.timeout(_SECONDS):
                process = await opened(connection)
                await process.run(command, nonce="", stdin=False)
                while len(said) <= _MAX_ANSWER:
                    match await process.read():
                        case Outcome(exit_status=status):
                            return said, status
                        case Chunk(stream=Stream.OUT, data=data):
                            said += data
                        case Chunk():
                            pass
        except (TargetFault, TimeoutError):
            return b"", None
        finally:
            connection.abort()
        return b"", None

    async def log_in(self, spec: Callable[[str], CertSpec], *, login: str = "") -> Connection:
        """With a certificate of that specification, as another `login` where one is named.

        Raises TargetFault, SignerFault.
        """
        return await connect(
            sign=self._sign, target=self.target, login=login or self.login, spec=spec, announce=self.announce
        )

    async def _sign(self, spec: CertSpec, public_key: bytes) -> bytes:
        if spec.ca is not Ca.EGRESS:
            return await self.signer.sign_ssh(spec, public_key, NO_PROOF)
        number = self.generation or signing(await self.signer.generations(Ca.EGRESS)).number
        return await self.signer.sign_probe(spec, public_key, number)

    def egress(self, login: str, look: Look, serial: int = 0) -> Callable[[str], CertSpec]:
        """What to sign for a look as the login whose principal it is; with a serial of its own where none is given."""
        now, number = self.now(), serial or self._serial()
        return lambda source: egress_spec(
            # a check belongs to no grant: the target's own id stands in its certificates
            grant=GrantId(self.target.id),
            serial=number,
            principal=principal_of(self.target.tenant, self.target.id, login),
            source_address=source,
            force_command=look.value,
            permit_pty=False,
            now=now,
            not_after=now + _LIFE,
        )

    def _ingress(self) -> Callable[[str], CertSpec]:
        now, grant = self.now(), GrantId(render("grant", self.entropy.token(16)))
        spec = ingress_spec(
            grant=grant,
            serial=self._serial(),
            login=self.login,
            target_name=self.target.name,
            now=now,
            not_after=now + _LIFE,
        )
        return lambda _source: spec

    def _serial(self) -> int:
        return int.from_bytes(self.entropy.token(8), "big") >> 1 | 1
