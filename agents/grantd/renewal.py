"""Keeps a client certificate alive: renewed with the same key once less than a third of its life is left.

Safe with several processes on one profile: whoever gets the lock renews, the others find it done. Never extends
anything by itself: the broker decides whether this identity still gets a certificate.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import grpc

from grantd import keys
from grantd.channel import open_channel
from grantd.errors import NotSignedIn, ProfileProblem, from_rpc
from grantd.profile import Profile
from grantd.v1 import identity_pb2
from grantd.v1.identity_pb2_grpc import IdentityServiceStub

RETRY_AFTER: Final = timedelta(seconds=60)
_CALL_SECONDS: Final = 20.0
_LIFE_PARTS: Final = 3
WAY_OUT: Final = (
    'people: run "grantctl login"; agents: enrol again with a new join token ("grantctl login --join FILE")'
)


def due_at(validity: keys.Validity) -> datetime:
    """When renewing starts: two thirds into the certificate's life."""
    life = validity.not_after - validity.not_before
    return validity.not_after - life / _LIFE_PARTS


def require_valid(validity: keys.Validity, now: datetime) -> None:
    """Say clearly that a certificate is over, before the TLS layer says it badly. Raises NotSignedIn."""
    if now >= validity.not_after:
        ended = validity.not_after.isoformat(timespec="seconds")
        raise NotSignedIn("certificate_expired", f"the client certificate ended at {ended}", WAY_OUT)


def next_look(validity: keys.Validity, now: datetime) -> datetime:
    """When to look at the certificate again: to renew it, a minute after that failed, at its end at the latest."""
    return min(max(due_at(validity), now + RETRY_AFTER), validity.not_after)


def renew(profile: Profile, now: datetime) -> None:
    """Renew the profile's certificate unless another process just did. Blocks; raises GrantdError."""
    try:
        _renew(profile, now)
    except OSError as wrong:
        said = f"the profile cannot be renewed: {wrong.strerror}"
        raise ProfileProblem("profile_not_writable", said, f"make {profile.directory} writable") from wrong


def _renew(profile: Profile, now: datetime) -> None:
    with profile.locked():
        validity = keys.validity_of(profile.certificate)
        if now < due_at(validity):
            return
        require_valid(validity, now)
        request = identity_pb2.RenewCertificateRequest(csr=keys.csr_of(profile.key))
        with open_channel(profile) as channel:
            try:
                answer = IdentityServiceStub(channel).RenewCertificate(request, timeout=_CALL_SECONDS)
            except grpc.RpcError as failed:
                raise from_rpc(failed) from failed
        keys.validity_of(answer.certificate.encode())  # never put something unreadable in the place of what works
        profile.put_certificate(
            answer.certificate.encode(), answer.ca_certificate.encode(), freeze_address=answer.freeze_address
        )
