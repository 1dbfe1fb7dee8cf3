"""What a check of a target may be signed for: one of a few fixed commands, and nothing that belongs to a grant."""

from __future__ import annotations

from broker.core.cert import Ca, CertMismatch, CertSpec
from broker.core.ids import PREFIXES
from broker.core.looks import FORCED

_TARGET = PREFIXES["target"] + "_"


def must_be_a_check(spec: CertSpec) -> None:
    """Raises CertMismatch unless its holder can do no more than look, as the check of that target does."""
    if spec.ca is not Ca.EGRESS or not spec.key_id.startswith(_TARGET):
        raise CertMismatch("certificate refused: a check carries its target's id")
    if spec.principals[0].split(":")[2] != spec.key_id:
        raise CertMismatch("certificate refused: a check is of the target that it names")
    if spec.force_command not in FORCED or spec.permit_pty:
        raise CertMismatch("certificate refused: a check runs its fixed commands alone")


def must_be_of_a_grant(spec: CertSpec) -> None:
    """Raises CertMismatch where a check asks like a session, and could then run anything."""
    if spec.ca is Ca.EGRESS and spec.key_id.startswith(_TARGET):
        raise CertMismatch("certificate refused: a check is asked for as one")
