"""Step-up: a fresh signature over one administrative change, by the caller and where needed by a second person.

The record binds the method and the exact request, so a signature cannot be moved to another change. A change that
waits for its second signature travels as a file: it holds the request and what was signed so far, no secret.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self, TypeAlias

from google.protobuf.message import DecodeError

from grantd import records
from grantd.enrolment import Sign, micros
from grantd.errors import Invalid
from grantd.statements import TRUST_NAMESPACE
from grantd.v1 import admin_pb2, ca_pb2, glass_pb2, options_pb2, vault_pb2

SECOND_PERSON: Final = "second_person_needed"
"""The broker's code for: another person has to sign this too."""
_NONCE_BYTES: Final = 16

Change: TypeAlias = (
    admin_pb2.AddPersonRequest
    | admin_pb2.PutTargetRequest
    | admin_pb2.PutPolicyRequest
    | admin_pb2.PutTrustRequest
    | admin_pb2.SetTargetPasswordRequest
    | admin_pb2.SetTeamsRequest
    | admin_pb2.SuspendIdentityRequest
    | admin_pb2.UnfreezeRequest
    | ca_pb2.RotateCaRequest
    | glass_pb2.MakeBreakGlassRequest
    | glass_pb2.ReviewBreakGlassRequest
    | vault_pb2.RotateKeyRequest
)
"""A request that carries `step_ups`. A password is none that a file may hold: it never needs a second person."""
METHODS: Final[dict[str, type[Change]]] = {
    "grantd.v1.AdminService/AddPerson": admin_pb2.AddPersonRequest,
    "grantd.v1.AdminService/PutTarget": admin_pb2.PutTargetRequest,
    "grantd.v1.AdminService/PutPolicy": admin_pb2.PutPolicyRequest,
    "grantd.v1.AdminService/PutTrust": admin_pb2.PutTrustRequest,
    "grantd.v1.AdminService/SetTargetPassword": admin_pb2.SetTargetPasswordRequest,
    "grantd.v1.AdminService/SetTeams": admin_pb2.SetTeamsRequest,
    "grantd.v1.AdminService/SuspendIdentity": admin_pb2.SuspendIdentityRequest,
    "grantd.v1.AdminService/Unfreeze": admin_pb2.UnfreezeRequest,
    "grantd.v1.AdminService/RotateCa": ca_pb2.RotateCaRequest,
    "grantd.v1.AdminService/MakeBreakGlass": glass_pb2.MakeBreakGlassRequest,
    "grantd.v1.AdminService/ReviewBreakGlass": glass_pb2.ReviewBreakGlassRequest,
    "grantd.v1.VaultService/RotateKey": vault_pb2.RotateKeyRequest,
}


def method_of(change: Change) -> str:
    """Full name of the RPC that takes this request, such as `grantd.v1.AdminService/PutTarget`."""
    return next(method for method, kind in METHODS.items() if isinstance(change, kind))


def step_up(change: Change, sign: Sign, *, tenant: str, person_id: str, now: datetime) -> options_pb2.StepUp:
    """One person's signature over a change, and over its statement for the signer; append it to the `step_ups`."""
    made = options_pb2.StepUp(person_id=person_id, signed_at_us=micros(now), nonce=os.urandom(_NONCE_BYTES))
    record = records.step_up_record(made, tenant=tenant, method=method_of(change), request=change)
    made.signature = sign(records.CHANGE_NAMESPACE, record)
    if statement := getattr(change, "trust", b""):
        made.trust_signature = sign(TRUST_NAMESPACE, statement)
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFile:
    """A change on its way to a second person: JSON with the method and the request in base64."""

    tenant: str
    change: Change

    def render(self) -> bytes:
        """The file's bytes."""
        table = {
            "grantd_change": 1,
            "tenant": self.tenant,
            "method": method_of(self.change),
            "request": base64.b64encode(self.change.SerializeToString(deterministic=True)).decode(),
        }
        return json.dumps(table, indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read a change file. Raises Invalid."""
        try:
            table = json.loads(raw)
            if not isinstance(table, dict) or table.get("grantd_change") != 1:
                raise Invalid("bad_change_file", "this is not a change file")
            method = str(table["method"])
            if method not in METHODS:
                raise Invalid("bad_change_file", "the change file names an unknown method")
            request = METHODS[method].FromString(base64.b64decode(str(table["request"]), validate=True))
            return cls(tenant=str(table["tenant"]), change=request)
        except (ValueError, KeyError, DecodeError, binascii.Error) as broken:
            raise Invalid("bad_change_file", "the change file is damaged") from broken
