"""Issuing what a grant allows: a certificate for the gateway or a grant token.

Row and audit are durable before anything is signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from broker.core import ids
from broker.core.cert import gateway_user, ingress_spec
from broker.core.clock import Instant
from broker.core.errors import exhausted, forbidden, invalid, not_found
from broker.core.grant import Grant, GrantState, first_use
from broker.core.identity import Caller, Target
from broker.core.ids import CredentialId, GrantId
from broker.core.sshwire import KeyKind, WireError, parse_blob
from broker.service import lookup, story
from broker.service.ending import Ending
from broker.service.policies import ask_access, claims_of
from broker.service.ports import Credential, Proof, TokenClaims, Tx
from broker.service.world import World
from policy.engine import Deny


@dataclass(frozen=True, slots=True, kw_only=True)
class SshCredential:
    """A certificate for the gateway and how to use it."""

    credential: CredentialId
    certificate: bytes
    user: str
    address: str
    known_hosts: str
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCredential:
    """A grant token."""

    credential: CredentialId
    token: str
    not_after: datetime


ISSUED_KINDS = ("ssh", "token")
"""What counts against a grant's cap; egress certificates are the broker's own."""


class IssueService:
    """IssueCredential."""

    def __init__(self, world: World, ending: Ending) -> None:
        self._world, self._ending = world, ending

    async def ssh(self, caller: Caller, grant_id: GrantId, public_key: bytes) -> SshCredential:
        """An ingress certificate for the caller's own Ed25519 key; useless anywhere but at the gateway (I-06)."""
        try:
            key = parse_blob(public_key)
        except WireError as error:
            raise invalid("bad_public_key", "not an SSH public key", "send an Ed25519 public key") from error
        if key.kind is not KeyKind.ED25519:
            raise invalid("bad_public_key", "only Ed25519 keys can be certified", "make one with ssh-keygen -t ed25519")
        instant = self._world.ready(caller.tenant)
        serial = int.from_bytes(self._world.entropy.token(8), "big") or 1
        grant, target, credential = await self._write(caller, grant_id, "ssh", str(serial), key.sha256(), instant)
        spec = ingress_spec(
            grant=grant.id,
            serial=serial,
            login=grant.login,
            target_name=target.name,
            now=instant.wall,
            not_after=credential.not_after,
        )
        certificate = await self._world.signer.sign_ssh(spec, public_key, Proof(record=b"", signatures=()))
        return SshCredential(
            credential=credential.id,
            certificate=certificate,
            user=gateway_user(grant.login, target.name),
            address=self._world.places.gateway,
            known_hosts=await self._known_hosts(),
            not_after=credential.not_after,
        )

    async def token(self, caller: Caller, grant_id: GrantId) -> TokenCredential:
        """A token bound to the caller's TLS key."""
        instant = self._world.ready(caller.tenant)
        jti = self._world.entropy.token(16).hex()
        grant, _, credential = await self._write(caller, grant_id, "token", jti, caller.key, instant)
        claims = TokenClaims(
            jti=jti,
            tenant=grant.tenant,
            grant=grant.id,
            key=caller.key,
            issued_at=instant.wall,
            not_before=instant.wall,
            expires_at=credential.not_after,
        )
        return TokenCredential(
            credential=credential.id, token=self._world.tokens.sign(claims), not_after=credential.not_after
        )

    async def grant_of_token(self, caller: Caller, token: str) -> GrantId:
        """The grant that a token names: signature, binding to the caller's key, and its row all hold (I-08, I-09)."""
        claims = self._world.tokens.verify(token, now=self._world.instant().wall)
        if claims.tenant != caller.tenant or claims.key != caller.key:
            raise forbidden("bad_token", "the grant token is not yours", "issue a new one")

        def unit(tx: Tx) -> GrantId:
            row = tx.credentials.by_serial("token", claims.jti)
            if row is None or row.grant_id != claims.grant or row.key != caller.key:
                raise forbidden("bad_token", "the grant token is not known", "issue a new one")
            return row.grant_id

        return await self._world.store.read(caller.tenant, unit)

    async def _write(
        self, caller: Caller, grant_id: GrantId, kind: str, serial: str, key: bytes, instant: Instant
    ) -> tuple[Grant, Target, Credential]:
        if self._ending.is_ended(grant_id):
            raise not_found("grant")

        def unit(tx: Tx) -> tuple[Grant, Target, Credential]:
            lookup.not_frozen(tx)
            identity = lookup.active(tx, caller.identity)
            before = lookup.own_grant(tx, caller, grant_id)
            target = lookup.target_of(tx, before)
            answer = ask_access(
                self._world.policies.in_force(tx), tx, identity, target, login=before.login, ceiling=before.ceiling,
                flags=before.flags, ttl=before.ttl, claimed=claims_of(tx, before),
                now=instant.wall,
            )  # fmt: skip
            if isinstance(answer, Deny):
                raise forbidden("policy_denied", f"policy no longer allows this: {', '.join(answer.reasons)}")
            if tx.credentials.count(grant_id, ISSUED_KINDS) >= self._world.limits.credentials_per_grant:
                raise exhausted("too_many_credentials", "the grant has issued as many as it may", "use one of them")
            grant = first_use(before, instant.wall)
            self._world.leases.must_last(grant, instant)
            if before.state is GrantState.APPROVED:
                tx.grants.put(grant)
                self._world.ends.expect(grant.tenant, grant.deadline(), grant.id)
                tx.audit.append(story.of_grant("grant.activated", grant, actor=caller.identity), instant.wall)
            credential = _row(grant, kind, serial, key, instant.wall, self._world.entropy.token(16))
            tx.credentials.add(credential)
            tx.audit.append(story.of_credential(credential, actor=caller.identity, action=""), instant.wall)
            return grant, target, credential

        return await self._world.store.run(caller.tenant, unit)

    async def _known_hosts(self) -> str:
        ca = parse_blob(await self._world.signer.ssh_ca("host"))
        host, _, port = self._world.places.gateway.rpartition(":")
        names = {host, *self._world.places.gateway_names}
        patterns = ",".join(sorted(f"[{name}]:{port}" if port != "22" else name for name in names))
        return f"@cert-authority {patterns} {ca.line()}"


def _row(grant: Grant, kind: str, serial: str, key: bytes, now: datetime, random16: bytes) -> Credential:
    if grant.not_after is None:
        raise not_found("grant")
    return Credential(
        tenant=grant.tenant,
        id=CredentialId(ids.render("credential", random16)),
        grant_id=grant.id,
        kind=kind,
        serial=serial,
        key=key,
        issued_at=now,
        not_after=grant.not_after,
    )
