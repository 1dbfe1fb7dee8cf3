"""The client certificate of a connection, read once: which identity it names and which key it is bound to.

Never an authentication: the handshake proved possession of the key, the identity's row decides (I-08, I-24).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.core.errors import Blame, Refusal

_PEM = "x509_pem_cert"
_SCHEME = "grantd://"
_KEPT = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What the certificate says."""

    tenant: str
    identity: str
    key: bytes
    """SHA-256 of the SPKI, 32 bytes."""
    not_after: datetime
    authority: bytes
    """Identifier of the CA key that signed it."""


class Peers:
    """Certificates by their PEM bytes: parsing costs more than everything else at the gate."""

    def __init__(self) -> None:
        self._parsed: OrderedDict[bytes, Peer] = OrderedDict()

    def of(self, auth_context: Mapping[str, Iterable[bytes]]) -> Peer:
        """The peer of a call.

        Raises:
            Refusal: `certificate_required`, `unknown_identity`.
        """
        pem = _shown(auth_context)
        peer = self._parsed.get(pem)
        if peer is None:
            peer = self._parsed[pem] = read_peer(pem)
            while len(self._parsed) > _KEPT:
                self._parsed.popitem(last=False)
        return peer


def peer_of(auth_context: Mapping[str, Iterable[bytes]]) -> Peer:
    """As Peers.of, remembering nothing: from any thread."""
    return read_peer(_shown(auth_context))


def _shown(auth_context: Mapping[str, Iterable[bytes]]) -> bytes:
    pem = next(iter(auth_context.get(_PEM, ())), None)
    if pem is None:
        raise _refused("certificate_required", "this call needs a client certificate", rule="")
    return pem


def read_peer(pem: bytes) -> Peer:
    """The identity that a certificate names: exactly one URI, `grantd://<tenant>/<identity id>`, and no other name."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.InvalidVersion) as error:
        raise _unknown("not a certificate that names somebody") from error
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    tenant, slash, identity = (uris[0] if uris else "").removeprefix(_SCHEME).partition("/")
    if issuer is None or len(names) != 1 or len(uris) != 1 or not uris[0].startswith(_SCHEME) or not slash:
        raise _unknown("not exactly one identity")
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Peer(
        tenant=tenant,
        identity=identity,
        key=hashlib.sha256(spki).digest(),
        not_after=certificate.not_valid_after_utc,
        authority=issuer,
    )


def must_be_valid(peer: Peer, now: datetime, authorities: Collection[bytes]) -> None:
    """A connection may outlive its certificate, and the key that signed it: every call looks again (I-01)."""
    if now >= peer.not_after:
        raise _refused("certificate_expired", "the client certificate has expired", rule="expired")
    if peer.authority not in authorities:
        raise _refused("certificate_expired", "the client certificate has expired", rule="of a key that is gone")


def _unknown(rule: str) -> Refusal:
    return _refused("unknown_identity", "this certificate is not known here", rule=rule)


def _refused(code: str, message: str, *, rule: str) -> Refusal:
    way_out = "enrol again, or sign in with grantctl login"
    return Refusal(code, message, blame=Blame.UNAUTHENTICATED, way_out=way_out, rule=rule)
