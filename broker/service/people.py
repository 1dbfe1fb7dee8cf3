"""Agents, people and teams: adding, suspending, listing. Nobody grants a role above their own (I-43)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from broker.core import ids
from broker.core.errors import conflict, forbidden, invalid, not_found
from broker.core.events import AuditEvent
from broker.core.grant import EndReason
from broker.core.identity import Caller, Identity, IdentityKind, IdentityStatus, Team
from broker.core.ids import IdentityId, TeamId, is_name
from broker.core.request import checked_text
from broker.core.roles import RANK, TEAM_BOUND, Permission, Role, holds
from broker.core.sshwire import parse_line
from broker.service import lookup, story
from broker.service.ending import Ending
from broker.service.identify import IdentifyService
from broker.service.ports import JoinToken, Tx
from broker.service.stepup import Change, signed_by
from broker.service.trust import believe, person_of, tried
from broker.service.world import World

JOIN_FOR = timedelta(hours=1)
MIN_JOIN = timedelta(minutes=1)
MAX_JOIN = timedelta(hours=24)
MAX_APPROVAL_KEYS = 8
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """An agent or a person to add."""

    idempotency_key: str
    kind: IdentityKind
    name: str
    role: Role
    teams: frozenset[str]
    """Team names."""
    owner: str
    """Name of the person whose own an agent is; empty = its team's."""
    approval_keys: tuple[str, ...]
    join_for: timedelta | None
    id: IdentityId | None = None
    """Of a person, the id that the statement names; None = drawn here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """An identity, and all the teams that it is in from now on."""

    identity: IdentityId
    teams: frozenset[str]
    """Team names."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """A newcomer with the secret of its join token, shown once."""

    identity: Identity
    secret: bytes
    expires_at: datetime


class PeopleService:
    """AddAgent, AddPerson, SuspendIdentity, SetTeams, AddTeam and the lists."""

    def __init__(self, world: World, ending: Ending, identify: IdentifyService) -> None:
        self._world, self._ending, self._identify = world, ending, identify

    async def add_agent(self, caller: Caller, newcomer: Newcomer) -> Invitation:
        """Adds an agent to teams that the caller may add to.

        Asking again with the same key makes a new join token for it.
        """
        return await self._add(caller, newcomer, change=None)

    async def add_person(self, caller: Caller, newcomer: Newcomer, change: Change) -> Invitation:
        """Adds a person; the caller's fresh signature stands behind it."""
        if newcomer.role not in RANK or RANK[newcomer.role] > RANK.get(caller.role, 0):
            raise forbidden("role_above_own", "nobody grants a role above their own", "ask an owner")
        if not 1 <= len(newcomer.approval_keys) <= MAX_APPROVAL_KEYS:
            raise invalid("approval_key_needed", "a person needs 1 to 8 approval keys", "pass an OpenSSH public key")
        return await self._add(caller, newcomer, change=change)

    async def suspend(self, caller: Caller, identity_id: IdentityId, reason: str, change: Change) -> Identity:
        """Suspends an identity: its certificate stops working, its grants end, its sessions are cut.

        An agent at once; a person against the caller's fresh signature, and another person's where somebody beside the
        two could make this change.

        Repeating it is harmless.

        Raises:
            StoreFault: its sessions were cut, but nothing is written down: call again.
        """
        checked_text("reason", reason, 512)
        now = self._world.clock.now()
        row = await self._world.store.read(caller.tenant, lambda tx: _may_suspend(tx, caller, identity_id))
        if row.kind is IdentityKind.AGENT:
            await self._ending.cut_sessions(caller.tenant, identity_id)

        def unit(tx: Tx) -> Identity:
            row = _may_suspend(tx, caller, identity_id)
            if row.status is IdentityStatus.SUSPENDED:
                return row
            if row.kind is IdentityKind.PERSON:
                signed_by(tx, caller, change, permission=Permission.PERSON_WRITE, second=True, now=now, besides=row.id)
            suspended = replace(row, status=IdentityStatus.SUSPENDED)
            tx.identities.put(suspended)
            name = "agent.removed" if row.kind is IdentityKind.AGENT else "person.removed"
            tx.audit.append(_told(name, suspended, caller, reason=reason), now)
            self._ending.end_all_in(tx, EndReason.IDENTITY_REMOVED, by=caller.identity, only=frozenset({row.id}))
            self._ending.withdraw_all_in(tx, row.id, by=caller.identity)
            return suspended

        row = await self._world.store.run(caller.tenant, unit)
        self._identify.forget(row.key)
        await self._ending.cut_sessions(caller.tenant, row.id)  # one may have started before the row was durable
        await self._ending.retry_due(caller.tenant)
        if row.kind is IdentityKind.PERSON:  # last, and again when it is repeated: the end must not wait for the signer
            await believe(self._world, change, tenant=caller.tenant, subject=row.id, content=person_of(row))
        return row

    async def set_teams(self, caller: Caller, wanted: Rotation, change: Change) -> tuple[Identity, tuple[str, ...]]:
        """Puts an identity into other teams: what it may ask for, and what a manager sees and decides, from now on.

        An agent at once; a person against the caller's fresh signature, and a second person's for an admin or owner.
        Repeating it is harmless. Answers the row and its team names.
        """
        checked_text("reason", wanted.reason, 512)
        now = self._world.instant().wall

        def unit(tx: Tx) -> Identity:
            row = _may_move(tx, caller, wanted)
            teams = frozenset(team.id for team in tx.teams.all() if team.name in wanted.teams)
            if row.kind is IdentityKind.PERSON:
                second = RANK[row.role] >= RANK[Role.ADMIN]
                signed_by(
                    tx, caller, change, permission=Permission.PERSON_WRITE, second=second, now=now, besides=row.id
                )  # fmt: skip
            if teams == row.teams:
                return row
            moved = replace(row, teams=teams)
            tx.identities.put(moved)
            facts = {"teams": ",".join(sorted(teams)), "teams_before": ",".join(sorted(row.teams))}
            tx.audit.append(_told(f"{row.kind}.changed", moved, caller, reason=wanted.reason, facts=facts), now)
            return moved

        row = await self._world.store.run(caller.tenant, unit)
        self._identify.forget(row.key)
        return row, tuple(sorted(wanted.teams))

    async def identities(self, caller: Caller, kind: IdentityKind | None) -> Sequence[tuple[Identity, tuple[str, ...]]]:
        """Identities by name, with their team names."""

        def unit(tx: Tx) -> Sequence[tuple[Identity, tuple[str, ...]]]:
            names = {team.id: team.name for team in tx.teams.all()}
            rows = sorted((i for i in tx.identities.all() if kind in (None, i.kind)), key=lambda row: row.name)
            return [(row, tuple(sorted(names[t] for t in row.teams if t in names))) for row in rows]

        return await self._world.store.read(caller.tenant, unit)

    async def add_team(self, caller: Caller, name: str, *, idempotency_key: str) -> Team:
        """Adds a team; the same name again with the same key answers the same team."""
        if not is_name(name):
            raise invalid("bad_name", "a team's name is lower case letters, digits, '.', '_', '-'")
        now = self._world.clock.now()

        def unit(tx: Tx) -> Team:
            earlier = lookup.once(
                tx, caller, method="AddTeam", key=idempotency_key, content=name.encode(),
                find=lambda made: tx.teams.get(TeamId(made)),
            )  # fmt: skip
            if isinstance(earlier, Team):
                return earlier
            if tx.teams.by_name(name) is not None:
                raise invalid("name_taken", "a team of this name exists", "choose another name")
            team = Team(tenant=caller.tenant, id=TeamId(ids.render("team", self._world.entropy.token(16))), name=name)
            tx.teams.put(team)
            tx.audit.append(_team_told(team, caller), now)
            sha = hashlib.sha256(name.encode()).digest()
            tx.idempotency.put(caller.identity, "AddTeam", idempotency_key, request_sha256=sha, made=team.id, now=now)
            return team

        return await self._world.store.run(caller.tenant, unit)

    async def teams(self, caller: Caller) -> Sequence[Team]:
        """Teams by name."""
        return await self._world.store.read(caller.tenant, lambda tx: sorted(tx.teams.all(), key=lambda t: t.name))

    async def _add(self, caller: Caller, newcomer: Newcomer, *, change: Change | None) -> Invitation:
        join_for = newcomer.join_for or JOIN_FOR
        if not is_name(newcomer.name):
            raise invalid("bad_name", "a name is lower case letters, digits, '.', '_', '-'")
        if not MIN_JOIN <= join_for <= MAX_JOIN:
            raise invalid("bad_join_time", "a join token works for 1 minute to 24 hours")
        now = self._world.instant().wall
        secret = self._world.entropy.token(_SECRET_BYTES)
        keys = tuple(parse_line(line).line() for line in newcomer.approval_keys)

        def unit(tx: Tx) -> Identity:
            if change is not None:
                second = RANK[newcomer.role] >= RANK[Role.ADMIN]
                signed_by(tx, caller, change, permission=Permission.PERSON_WRITE, second=second, now=now)
            row = self._invited(tx, caller, newcomer, keys, now)
            tx.identities.put_join(
                JoinToken(
                    tenant=caller.tenant,
                    secret_sha256=hashlib.sha256(secret).digest(),
                    identity=row.id,
                    expires_at=now + join_for,
                )
            )
            tx.audit.append(_told("enrolment.offered", row, caller), now)
            return row

        if change is not None and change.trust:
            row = await tried(self._world, caller.tenant, unit)
            await believe(self._world, change, tenant=caller.tenant, subject=row.id, content=person_of(row))
        row = await self._world.store.run(caller.tenant, unit)
        return Invitation(identity=row, secret=secret, expires_at=now + join_for)

    def _invited(self, tx: Tx, caller: Caller, newcomer: Newcomer, keys: tuple[str, ...], now: datetime) -> Identity:
        """The row of the newcomer; an earlier one that never enrolled, made by the same call, is taken again."""
        content = repr(
            (newcomer.kind, newcomer.name, newcomer.role, sorted(newcomer.teams), newcomer.owner, keys)
        ).encode()
        method = f"Add:{newcomer.kind}"
        earlier = lookup.once(
            tx, caller, method=method, key=newcomer.idempotency_key, content=content,
            find=lambda made: tx.identities.get(IdentityId(made)),
        )  # fmt: skip
        if isinstance(earlier, Identity):
            if earlier.status is not IdentityStatus.INVITED:
                raise invalid("name_taken", "it has enrolled already")
            return earlier
        if tx.identities.by_name(newcomer.kind, newcomer.name) is not None:
            raise invalid("name_taken", f"an {newcomer.kind} of this name exists", "choose another name")
        if any(set(keys) & set(other.approval_keys) for other in tx.identities.all()):
            raise conflict(
                "key_taken", "somebody signs with this approval key already", "everybody has keys of their own"
            )
        row = Identity(
            tenant=caller.tenant,
            id=self._id_of(tx, newcomer),
            kind=newcomer.kind,
            name=newcomer.name,
            role=newcomer.role,
            owner=_owner(tx, newcomer),
            teams=_teams(tx, caller, newcomer),
            status=IdentityStatus.INVITED,
            key=b"",
            approval_keys=keys,
            created_at=now,
        )
        tx.identities.put(row)
        tx.audit.append(_told(f"{newcomer.kind}.added", row, caller), now)
        sha = hashlib.sha256(content).digest()
        tx.idempotency.put(caller.identity, method, newcomer.idempotency_key, request_sha256=sha, made=row.id, now=now)
        return row

    def _id_of(self, tx: Tx, newcomer: Newcomer) -> IdentityId:
        if not newcomer.id:
            return IdentityId(ids.render(newcomer.kind, self._world.entropy.token(16)))
        if tx.identities.get(newcomer.id) is not None:
            raise conflict("id_taken", "somebody else has this id", "let grantctl draw a new one")
        return newcomer.id


def _teams(tx: Tx, caller: Caller, newcomer: Newcomer) -> frozenset[TeamId]:
    by_name = {team.name: team.id for team in tx.teams.all()}
    if newcomer.teams - set(by_name):
        raise not_found("team")
    if newcomer.kind is IdentityKind.AGENT and not newcomer.teams:
        raise invalid("team_needed", "an agent belongs to at least one team", "name a team")
    wanted = frozenset(by_name[name] for name in newcomer.teams)
    if caller.role in TEAM_BOUND and not wanted <= caller.teams:
        raise forbidden("not_your_team", "a manager adds to their own teams", "ask an admin")
    return wanted


def _may_move(tx: Tx, caller: Caller, wanted: Rotation) -> Identity:
    """The row to move. Raises unless the caller may take it out of each team that it leaves, and into each other."""
    row = tx.identities.get(wanted.identity)
    if row is None:
        raise not_found("identity")
    if row.id == caller.identity:
        raise forbidden("own_identity", "nobody moves themselves", "ask a colleague")
    by_name = {team.name: team.id for team in tx.teams.all()}
    if wanted.teams - set(by_name):
        raise not_found("team")
    if row.kind is IdentityKind.PERSON:
        if not holds(caller.role, Permission.PERSON_WRITE):
            raise forbidden("not_permitted", "only an owner moves people", "ask an owner")
        return row
    if not wanted.teams:
        raise invalid("team_needed", "an agent belongs to at least one team", "name a team")
    if caller.role in TEAM_BOUND:
        if not row.teams & caller.teams:
            raise not_found("identity")
        if not frozenset(by_name[name] for name in wanted.teams) ^ row.teams <= caller.teams:
            raise forbidden("not_your_team", "a manager moves agents among their own teams", "ask an admin")
    return row


def _owner(tx: Tx, newcomer: Newcomer) -> IdentityId | None:
    if not newcomer.owner:
        return None
    person = tx.identities.by_name(IdentityKind.PERSON, newcomer.owner)
    if person is None:
        raise not_found("person")
    return person.id


def _may_suspend(tx: Tx, caller: Caller, identity_id: IdentityId) -> Identity:
    row = tx.identities.get(identity_id)
    if row is None:
        raise not_found("identity")
    if row.id == caller.identity:
        raise forbidden("own_identity", "nobody suspends themselves", "ask a colleague")
    if row.kind is IdentityKind.PERSON:
        if not holds(caller.role, Permission.PERSON_WRITE):
            raise forbidden("not_permitted", "only an owner suspends people", "ask an owner")
        _not_the_last_owner(tx, row)
    elif caller.role in TEAM_BOUND and not (row.teams & caller.teams):
        raise not_found("identity")
    return row


def _not_the_last_owner(tx: Tx, row: Identity) -> None:
    owners = [i for i in tx.identities.all() if i.role is Role.OWNER and i.status is IdentityStatus.ACTIVE]
    if row.role is Role.OWNER and len(owners) <= 1:
        raise forbidden("last_owner", "the last owner stays", "add another owner first")


def _told(
    name: str, row: Identity, caller: Caller, *, reason: str = "", facts: Mapping[str, str] = MappingProxyType({})
) -> AuditEvent:  # fmt: skip
    return AuditEvent(
        tenant=row.tenant,
        name=name,
        actor=caller.identity,
        facts={"identity": row.id, "kind": row.kind, "role": row.role, "status": row.status, **facts},
        personal=story.personal(row.id, name=row.name, reason=reason),
    )


def _team_told(team: Team, caller: Caller) -> AuditEvent:
    return AuditEvent(
        tenant=team.tenant,
        name="team.added",
        actor=caller.identity,
        facts={"team": team.id},
        personal=story.personal(team.id, name=team.name),
    )
