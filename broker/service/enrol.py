"""Client certificates: by a one-time join token, by renewal with the same key, by a person's approval key. 24 h each.

Names in a CSR are ignored: the identity's row decides what the certificate says.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.core.cert import SKEW, X509_LIFE, Ca, X509Spec, client_uri
from broker.core.clock import from_micros
from broker.core.errors import Blame, Refusal, invalid
from broker.core.events import AuditEvent
from broker.core.identity import Caller, Identity, IdentityKind, IdentityStatus
from broker.core.ids import IdentityId, TenantId, is_name, is_tenant
from broker.core.records import SIGN_IN_NAMESPACE, sign_in_record
from broker.core.sshsig import verify
from broker.service import lookup
from broker.service.ports import Tx
from broker.service.world import World

MAX_CSR_BYTES = 4_096
SIGN_IN_SKEW = timedelta(minutes=2)
_SECRET_BYTES = 32
_NONCE_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """A fresh client certificate, DER, and the CA's."""

    identity: IdentityId
    certificate: bytes
    ca_certificates: tuple[bytes, ...]
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """A person's signature instead of a password."""

    tenant: str
    name: str
    csr: bytes
    signed_at_us: int
    nonce: bytes
    signature: bytes


class EnrolService:
    """EnrollAgent, RenewCertificate, RedeemSignIn."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def enrol(self, tenant: str, secret: bytes, csr: bytes) -> ClientCertificate:
        """Spends a join token: the identity becomes ACTIVE with the CSR's key.

        Raises:
            Refusal: `bad_join_token` for every reason; `bad_csr`.
        """
        key = key_of_csr(csr)
        now = self._world.instant().wall
        if not is_tenant(tenant) or len(secret) != _SECRET_BYTES:
            raise _bad_join()

        def unit(tx: Tx) -> Identity:
            identity_id = tx.identities.take_join(hashlib.sha256(secret).digest(), now)
            row = tx.identities.get(identity_id) if identity_id else None
            if row is None or row.status is not IdentityStatus.INVITED:  # a second token never replaces a key in use
                raise _bad_join()
            enrolled = replace(row, key=key, status=IdentityStatus.ACTIVE)
            tx.identities.put(enrolled)
            tx.audit.append(_told("identity.enrolled", enrolled, key), now)
            return enrolled

        return await self._certify(await self._world.store.run(TenantId(tenant), unit), csr, now)

    async def renew(self, caller: Caller, csr: bytes) -> ClientCertificate:
        """A new certificate for the caller's present key."""
        key = key_of_csr(csr)
        if key != caller.key:
            raise invalid("key_changed", "renewal keeps the key", "send a CSR made with the present key")
        now = self._world.instant().wall

        def unit(tx: Tx) -> Identity:
            row = lookup.active(tx, caller.identity)
            tx.audit.append(_told("identity.renewed", row, key), now)
            return row

        return await self._certify(await self._world.store.run(caller.tenant, unit), csr, now)

    async def sign_in(self, given: SignIn) -> ClientCertificate:
        """A certificate for a person whose approval key signed the sign-in record a moment ago.

        Raises:
            Refusal: `bad_sign_in` for every reason.
        """
        key = key_of_csr(given.csr)
        now = self._world.instant().wall
        fresh = abs(now - from_micros(given.signed_at_us)) <= SIGN_IN_SKEW and len(given.nonce) == _NONCE_BYTES
        if not is_tenant(given.tenant) or not is_name(given.name) or not fresh:
            raise _bad_sign_in()

        def unit(tx: Tx) -> Identity:
            row = tx.identities.by_name(IdentityKind.PERSON, given.name)
            known = row is not None and row.status is IdentityStatus.ACTIVE
            # the same work for a name that nobody has: an answer's time tells nothing (I-46)
            _verified(given, row.approval_keys if row is not None and known else (), key)
            if row is None or not known:
                raise _bad_sign_in()
            if not tx.seen.first_time("sign-in", given.nonce, now + 2 * SIGN_IN_SKEW):
                raise _bad_sign_in()
            signed_in = replace(row, key=key)
            tx.identities.put(signed_in)
            tx.audit.append(_told("identity.enrolled", signed_in, key), now)
            return signed_in

        return await self._certify(await self._world.store.run(TenantId(given.tenant), unit), given.csr, now)

    async def authorities(self) -> tuple[bytes, ...]:
        """The CA certificates that clients believe, DER: while a key follows another, both."""
        return tuple(each.public for each in await self._world.signer.generations(Ca.X509))

    async def _certify(self, identity: Identity, csr: bytes, now: datetime) -> ClientCertificate:
        spec = X509Spec(
            uri=client_uri(identity.tenant, identity.id),
            hosts=(),
            not_before=now - SKEW,
            not_after=now + X509_LIFE,
            server=False,
            serial=int.from_bytes(self._world.entropy.token(16), "big") >> 1 or 1,
        )
        return ClientCertificate(
            identity=identity.id,
            certificate=await self._world.signer.sign_x509(spec, csr),
            ca_certificates=await self.authorities(),
            not_after=spec.not_after,
        )


def key_of_csr(csr: bytes) -> bytes:
    """SHA-256 of the SPKI of a well-signed P-256 CSR."""
    if len(csr) > MAX_CSR_BYTES:
        raise _bad_csr()
    try:
        request = x509.load_der_x509_csr(csr)
        key = request.public_key()
        valid = request.is_signature_valid
    except (ValueError, InvalidSignature, TypeError) as error:
        raise _bad_csr() from error
    if not valid or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _bad_csr()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def _verified(given: SignIn, keys: tuple[str, ...], key: bytes) -> None:
    record = sign_in_record(
        tenant=given.tenant, person=given.name, key_sha256=key, at=from_micros(given.signed_at_us), nonce=given.nonce
    )
    try:
        verify(given.signature, record, SIGN_IN_NAMESPACE, keys)
    except Refusal as error:
        raise _bad_sign_in() from error


def _told(name: str, row: Identity, key: bytes) -> AuditEvent:
    facts = {"identity": row.id, "kind": row.kind, "role": row.role, "key": key.hex()}
    return AuditEvent(tenant=row.tenant, name=name, actor=row.id, facts=facts)


def _bad_csr() -> Refusal:
    return invalid("bad_csr", "not a signed P-256 certificate request", "make one with grantctl or openssl")


def _bad_join() -> Refusal:
    return Refusal(
        "bad_join_token", "the join token does not work", blame=Blame.UNAUTHENTICATED, way_out="ask for a new one"
    )


def _bad_sign_in() -> Refusal:
    return Refusal(
        "bad_sign_in", "the sign-in was not accepted", blame=Blame.UNAUTHENTICATED, way_out="check name, key and clock"
    )
