"""IdentityService: enrolling, renewing, signing in, and who one is."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from broker.core.clock import Clock
from broker.rpc.call import Call, OpenCall
from broker.rpc.convert.scalars import moment
from broker.service.enrol import EnrolService, SignIn
from broker.service.people import PeopleService
from broker.service.world import Places
from grantd.v1 import identity_pb2 as pb


class IdentityServicer:
    """Translates; broker.service.enrol does the work."""

    def __init__(self, enrol: EnrolService, people: PeopleService, places: Places, clock: Clock, version: str) -> None:
        self._enrol, self._people, self._places = enrol, people, places
        self._clock, self._version = clock, version

    async def EnrollAgent(self, request: pb.EnrollAgentRequest, call: OpenCall) -> pb.EnrollAgentResponse:
        made = await self._enrol.enrol(request.tenant, request.join_secret, request.csr)
        call.ids.note(identity_id=made.identity)
        return pb.EnrollAgentResponse(
            identity_id=made.identity,
            certificate=pem(made.certificate),
            ca_certificate=pem(*made.ca_certificates),
            not_after=moment(made.not_after),
            address=self._places.grpc,
            freeze_address=self._places.freeze,
        )

    async def RenewCertificate(self, request: pb.RenewCertificateRequest, call: Call) -> pb.RenewCertificateResponse:
        made = await self._enrol.renew(call.caller, request.csr)
        return pb.RenewCertificateResponse(
            certificate=pem(made.certificate),
            ca_certificate=pem(*made.ca_certificates),
            not_after=moment(made.not_after),
            freeze_address=self._places.freeze,
        )

    async def RedeemSignIn(self, request: pb.RedeemSignInRequest, call: OpenCall) -> pb.RedeemSignInResponse:
        given = SignIn(
            tenant=request.tenant,
            name=request.name,
            csr=request.csr,
            signed_at_us=request.signed_at_us,
            nonce=request.nonce,
            signature=request.signature,
        )
        made = await self._enrol.sign_in(given)
        call.ids.note(identity_id=made.identity)
        return pb.RedeemSignInResponse(
            identity_id=made.identity,
            certificate=pem(made.certificate),
            ca_certificate=pem(*made.ca_certificates),
            not_after=moment(made.not_after),
            address=self._places.grpc,
            freeze_address=self._places.freeze,
        )

    async def WhoAmI(self, request: pb.WhoAmIRequest, call: Call) -> pb.WhoAmIResponse:
        caller = call.caller
        teams = await self._people.teams(caller)
        return pb.WhoAmIResponse(
            tenant=caller.tenant,
            identity_id=caller.identity,
            name=caller.name,
            kind=caller.kind,
            role=caller.role,
            teams=[team.name for team in teams if team.id in caller.teams],
            certificate_not_after=moment(call.certificate_not_after),
            server_time=moment(self._clock.now()),
            server_version=self._version,
        )


def pem(*ders: bytes) -> str:
    """Certificates as text, one after the other."""
    return "".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode() for der in ders)
