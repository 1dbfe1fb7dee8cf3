"""Administering and enrolling over the wire, with a fresh signature where power is raised."""

from __future__ import annotations

import copy
import hashlib
import os
from dataclasses import replace
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.duration_pb2 import Duration

from broker.core.clock import from_micros, micros
from broker.core.records import CHANGE_NAMESPACE, SIGN_IN_NAMESPACE, change_record, sign_in_record
from broker.core.sshwire import ed25519_blob, parse_blob
from grantd.v1 import admin_pb2, identity_pb2, options_pb2
from grantd.v1.access_pb2_grpc import AccessServiceStub
from grantd.v1.admin_pb2_grpc import AdminServiceStub
from grantd.v1.identity_pb2_grpc import IdentityServiceStub
from tests.broker.rpc.calls import refusal_of, wish
from tests.broker.rpc.world import House, Somebody, spki_sha256, web1


def step_up(who: Somebody, change: object, method: str) -> options_pb2.StepUp:
    """A person's fresh signature over a change, made from the description in options.proto."""
    bare = copy.deepcopy(change)
    bare.ClearField("step_ups")  # type: ignore[attr-defined]
    payload = bare.SerializeToString(deterministic=True)  # type: ignore[attr-defined]
    at, nonce = micros(datetime.now(UTC)), os.urandom(16)
    record = change_record(
        tenant=who.row.tenant, person=who.row.id, method=f"grantd.v1.AdminService/{method}",
        payload_sha256=hashlib.sha256(payload).digest(), at=from_micros(at), nonce=nonce,
    )  # fmt: skip
    return options_pb2.StepUp(
        person_id=who.row.id, signed_at_us=at, nonce=nonce, signature=who.sign(CHANGE_NAMESPACE, record)
    )


async def test_an_agent_is_added_enrols_renews_and_is_suspended(house: House) -> None:
    """The join address needs no certificate and the token works once; the new certificate works on the main one."""
    assert house.rpc is not None
    async with house.channel(house.people["manager"]) as channel:
        admin = AdminServiceStub(channel)
        added = await admin.AddAgent(
            admin_pb2.AddAgentRequest(idempotency_key="k1", name="bot", teams=["web"], join_for=Duration(seconds=600))
        )
        assert (added.identity.status, list(added.identity.teams)) == ("invited", ["web"])
        assert added.join.ca_certificate.encode() == house.ca_pem()
        key = ec.generate_private_key(ec.SECP256R1())
        bot = Somebody(row=house.people["agent"].row, key=key, certificate=b"", approval=house.people["agent"].approval)
        enrol = identity_pb2.EnrollAgentRequest(tenant="t1", join_secret=added.join_secret, csr=bot.csr())
        async with house.channel(None, port=house.rpc.join_port) as join:
            made = await IdentityServiceStub(join).EnrollAgent(enrol)
            again = await refusal_of(IdentityServiceStub(join).EnrollAgent(enrol))
        assert again == ("UNAUTHENTICATED", "bad_join_token")
        bot = replace(bot, certificate=made.certificate.encode())
        async with house.channel(bot) as own:
            identity = IdentityServiceStub(own)
            assert (await identity.WhoAmI(identity_pb2.WhoAmIRequest())).name == "bot"
            renewed = await identity.RenewCertificate(identity_pb2.RenewCertificateRequest(csr=bot.csr()))
            fresh = x509.load_pem_x509_certificate(renewed.certificate.encode())
            assert fresh.public_key() == key.public_key()
            gone = admin_pb2.SuspendIdentityRequest(identity_id=made.identity_id, reason="done")
            assert (await admin.SuspendIdentity(gone)).identity.status == "suspended"
            refused = await refusal_of(identity.WhoAmI(identity_pb2.WhoAmIRequest()))
        assert refused == ("UNAUTHENTICATED", "unknown_identity")


async def test_a_person_signs_in_with_the_approval_key(house: House) -> None:
    """RedeemSignIn on the join address: a new key, an old approval key, a nonce that works once."""
    assert house.rpc is not None
    viewer = house.people["viewer"]
    fresh = replace(viewer, key=ec.generate_private_key(ec.SECP256R1()))
    at, nonce = micros(datetime.now(UTC)), os.urandom(16)
    record = sign_in_record(
        tenant="t1", person="viewer", key_sha256=spki_sha256(fresh.key), at=from_micros(at), nonce=nonce
    )
    request = identity_pb2.RedeemSignInRequest(
        tenant="t1", name="viewer", csr=fresh.csr(), signed_at_us=at, nonce=nonce,
        signature=viewer.sign(SIGN_IN_NAMESPACE, record),
    )  # fmt: skip
    async with house.channel(None, port=house.rpc.join_port) as join:
        made = await IdentityServiceStub(join).RedeemSignIn(request)
        assert await refusal_of(IdentityServiceStub(join).RedeemSignIn(request)) == ("UNAUTHENTICATED", "bad_sign_in")
    async with house.channel(replace(fresh, certificate=made.certificate.encode())) as own:
        assert (await IdentityServiceStub(own).WhoAmI(identity_pb2.WhoAmIRequest())).name == "viewer"
    async with house.channel(viewer) as old:
        refused = await refusal_of(IdentityServiceStub(old).WhoAmI(identity_pb2.WhoAmIRequest()))
    assert refused == ("UNAUTHENTICATED", "unknown_identity")


async def test_changes_that_raise_power_need_a_signature_over_exactly_them(house: House) -> None:
    """AddPerson, PutTarget: a signature over one request is worth nothing for another; keys belong to one person."""
    owner = house.people["owner"]
    async with house.channel(owner) as channel:
        admin = AdminServiceStub(channel)
        taken = house.people["admin"].row.approval_keys[0]
        fresh = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        line = parse_blob(ed25519_blob(fresh)).line()
        person = admin_pb2.AddPersonRequest(
            idempotency_key="k2", name="newcomer", role="viewer", teams=["web"], approval_keys=[line]
        )
        assert await refusal_of(admin.AddPerson(person)) == ("PERMISSION_DENIED", "step_up_needed")
        signed = copy.deepcopy(person)
        signed.step_ups.append(step_up(owner, person, "AddPerson"))
        stolen = copy.deepcopy(signed)
        stolen.role = "owner"
        assert (await refusal_of(admin.AddPerson(stolen)))[0] == "PERMISSION_DENIED"
        assert (await admin.AddPerson(signed)).identity.name == "newcomer"
        second = admin_pb2.AddPersonRequest(idempotency_key="k9", name="twin", role="viewer", approval_keys=[taken])
        second.step_ups.append(step_up(owner, second, "AddPerson"))
        assert await refusal_of(admin.AddPerson(second)) == ("FAILED_PRECONDITION", "key_taken")
        target = admin_pb2.PutTargetRequest(
            idempotency_key="k3",
            target=admin_pb2.Target(
                name="db1", host="192.0.2.9", port=22, host_key=web1(house.team).host_key,
                tier=options_pb2.AUTONOMY_TIER_APPROVAL, teams=["web"], labels={"env": "prod"},
                logins=[admin_pb2.TargetLogin(name="deploy")],
            ),
        )  # fmt: skip
        target.step_ups.append(step_up(owner, target, "PutTarget"))
        put = await admin.PutTarget(target)
        assert put.target.name == "db1"
        assert put.sshd_lines
        assert {row.name for row in (await admin.ListTargets(admin_pb2.ListTargetsRequest())).targets} == {
            "web1",
            "db1",
        }
        bad = copy.deepcopy(target)
        bad.target.host_key = "ssh-rsa AAAA"
        assert (await refusal_of(admin.PutTarget(bad))) == ("INVALID_ARGUMENT", "bad_public_key")


async def test_the_rest_of_administration_answers(house: House) -> None:
    """Teams, lists, policy, host keys, checks, and the kill switch with its lifting."""
    owner, admin_person = house.people["owner"], house.people["admin"]
    async with house.channel(owner) as channel:
        admin = AdminServiceStub(channel)
        team = (await admin.AddTeam(admin_pb2.AddTeamRequest(idempotency_key="k4", name="data"))).team
        teams = (await admin.ListTeams(admin_pb2.ListTeamsRequest())).teams
        assert [(t.id, t.name) for t in teams] == [(team.id, "data"), (house.team, "web")]
        people = (await admin.ListIdentities(admin_pb2.ListIdentitiesRequest(kind="person"))).identities
        assert [p.name for p in people] == ["admin", "manager", "owner", "viewer"]
        assert all(key.startswith("SHA256:") for p in people for key in p.approval_keys)
        policy = (await admin.GetPolicy(admin_pb2.GetPolicyRequest())).policy
        same = admin_pb2.PutPolicyRequest(idempotency_key="k5", sources=policy.sources, replaces=policy.version)
        assert (await admin.PutPolicy(same)).policy.version == policy.version
        scanned = await admin.ScanHostKey(admin_pb2.ScanHostKeyRequest(host="192.0.2.9", port=22))
        assert scanned.fingerprint.startswith("SHA256:")
        checked = await admin.CheckTarget(admin_pb2.CheckTargetRequest(target="web1"))
        assert checked.findings[0].ok
        assert (await admin.Freeze(admin_pb2.FreezeRequest(reason="incident"))).sessions_cut == 0
        async with house.channel(house.people["agent"]) as agent:
            asked = await refusal_of(AccessServiceStub(agent).RequestAccess(wish()))
        assert asked == ("UNAVAILABLE", "frozen")
        lift = admin_pb2.UnfreezeRequest(reason="over")
        lift.step_ups.append(step_up(owner, lift, "Unfreeze"))
        assert await refusal_of(admin.Unfreeze(lift)) == ("PERMISSION_DENIED", "second_person_needed")
        bare = admin_pb2.UnfreezeRequest(reason="over")
        both = [step_up(owner, bare, "Unfreeze"), step_up(admin_person, bare, "Unfreeze")]
        await admin.Unfreeze(admin_pb2.UnfreezeRequest(reason="over", step_ups=both))
