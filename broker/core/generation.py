"""Generations of a CA's key, as the signer announces them: which are believed, which one signs, who vouches for it.

Only describes and checks. A new key is believed because the one before it signed for it, never because somebody answers
at the signer's socket: a signer that comes back with other keys stays a fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from broker.core.cert import EGRESS_LIFE, INGRESS_MAX_LIFE, SKEW, X509_LIFE, Ca
from broker.core.clock import EPOCH
from broker.core.errors import Fault
from broker.core.records import pae
from broker.core.sshwire import WireError, parse_blob

MAX_GENERATIONS = 2
"""That live at a time: a rotation is finished before the next one starts."""
_VOUCHER = b"grantd/ca-generation/v1"
_KNOWN_AFTER: Final[Mapping[Ca, timedelta]] = {Ca.HOST: INGRESS_MAX_LIFE, Ca.X509: X509_LIFE}
"""How long the next key is told to clients before it signs: by then each has renewed what it holds."""
_OVER_AFTER: Final[Mapping[Ca, timedelta]] = {
    Ca.INGRESS: INGRESS_MAX_LIFE,
    Ca.EGRESS: EGRESS_LIFE + SKEW,
    Ca.HOST: timedelta(0),  # the gateway's own certificate is made anew at the switch
    Ca.X509: X509_LIFE,
}
"""How long what the old key signed may live."""


class Stage(StrEnum):
    """What a generation is good for."""

    NEXT = "next"
    """Believed, and does not sign yet: whoever must believe it learns it first."""
    SIGNING = "signing"
    """Signs; exactly one does."""
    OLD = "old"
    """Believed until the rotation is finished, and signs nothing any more."""


class Step(StrEnum):
    """The three steps of a rotation, in this order."""

    START = "start"
    """A new key is made; it is NEXT."""
    SWITCH = "switch"
    """NEXT signs from now on; what signed before is OLD."""
    FINISH = "finish"
    """OLD is destroyed: nobody believes it any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One key of one CA."""

    number: int
    """1, 2, ...; never used twice."""
    public: bytes
    """SSH wire blob; of the X.509 CA the certificate, DER."""
    stage: Stage
    since: datetime
    """When it came to this stage."""
    voucher: bytes
    """The signature over `voucher_record` by the generation before it; empty for the first one."""


class UnknownGeneration(Fault):
    """A key is announced that no key known before vouches for."""


class WrongStep(Fault):
    """A step of a rotation that its state does not allow."""


def voucher_record(ca: Ca, number: int, public: bytes) -> bytes:
    """What the key before it signs of a new generation."""
    return pae([_VOUCHER, ca.encode(), str(number).encode(), public])


def signing(generations: Sequence[Generation]) -> Generation:
    """The one that signs. Raises UnknownGeneration where none does, or two."""
    found = [each for each in generations if each.stage is Stage.SIGNING]
    if len(found) != 1:
        raise UnknownGeneration("the signer does not say which of its keys signs")
    return found[0]


def must_follow(ca: Ca, known: Mapping[int, bytes], told: Sequence[Generation]) -> None:
    """Raises UnknownGeneration unless everything `told` is known or vouched for by what is.

    `known` is number -> public half of what was believed before; empty at the first look, which believes what it sees.
    """
    numbers = [each.number for each in told]
    if numbers != sorted(set(numbers)) or not 0 < len(told) <= MAX_GENERATIONS:
        raise UnknownGeneration("the signer does not tell its generations in order")
    signing(told)
    believed = dict(known) if known else {told[0].number: told[0].public}
    for each in told:
        if each.number not in believed:
            _must_be_vouched(ca, each, believed.get(each.number - 1))
            believed[each.number] = each.public
        if believed[each.number] != each.public:
            raise UnknownGeneration("the signer came back with another key")


def after(stages: Sequence[Stage], step: Step) -> None:
    """Whether a step is the next one of a CA whose generations are in these stages. Raises WrongStep."""
    wanted = {
        Step.START: [Stage.SIGNING],
        Step.SWITCH: [Stage.SIGNING, Stage.NEXT],
        Step.FINISH: [Stage.OLD, Stage.SIGNING],
    }
    if list(stages) != wanted[step]:
        raise WrongStep(f"the CA is not where {step.value} is the next step")


def about(generations: Sequence[Generation], step: Step) -> int:
    """The number of the key that a step makes, lets sign or destroys, where it is the next one. Raises WrongStep."""
    after([each.stage for each in generations], step)
    match step:
        case Step.START:
            return generations[-1].number + 1
        case Step.SWITCH:
            return generations[-1].number
        case Step.FINISH:
            return generations[0].number


def not_before(ca: Ca, generations: Sequence[Generation], step: Step) -> datetime:
    """From when on nobody is left behind by a step, as far as time tells. Raises WrongStep where it is not the next."""
    after([each.stage for each in generations], step)
    match step:
        case Step.START:
            return EPOCH
        case Step.SWITCH:
            return generations[-1].since + _KNOWN_AFTER.get(ca, timedelta(0))
        case Step.FINISH:
            # the old one is old since the other one signs
            return generations[0].since + _OVER_AFTER[ca]


def _must_be_vouched(ca: Ca, each: Generation, before: bytes | None) -> None:
    if before is None:
        raise UnknownGeneration("the signer came back with a key that nothing known vouches for")
    try:
        _verify(ca, before, each.voucher, voucher_record(ca, each.number, each.public))
    except (InvalidSignature, WireError, ValueError, TypeError) as error:
        raise UnknownGeneration("the signer came back with a key that nothing known vouches for") from error


def _verify(ca: Ca, public: bytes, signature: bytes, record: bytes) -> None:
    if ca is not Ca.X509:
        Ed25519PublicKey.from_public_bytes(parse_blob(public).point).verify(signature, record)
        return
    key = x509.load_der_x509_certificate(public).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TypeError("not a P-256 key")
    key.verify(signature, record, ec.ECDSA(hashes.SHA256()))
