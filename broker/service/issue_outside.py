"""Issuing what is made on a target: a role in a database, a value of the vault.

Planned and audited before anything is made; given away only once the row says ISSUED; taken back where it cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from broker.core.clock import Instant
from broker.core.credential import CredentialEvent, CredentialState
from broker.core.errors import Fault, Refusal, not_found
from broker.core.grant import LIVE, Grant, over
from broker.core.identity import Caller
from broker.core.ids import CredentialId, GrantId
from broker.core.kinds import TargetKind
from broker.service import lookup, story
from broker.service.ending import Ending
from broker.service.issuing import activated, allowed, row_of
from broker.service.ports import Access, Credential, CredentialIssuer, CredentialWish, Lease, Tx
from broker.service.shield import to_the_end
from broker.service.taking import end_credential
from broker.service.world import World

_NO_WAY: Final = "no issuer for this kind of target"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideCredential:
    """What was made, and how to use it."""

    credential: CredentialId
    access: Access
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    lease: Lease
    credential: Credential


class OutsideIssueService:
    """IssueCredential, for every kind of target but SSH."""

    def __init__(self, world: World, ending: Ending) -> None:
        self._world, self._ending = world, ending

    async def issue(
        self, caller: Caller, grant_id: GrantId, kind: TargetKind, wish: CredentialWish
    ) -> OutsideCredential:
        """Makes one credential of a grant and hands it out.

        Raises:
            Refusal: as for any credential; or the grant is on a target of another kind, or ended meanwhile.
            TargetFault: the target could not make it; whatever was begun is taken back.
        """
        instant = self._world.ready(caller.tenant)
        if self._ending.is_ended(grant_id):
            raise not_found("grant")
        random16 = self._world.entropy.token(16)

        def unit(tx: Tx) -> _Planned:
            return self._planned(tx, caller, grant_id, kind, wish, instant, random16)

        planned = await self._world.store.run(caller.tenant, unit)
        # a caller that goes away now leaves nothing half made: it is made and written, or taken back
        access = await to_the_end(self._made(caller, planned, wish))
        return OutsideCredential(credential=planned.credential.id, access=access, not_after=planned.lease.not_after)

    def _planned(
        self, tx: Tx, caller: Caller, grant_id: GrantId, kind: TargetKind, wish: CredentialWish, instant: Instant,
        random16: bytes,
    ) -> _Planned:  # fmt: skip
        before, target = allowed(self._world, tx, caller, grant_id, instant)
        if target.kind is not kind:
            raise lookup.wrong_kind(target.kind)
        grant = activated(self._world, tx, caller, before, instant)
        bare = row_of(
            grant, kind=kind, serial="", key=b"", state=CredentialState.PLANNED, now=instant.wall, random16=random16
        )
        lease = Lease(
            tenant=grant.tenant, credential=bare.id, grant=grant.id, identity=grant.identity, target=target,
            login=grant.login, ceiling=grant.ceiling, not_after=bare.not_after,
        )  # fmt: skip
        plan = self._issuer(kind).plan(lease, wish)
        credential = row_of(
            grant, kind=kind, serial=plan.name, key=plan.key, state=CredentialState.PLANNED, now=instant.wall,
            random16=random16,
        )  # fmt: skip
        tx.credentials.add(credential)
        event = story.of_credential(credential, actor=caller.identity, action="", name="credential.planned")
        tx.audit.append(story.with_facts(event, plan.facts), instant.wall)
        return _Planned(lease=lease, credential=credential)

    async def _made(self, caller: Caller, planned: _Planned, wish: CredentialWish) -> Access:
        lease = planned.lease
        try:
            access = await self._issuer(lease.target.kind).create(lease, wish)
            self._world.live.must_be_open(lease.tenant)
            await self._world.store.run(lease.tenant, lambda tx: self._issued(tx, caller, planned.credential))
            self._world.live.must_be_open(lease.tenant)  # the kill switch waits for no commit, and counts at once
        except (Fault, Refusal):
            await self._take_back(lease)
            raise
        return access

    def _issued(self, tx: Tx, caller: Caller, planned: Credential) -> None:
        """PLANNED -> ISSUED, if the grant still is what it was when it was planned."""
        grant, row = tx.grants.get(planned.grant_id), tx.credentials.get(planned.id)
        if grant is None or row is None:
            raise not_found("grant")
        if grant.state not in LIVE or row.state is not CredentialState.PLANNED or self._has_ended(grant):
            raise over(grant)
        issued = row.advanced(CredentialEvent.CREATE, self._world.clock.now())
        tx.credentials.put(issued)
        event = story.of_credential(issued, actor=caller.identity, action="")
        tx.audit.append(event, self._world.clock.now())

    def _has_ended(self, grant: Grant) -> bool:
        return self._ending.has_ended(grant.id)

    async def _take_back(self, lease: Lease) -> None:
        """At best effort: the row stays PLANNED where it fails, and the end of the grant or a sweep tries again."""
        try:
            await end_credential(self._world, lease.target, lease.credential)
        except Fault:
            self._world.meter.count("credential_takebacks_failed", kind=lease.target.kind)

    def _issuer(self, kind: TargetKind) -> CredentialIssuer:
        issuer = self._world.issuers.get(kind)
        if issuer is None:
            raise Fault(_NO_WAY)
        return issuer
