"""Targets: adding, changing, checking.

The host key is pinned by an administrator's act, never on first use (I-25, F09).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from broker.core import ids
from broker.core.cert import Ca, is_address_list
from broker.core.errors import invalid, not_found
from broker.core.events import AuditEvent
from broker.core.generation import Stage
from broker.core.identity import Caller, Login, Target
from broker.core.ids import TargetId, TeamId, is_login, is_name
from broker.core.roles import Permission
from broker.core.sshwire import parse_blob, parse_line
from broker.service import lookup, story
from broker.service.ports import Finding, Tx
from broker.service.stepup import Change, signed_by
from broker.service.world import World
from policy.classes import Tier, is_looser

MAX_LABELS = 32
MAX_LOGINS = 16
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_LABEL = re.compile(r"[A-Za-z0-9._/-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetInput:
    """A target as it came in; teams by name."""

    name: str
    host: str
    port: int
    host_key: str
    tier: Tier
    teams: frozenset[str]
    labels: dict[str, str]
    logins: tuple[Login, ...]
    seal_reads: bool
    source_address: str


class InventoryService:
    """PutTarget, ListTargets, ScanHostKey, CheckTarget."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def put(
        self, caller: Caller, given: TargetInput, change: Change, *, idempotency_key: str
    ) -> tuple[Target, str]:
        """Adds or changes a target; a second person signs where it raises autonomy (I-17).

        Returns:
            The target, and what its administrator adds to its sshd.
        """
        _check(given)
        now = self._world.instant().wall
        key = parse_line(given.host_key)

        def unit(tx: Tx) -> Target:
            content = hashlib.sha256(change.payload).digest()
            earlier = lookup.once(
                tx, caller, method="PutTarget", key=idempotency_key, content=content,
                find=lambda made: tx.targets.get(TargetId(made)),
            )  # fmt: skip
            if isinstance(earlier, Target):
                return earlier
            before = tx.targets.by_name(given.name)
            signed_by(
                tx, caller, change, permission=Permission.TARGET_WRITE, second=_raises_power(before, given), now=now
            )
            target = Target(
                tenant=caller.tenant,
                id=before.id if before else TargetId(ids.render("target", self._world.entropy.token(16))),
                name=given.name,
                host=given.host,
                port=given.port,
                host_key=key.line(),
                tier=given.tier,
                teams=_team_ids(tx, given.teams),
                labels=given.labels,
                logins=given.logins,
                seal_reads=given.seal_reads,
                source_address=given.source_address,
                created_at=before.created_at if before else now,
            )
            tx.targets.put(target)
            tx.audit.append(_told("target.changed" if before else "target.added", target, caller), now)
            sha = hashlib.sha256(content).digest()
            tx.idempotency.put(
                caller.identity, "PutTarget", idempotency_key, request_sha256=sha, made=target.id, now=now
            )
            return target

        target = await self._world.store.run(caller.tenant, unit)
        return target, await self.sshd_lines(target)

    async def all(self, caller: Caller) -> Sequence[tuple[Target, tuple[str, ...]]]:
        """Targets by name, with their team names."""

        def unit(tx: Tx) -> Sequence[tuple[Target, tuple[str, ...]]]:
            names = {team.id: team.name for team in tx.teams.all()}
            rows = sorted(tx.targets.all(), key=lambda row: row.name)
            return [(row, tuple(sorted(names[t] for t in row.teams if t in names))) for row in rows]

        return await self._world.store.read(caller.tenant, unit)

    async def scan(self, host: str, port: int) -> str:
        """The host key that an address shows right now, as an OpenSSH line: to be compared, never trusted by itself."""
        _check_address(host, port)
        return await self._world.targets.fetch_host_key(host, port)

    async def check(self, caller: Caller, name: str, login: str) -> Sequence[Finding]:
        """Checks a target from outside. Opens connections, so it is audited like one."""
        now = self._world.instant().wall
        target = await self._world.store.read(caller.tenant, lambda tx: tx.targets.by_name(name))
        if target is None:
            raise not_found("target")
        wanted = login or target.logins[0].name
        if wanted not in {entry.name for entry in target.logins}:
            raise not_found("login")
        serial = int.from_bytes(self._world.entropy.token(8), "big") or 1

        async def announce(number: int) -> None:
            event = AuditEvent(
                tenant=caller.tenant,
                name="credential.issued",
                actor=caller.identity,
                facts={"target": target.id, "kind": "egress", "serial": str(number), "purpose": "check"},
            )
            await self._world.store.run(caller.tenant, lambda tx: tx.audit.append(event, now))

        return await self._world.targets.probe(target, wanted, announce, serial)

    async def sshd_lines(self, target: Target) -> str:
        """The lines that a target's sshd needs, ready to paste: who is trusted, and which principal is which login."""
        told = await self._world.signer.generations(Ca.EGRESS)
        # a key that signs nothing any more is left out: whoever pastes these lines is done with it
        lines = [parse_blob(each.public).line() for each in told if each.stage is not Stage.OLD]
        return self._world.targets.sshd_lines(target, lines)


def _raises_power(before: Target | None, given: TargetInput) -> bool:
    """Whether more can be done with it than before: a looser tier, other logins, certificates that work from elsewhere.

    A new target counts as coming from the strictest tier.
    """
    if before is None:
        return is_looser(given.tier, Tier.APPROVAL)
    return (
        is_looser(given.tier, before.tier)
        or set(given.logins) != set(before.logins)
        or given.source_address != before.source_address
        or (before.seal_reads and not given.seal_reads)
    )


def _team_ids(tx: Tx, names: frozenset[str]) -> frozenset[TeamId]:
    by_name = {team.name: team.id for team in tx.teams.all()}
    if names - set(by_name):
        raise not_found("team")
    return frozenset(by_name[name] for name in names)


def _check(given: TargetInput) -> None:
    if not is_name(given.name):
        raise invalid("bad_name", "a target's name is lower case letters, digits, '.', '_', '-'")
    _check_address(given.host, given.port)
    parse_line(given.host_key)
    if not 1 <= len(given.logins) <= MAX_LOGINS or len({login.name for login in given.logins}) != len(given.logins):
        raise invalid("bad_login", "a target has 1 to 16 different logins", "name the logins that grants may use")
    for name in (n for login in given.logins for n in (login.name, login.read_login) if n):
        if not is_login(name):
            raise invalid("bad_login", "a login is lower case letters, digits, '_' and '-', starting with a letter")
    if len(given.labels) > MAX_LABELS or not all(
        _LABEL.fullmatch(k) and _LABEL.fullmatch(v) for k, v in given.labels.items()
    ):
        raise invalid("bad_label", "at most 32 labels of letters, digits, '.', '_', '/' and '-'")
    if given.source_address and not is_address_list(given.source_address):
        raise invalid("bad_source_address", "the source address is an address or a CIDR list")


def _check_address(host: str, port: int) -> None:
    if not _HOST.fullmatch(host) or host.startswith("-"):
        raise invalid("bad_host", "not a host name or address")
    if not 1 <= port <= 65535:  # noqa: PLR2004  the range of ports
        raise invalid("bad_port", "a port is 1 to 65535")


def _told(name: str, target: Target, caller: Caller) -> AuditEvent:
    return AuditEvent(
        tenant=target.tenant,
        name=name,
        actor=caller.identity,
        facts={"target": target.id, "tier": target.tier, "host_key": parse_line(target.host_key).sha256().hex()},
        personal=story.personal(target.id, name=target.name, address=f"{target.host}:{target.port}"),
    )
