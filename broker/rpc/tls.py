"""TLS of both listeners. The certificate is asked for at every handshake, so a new one needs no restart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import grpc
import structlog
from cryptography import x509

from broker.core.secret import Secret

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerIdentity:
    """What the broker shows and whom it believes, PEM."""

    key: Secret[bytes]
    chain: bytes
    client_ca: bytes
    """Client certificates must come from here (the main listener)."""


@lru_cache(maxsize=4)
def authorities_of(client_ca: bytes) -> frozenset[bytes]:
    """Which keys those certificates are of, as the certificates that they signed name them."""
    return frozenset(
        each.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        for each in x509.load_pem_x509_certificates(client_ca)
    )


FetchIdentity = Callable[[], ServerIdentity]
"""Called at every handshake, on a thread of gRPC's: quick, and never blocking on the event loop."""


def credentials(fetch: FetchIdentity, *, clients: bool) -> grpc.ServerCredentials:
    """Server credentials, TLS 1.2 or 1.3.

    Args:
        fetch: the identity to show now.
        clients: whether a client certificate is required (else none is asked for).
    """
    fetcher = cast("Callable[[], grpc.ServerCertificateConfiguration]", _Fetcher(fetch))  # None, too: no change
    return grpc.dynamic_ssl_server_credentials(_configuration(fetch()), fetcher, clients)


class _Fetcher:
    """Answers None while nothing changed, and also when the new identity cannot be had: the old one goes on."""

    def __init__(self, fetch: FetchIdentity) -> None:
        self._fetch = fetch
        self._shown: ServerIdentity | None = None

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        try:
            identity = self._fetch()
            if identity is self._shown:
                return None
            configuration = _configuration(identity)
        except Exception:
            log.exception("tls.identity_unavailable")
            return None
        self._shown = identity
        return configuration


def _configuration(identity: ServerIdentity) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(identity.key.reveal(), identity.chain)], identity.client_ca)
