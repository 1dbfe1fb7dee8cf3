"""Issuing what a grant allows: a certificate for the gateway or a grant token.

Row and audit are durable before anything is signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from broker.core.cert import Ca, gateway_user, ingress_spec
from broker.core.clock import Instant
from broker.core.credential import CredentialState
from broker.core.errors import Blame, Refusal, invalid, not_found
from broker.core.generation import Generation
from broker.core.grant import Grant
from broker.core.identity import Caller, Target
from broker.core.ids import CredentialId, GrantId
from broker.core.kinds import TargetKind
from broker.core.sshwire import KeyKind, WireError, parse_blob
from broker.service import lookup, story
from broker.service.ending import Ending
from broker.service.identify import FRESH_FOR
from broker.service.issuing import activated, allowed, row_of
from broker.service.ports import Credential, Proof, TokenClaims, Tx
from broker.service.world import World


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


class IssueService:
    """IssueCredential."""

    def __init__(self, world: World, ending: Ending) -> None:
        self._world, self._ending = world, ending
        self._hosts: tuple[float, str] | None = None
        """What clients believe the gateway by, and when the signer was asked for it, by the monotonic clock."""

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
        known_hosts = await self._known_hosts()
        self._must_still_stand(grant)
        return SshCredential(
            credential=credential.id,
            certificate=certificate,
            user=gateway_user(grant.login, target.name),
            address=self._world.places.gateway,
            known_hosts=known_hosts,
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

    def _must_still_stand(self, grant: Grant) -> None:
        """What was frozen or revoked while the signer worked leaves the house no more (I-02, I-61)."""
        self._world.live.must_be_open(grant.tenant)
        if self._ending.has_ended(grant.id):
            raise not_found("grant")

    async def grant_of_token(self, caller: Caller, token: str) -> GrantId:
        """The grant that a token names: signature, binding to the caller's key, and its row all hold (I-08, I-09)."""
        claims = self._world.tokens.verify(token, now=self._world.instant().wall)
        if claims.tenant != caller.tenant:
            raise _bad_token("another tenant's")
        if claims.key != caller.key:
            raise _bad_token("bound to another key")

        def unit(tx: Tx) -> GrantId:
            row = tx.credentials.by_serial("token", claims.jti)
            if row is None:
                raise _bad_token("no row of that jti")
            if row.grant_id != claims.grant:
                raise _bad_token("its row is another grant's")
            if row.key != caller.key:
                raise _bad_token("its row is for another key")
            return row.grant_id

        return await self._world.store.read(caller.tenant, unit)

    async def _write(
        self, caller: Caller, grant_id: GrantId, kind: str, serial: str, key: bytes, instant: Instant
    ) -> tuple[Grant, Target, Credential]:
        if self._ending.is_ended(grant_id):
            raise not_found("grant")

        def unit(tx: Tx) -> tuple[Grant, Target, Credential]:
            before, target = allowed(self._world, tx, caller, grant_id, instant)
            if target.kind is not TargetKind.SSH:
                raise lookup.wrong_kind(target.kind)
            grant = activated(self._world, tx, caller, before, instant)
            credential = row_of(
                grant, kind=kind, serial=serial, key=key, state=CredentialState.SIGNED, now=instant.wall,
                random16=self._world.entropy.token(16),
            )  # fmt: skip
            tx.credentials.add(credential)
            tx.audit.append(story.of_credential(credential, actor=caller.identity, action=""), instant.wall)
            return grant, target, credential

        return await self._world.store.run(caller.tenant, unit)

    async def ca_changed(self, ca: Ca) -> None:
        """The next certificate comes with the keys as they are now."""
        if ca is Ca.HOST:
            self._hosts = None

    async def _known_hosts(self) -> str:
        """Asked of the signer once in FRESH_FOR: another broker's step of a rotation counts as soon as that."""
        now = self._world.clock.monotonic()
        if self._hosts is None or now - self._hosts[0] >= FRESH_FOR:
            self._hosts = now, self._lines_of(await self._world.signer.generations(Ca.HOST))
        return self._hosts[1]

    def _lines_of(self, told: Sequence[Generation]) -> str:
        host, _, port = self._world.places.gateway.rpartition(":")
        names = {host, *self._world.places.gateway_names}
        patterns = ",".join(sorted(f"[{name}]:{port}" if port != "22" else name for name in names))
        return "\n".join(f"@cert-authority {patterns} {parse_blob(each.public).line()}" for each in told)


def _bad_token(rule: str) -> Refusal:
    """In the words of a token that does not verify: which it was is the log's alone."""
    return Refusal(
        "bad_token", "the grant token is not valid", blame=Blame.UNAUTHENTICATED, way_out="issue a new one", rule=rule
    )
