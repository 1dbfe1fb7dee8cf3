"""Targets: adding, changing, checking.

The host key is pinned by an administrator's act, never on first use (I-25, F09).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from broker.core import ids
from broker.core.cert import Ca
from broker.core.database import checked_password, password_name
from broker.core.errors import conflict, invalid, not_found
from broker.core.events import AuditEvent
from broker.core.generation import Stage
from broker.core.identity import Caller, Target
from broker.core.ids import TargetId, TeamId
from broker.core.kinds import TargetKind, kind_of, place_of
from broker.core.roles import Permission
from broker.core.secret import Secret
from broker.core.sshwire import parse_blob
from broker.service import lookup, story
from broker.service.ports import Finding, Tx
from broker.service.stepup import Change, signed_by
from broker.service.taking import outside
from broker.service.target_input import TargetInput, check_address, checked
from broker.service.trust import believe, machine_of, tried
from broker.service.world import World
from policy.classes import Tier, is_looser


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
        given = checked(given)
        now = self._world.instant().wall

        def unit(tx: Tx) -> Target:
            content = hashlib.sha256(change.payload).digest()
            earlier = lookup.once(
                tx, caller, method="PutTarget", key=idempotency_key, content=content,
                find=lambda made: tx.targets.get(TargetId(made)),
            )  # fmt: skip
            if isinstance(earlier, Target):
                return earlier
            before = tx.targets.by_name(given.name)
            _must_stay_reachable(tx, before, given)
            signed_by(
                tx, caller, change, permission=Permission.TARGET_WRITE, second=_raises_power(before, given), now=now
            )
            target = self._given(tx, caller, given, before, now=now)
            tx.targets.put(target)
            tx.audit.append(_told("target.changed" if before else "target.added", target, caller), now)
            sha = hashlib.sha256(content).digest()
            tx.idempotency.put(
                caller.identity, "PutTarget", idempotency_key, request_sha256=sha, made=target.id, now=now
            )
            return target

        if change.trust and kind_of(given.settings) is TargetKind.SSH:  # the signer is not asked for the others
            target = await tried(self._world, caller.tenant, unit)
            await believe(self._world, change, tenant=caller.tenant, subject=target.id, content=machine_of(target))
        target = await self._world.store.run(caller.tenant, unit)
        return target, await self.sshd_lines(target) if target.kind is TargetKind.SSH else ""

    def _given(self, tx: Tx, caller: Caller, given: TargetInput, before: Target | None, *, now: datetime) -> Target:
        return Target(
            tenant=caller.tenant,
            id=self._id_of(tx, given, before),
            name=given.name,
            host=given.host,
            port=given.port,
            host_key=given.host_key,
            tier=given.tier,
            teams=_team_ids(tx, given.teams),
            labels=given.labels,
            logins=given.logins,
            seal_reads=given.seal_reads,
            source_address=given.source_address,
            settings=given.settings,
            created_at=before.created_at if before else now,
        )

    def _id_of(self, tx: Tx, given: TargetInput, before: Target | None) -> TargetId:
        if before is not None and given.id in (None, before.id):
            return before.id
        wanted = given.id or TargetId(ids.render("target", self._world.entropy.token(16)))
        if before is not None or tx.targets.get(wanted) is not None:
            raise conflict("id_taken", "another target has this id", "let grantctl draw a new one")
        return wanted

    async def set_password(self, caller: Caller, name: str, password: Secret[bytes], change: Change) -> None:
        """What the broker itself shows a database, into the vault; the one before is gone.

        Raises:
            Refusal: `wrong_kind`, `bad_password`, `not_found`, not signed.
        """
        checked_password(password)
        now = self._world.instant().wall

        def unit(tx: Tx) -> None:
            signed_by(tx, caller, change, permission=Permission.TARGET_WRITE, second=False, now=now)
            target = tx.targets.by_name(name)
            if target is None:
                raise not_found("target")
            if target.kind is not TargetKind.POSTGRES:
                raise lookup.wrong_kind(target.kind)
            tx.keys.put_secret(password_name(target.id), password)
            tx.audit.append(_told("target.changed", target, caller), now)

        await self._world.store.run(caller.tenant, unit)

    async def all(self, caller: Caller) -> Sequence[tuple[Target, tuple[str, ...]]]:
        """Targets by name, with their team names."""

        def unit(tx: Tx) -> Sequence[tuple[Target, tuple[str, ...]]]:
            names = {team.id: team.name for team in tx.teams.all()}
            rows = sorted(tx.targets.all(), key=lambda row: row.name)
            return [(row, tuple(sorted(names[t] for t in row.teams if t in names))) for row in rows]

        return await self._world.store.read(caller.tenant, unit)

    async def scan(self, host: str, port: int) -> str:
        """The host key that an address shows right now, as an OpenSSH line: to be compared, never trusted by itself."""
        check_address(host, port)
        return await self._world.targets.fetch_host_key(host, port)

    async def check(self, caller: Caller, name: str, login: str) -> Sequence[Finding]:
        """Checks a target from outside. Opens connections, so it is audited like one.

        Raises:
            Refusal: `frozen`, as for whatever else has something signed or made: while it is, nothing is (I-64).
        """
        now = self._world.ready(caller.tenant).wall
        target = await self._world.store.read(caller.tenant, lambda tx: tx.targets.by_name(name))
        if target is None:
            raise not_found("target")
        wanted = login or target.logins[0].name
        if wanted not in {entry.name for entry in target.logins}:
            raise not_found("login")
        issuer = self._world.issuers.get(target.kind)
        if issuer is not None:
            return await issuer.check(target, wanted)
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
        or given.settings != before.settings
    )


def _team_ids(tx: Tx, names: frozenset[str]) -> frozenset[TeamId]:
    by_name = {team.name: team.id for team in tx.teams.all()}
    if names - set(by_name):
        raise not_found("team")
    return frozenset(by_name[name] for name in names)


def _must_stay_reachable(tx: Tx, before: Target | None, given: TargetInput) -> None:
    """Refuses to change where a target is while something may be there that must still be taken away.

    Raises:
        Refusal: `target_in_use`; or `wrong_kind`: a target stays what it is.
    """
    if before is None:
        return
    if before.kind is not kind_of(given.settings):
        raise invalid("wrong_kind", "the kind of a target never changes", "add another one under another name")
    if place_of(before.settings, before.host, before.port) == place_of(given.settings, given.host, given.port):
        return
    if any(one.target.id == before.id for one in outside(tx, None)):
        raise conflict(
            "target_in_use", "grants on this target are not over yet", "revoke them, then change where it is"
        )


def _told(name: str, target: Target, caller: Caller) -> AuditEvent:
    return AuditEvent(
        tenant=target.tenant,
        name=name,
        actor=caller.identity,
        facts={
            "target": target.id,
            "tier": target.tier,
            "kind": target.kind,
            "host_key": lookup.host_key_sha256(target).hex(),
        },
        personal=story.personal(target.id, name=target.name, address=f"{target.host}:{target.port}"),
    )
