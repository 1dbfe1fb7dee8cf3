"""The CAs and their generations, as clients see them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from broker.core.cert import Ca
from broker.core.generation import Generation
from broker.core.sshwire import fingerprint_of, parse_blob
from broker.rpc.convert.scalars import moment
from broker.rpc.identity import pem
from grantd.v1 import ca_pb2 as pb


def ca_out(ca: Ca, generations: Sequence[Generation]) -> pb.Ca:
    """One CA."""
    return pb.Ca(name=ca.value, generations=[_generation_out(ca, each) for each in generations])


def _generation_out(ca: Ca, each: Generation) -> pb.CaGeneration:
    is_ssh = ca is not Ca.X509
    return pb.CaGeneration(
        number=each.number,
        stage=each.stage.value,
        since=moment(each.since),
        fingerprint=fingerprint_of(each.public) if is_ssh else f"SHA256:{hashlib.sha256(each.public).hexdigest()}",
        public_key=parse_blob(each.public).line() if is_ssh else pem(each.public),
    )
