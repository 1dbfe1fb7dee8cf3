"""Becoming somebody at a broker: a join token or a person's signature against a client certificate.

The key is made here and stays here; only a CSR leaves. A join file is a secret until it is redeemed: it is written
0600 and works once.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

import grpc

from grantd import keys, records
from grantd.channel import open_join_channel
from grantd.errors import Invalid, from_rpc
from grantd.profile import Description, Profile
from grantd.v1 import identity_pb2
from grantd.v1.admin_pb2 import JoinInfo
from grantd.v1.identity_pb2_grpc import IdentityServiceStub

_CALL_SECONDS: Final = 30.0
_SECRET_BYTES: Final = 32
_NONCE_BYTES: Final = 16
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_JOIN_BYTES: Final = 64 * 1024

Sign = Callable[[str, bytes], bytes]
"""(SSHSIG namespace, message) -> SSHSIG blob in binary form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """What a join file holds: JSON, one object, exactly these members (the secret in base64)."""

    join_address: str
    ca_certificate: str
    tenant: str
    name: str
    secret: bytes
    server_name: str

    def __repr__(self) -> str:
        return f"Join(name={self.name!r}, secret=***)"

    @classmethod
    def of(cls, info: JoinInfo, *, name: str, secret: bytes) -> Self:
        """From what the broker answered to AddAgent or AddPerson."""
        return cls(
            join_address=info.join_address,
            ca_certificate=info.ca_certificate,
            tenant=info.tenant,
            name=name,
            secret=secret,
            server_name="",
        )

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read a join file. Raises Invalid."""
        way_out = "ask for a new join file: grantctl agent add NAME --out FILE"
        try:
            table = json.loads(raw) if len(raw) <= _MAX_JOIN_BYTES else None
            if not isinstance(table, dict) or table.pop("grantd_join", None) != 1:
                raise Invalid("bad_join_file", "this is not a join file", way_out)
            secret = base64.b64decode(str(table.pop("secret", "")), validate=True)
            joined = cls(secret=secret, **table)
        except (ValueError, TypeError, binascii.Error) as broken:
            raise Invalid("bad_join_file", "the join file is damaged", way_out) from broken
        texts = (joined.join_address, joined.ca_certificate, joined.tenant, joined.name, joined.server_name)
        if len(secret) != _SECRET_BYTES or not all(isinstance(text, str) for text in texts):
            raise Invalid("bad_join_file", "the join file is damaged", way_out)
        return joined

    def render(self) -> bytes:
        """The file's bytes."""
        table = {
            "grantd_join": 1,
            "join_address": self.join_address,
            "ca_certificate": self.ca_certificate,
            "tenant": self.tenant,
            "name": self.name,
            "secret": base64.b64encode(self.secret).decode(),
            "server_name": self.server_name,
        }
        return json.dumps(table, indent=1).encode() + b"\n"


def enrol(join: Join, where: str | Path | None, *, approval_key: str = "") -> Profile:
    """Redeem a join token and write the profile. Raises GrantdError; a used token is refused by the broker."""
    key = keys.new_key()
    request = identity_pb2.EnrollAgentRequest(tenant=join.tenant, join_secret=join.secret, csr=keys.csr_of(key))
    ca = join.ca_certificate.encode()
    with open_join_channel(join.join_address, ca, join.server_name) as channel:
        try:
            answer = IdentityServiceStub(channel).EnrollAgent(request, timeout=_CALL_SECONDS)
        except grpc.RpcError as failed:
            raise from_rpc(failed) from failed
    description = Description(
        address=answer.address,
        join_address=join.join_address,
        tenant=join.tenant,
        identity_id=answer.identity_id,
        name=join.name,
        server_name=join.server_name,
        freeze_address=answer.freeze_address,
        approval_key=approval_key,
    )
    keys.validity_of(answer.certificate.encode())
    return Profile.create(
        where,
        description=description,
        key=key,
        certificate=answer.certificate.encode(),
        ca=answer.ca_certificate.encode() or ca,
    )


def sign_in(profile: Profile, sign: Sign, *, now: datetime) -> Profile:
    """A fresh certificate for a person, with a new key, against a signature by the approval key. Raises GrantdError."""
    key = keys.new_key()
    nonce = os.urandom(_NONCE_BYTES)
    signed_at_us = micros(now)
    told = profile.description
    record = records.sign_in_record(
        tenant=told.tenant,
        person=told.name,
        key_sha256=keys.spki_sha256(key),
        signed_at_us=signed_at_us,
        nonce=nonce,
    )
    request = identity_pb2.RedeemSignInRequest(
        tenant=told.tenant,
        name=told.name,
        csr=keys.csr_of(key),
        signed_at_us=signed_at_us,
        nonce=nonce,
        signature=sign(records.SIGN_IN_NAMESPACE, record),
    )
    with open_join_channel(told.join_address, profile.ca, told.server_name) as channel:
        try:
            answer = IdentityServiceStub(channel).RedeemSignIn(request, timeout=_CALL_SECONDS)
        except grpc.RpcError as failed:
            raise from_rpc(failed) from failed
    keys.validity_of(answer.certificate.encode())
    return Profile.create(
        profile.directory,
        description=replace(told, freeze_address=answer.freeze_address or told.freeze_address),
        key=key,
        certificate=answer.certificate.encode(),
        ca=answer.ca_certificate.encode() or profile.ca,
    )


def micros(moment: datetime) -> int:
    """Microseconds since the epoch, from an aware datetime."""
    return (moment - _EPOCH) // timedelta(microseconds=1)
