"""Who somebody is: enrolling, renewing, signing in, being recognised, being admitted (I-06, I-08, I-24, I-53, I-64)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from broker.core.cert import Ca, CertSpec, X509Spec, client_uri
from broker.core.clock import micros
from broker.core.errors import SignerFault
from broker.core.identity import Identity, IdentityKind, IdentityStatus
from broker.core.ids import GrantId, IdentityId
from broker.core.records import CHANGE_NAMESPACE, SIGN_IN_NAMESPACE, sign_in_record
from broker.core.roles import Permission, Role
from broker.core.sshcert import parse
from broker.core.sshwire import ed25519_blob
from broker.service.enrol import ClientCertificate, SignIn
from broker.service.gateway import Shown
from broker.service.issue import SshCredential
from broker.service.people import Invitation, Newcomer
from tests.broker.adapters.store.fixtures import OTHER, TENANT
from tests.broker.service.somebody import Somebody, spki_sha256
from tests.broker.service.world import READ, House, refused
from tests.contract.store.races import race

SSH_KEY = ed25519_blob(Ed25519PrivateKey.generate().public_key().public_bytes_raw())
METHOD = "grantd.v1.AdminService/PutPolicy"


async def invited(house: House, **changed: object) -> Invitation:
    """A newcomer, asked for by a manager."""
    manager = await house.add("manager", Role.MANAGER)
    made = Newcomer(
        idempotency_key="k", kind=IdentityKind.AGENT, name="newcomer", role=Role.AGENT, teams=frozenset({"ops"}),
        owner="", approval_keys=(), join_for=None,
    )  # fmt: skip
    return await house.cases.people.add_agent(manager.caller, replace(made, **changed))  # type: ignore[arg-type]


def csr_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A CSR, DER, that claims a name nobody asked about."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "owner")])
    return x509.CertificateSigningRequestBuilder(name).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


async def row_of(house: House, identity: IdentityId) -> Identity:
    """As it stands."""
    row = await house.store.inner.read(TENANT, lambda tx: tx.identities.get(identity))
    assert row is not None
    return row


# ---- join tokens


async def test_a_join_token_works_once_under_a_race(house: House) -> None:
    """20 with keys of their own: one certificate, whose key is the row's; the rest learn nothing (I-53)."""
    invitation = await invited(house)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(20)]
    got = await race([house.cases.enrol.enrol(TENANT, invitation.secret, csr_of(key)) for key in keys])
    won = [(key, one) for key, one in zip(keys, got, strict=True) if isinstance(one, ClientCertificate)]
    assert len(won) == 1
    assert {getattr(one, "code", "won") for one in got} == {"won", "bad_join_token"}
    row = await row_of(house, invitation.identity.id)
    assert (row.status, row.key) == (IdentityStatus.ACTIVE, spki_sha256(won[0][0]))
    assert (await house.events()).count("identity.enrolled") == 1


async def test_what_the_certificate_says_comes_from_the_row(house: House) -> None:
    """Names in a CSR are ignored; 24 h; the newcomer is then recognised by exactly that key."""
    invitation = await invited(house)
    key = ec.generate_private_key(ec.SECP256R1())
    made = await house.cases.enrol.enrol(TENANT, invitation.secret, csr_of(key))
    certificate = x509.load_der_x509_certificate(made.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uri = client_uri(TENANT, invitation.identity.id)
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [uri]
    assert certificate.subject.rdns == []
    assert made.not_after == house.clock.now() + timedelta(hours=24)
    caller = await house.cases.identify.identify(TENANT, invitation.identity.id, spki_sha256(key))
    assert caller.name == "newcomer"


@pytest.mark.parametrize("how", ["late", "wrong", "short", "another tenant", "no tenant", "suspended"])
async def test_a_join_token_that_does_not_work(house: House, how: str) -> None:
    """One answer to every reason; a spoilt attempt does not spend it."""
    invitation = await invited(house, join_for=timedelta(minutes=5))
    csr, secret, tenant = csr_of(ec.generate_private_key(ec.SECP256R1())), invitation.secret, str(TENANT)
    if how == "late":
        house.clock.forward(300)
    if how == "suspended":
        await house.put(replace(invitation.identity, status=IdentityStatus.SUSPENDED))
    secret = {"wrong": bytes(32), "short": secret[:31]}.get(how, secret)
    tenant = {"another tenant": str(OTHER), "no tenant": "_system"}.get(how, tenant)
    assert await refused(house.cases.enrol.enrol(tenant, secret, csr)) == "bad_join_token"
    if how not in {"late", "suspended"}:
        await house.cases.enrol.enrol(TENANT, invitation.secret, csr)


async def test_a_second_token_never_replaces_a_key_in_use(house: House) -> None:
    """Two were made for the same newcomer: the first one spent leaves the other worthless."""
    one, two = await invited(house), await invited(house)
    assert one.identity.id == two.identity.id
    key = ec.generate_private_key(ec.SECP256R1())
    await house.cases.enrol.enrol(TENANT, two.secret, csr_of(key))
    thief = csr_of(ec.generate_private_key(ec.SECP256R1()))
    assert await refused(house.cases.enrol.enrol(TENANT, one.secret, thief)) == "bad_join_token"
    assert (await row_of(house, one.identity.id)).key == spki_sha256(key)


@pytest.mark.parametrize(
    "csr", [b"", b"x" * 5000, b"0\x82", csr_of(ec.generate_private_key(ec.SECP384R1()))], ids=range(4)
)
async def test_a_csr_that_is_none(house: House, csr: bytes) -> None:
    """Not one, too long, of another curve, or not signed by its key."""
    invitation = await invited(house)
    good = bytearray(csr_of(ec.generate_private_key(ec.SECP256R1())))
    good[-1] ^= 1
    for bad in (csr, bytes(good)):
        assert await refused(house.cases.enrol.enrol(TENANT, invitation.secret, bad)) == "bad_csr"


async def test_renewal_keeps_the_key(house: House) -> None:
    """Another key is refused, and so is a suspended identity."""
    agent, other = await house.add("deployer"), await house.add("other")
    assert (await house.cases.enrol.renew(agent.caller, agent.csr())).identity == agent.id
    assert await refused(house.cases.enrol.renew(agent.caller, other.csr())) == "key_changed"
    await house.put(replace(agent.row, status=IdentityStatus.SUSPENDED))
    assert await refused(house.cases.enrol.renew(agent.caller, agent.csr())) == "identity_suspended"


# ---- sign-in


def signed_in(house: House, who: Somebody, **changed: object) -> SignIn:
    """A person's signature over a new TLS key, a moment ago."""
    key = ec.generate_private_key(ec.SECP256R1())
    at, nonce = house.clock.now(), house.world.entropy.token(16)
    record = sign_in_record(tenant=TENANT, person=who.row.name, key_sha256=spki_sha256(key), at=at, nonce=nonce)
    made = SignIn(
        tenant=TENANT, name=who.row.name, csr=csr_of(key), signed_at_us=micros(at), nonce=nonce,
        signature=who.sign(SIGN_IN_NAMESPACE, record),
    )  # fmt: skip
    return replace(made, **changed)  # type: ignore[arg-type]


async def test_a_sign_in_cannot_be_replayed(house: House) -> None:
    """20 at once and again later: one certificate; the row has the new key (I-56)."""
    person = await house.add("owner", Role.OWNER)
    given = signed_in(house, person)
    got = await race([house.cases.enrol.sign_in(given) for _ in range(20)])
    assert sum(isinstance(one, ClientCertificate) for one in got) == 1
    assert await refused(house.cases.enrol.sign_in(given)) == "bad_sign_in"
    assert (await row_of(house, person.id)).key != person.row.key
    assert (await house.events()).count("identity.enrolled") == 1


SPOILT: dict[str, Callable[[House, SignIn, Somebody], SignIn]] = {
    "stale": lambda _, s, __: replace(s, signed_at_us=s.signed_at_us - 121_000_000),
    "early": lambda _, s, __: replace(s, signed_at_us=s.signed_at_us + 121_000_000),
    "another moment": lambda _, s, __: replace(s, signed_at_us=s.signed_at_us + 1),
    "another nonce": lambda _, s, __: replace(s, nonce=bytes(16)),
    "a short nonce": lambda _, s, __: replace(s, nonce=b""),
    "another name": lambda _, s, __: replace(s, name="approver"),
    "nobody": lambda _, s, __: replace(s, name="nobody"),
    "no name": lambda _, s, __: replace(s, name="-x"),
    "another tenant": lambda _, s, __: replace(s, tenant="t2"),
    "another key": lambda _, s, o: replace(s, csr=o.csr()),
    "another's signature": lambda h, s, o: replace(s, signature=signed_in(h, o).signature),
    "another namespace": lambda _, s, o: replace(s, signature=o.sign(CHANGE_NAMESPACE, b"x")),
}


@pytest.mark.parametrize("how", SPOILT)
async def test_a_sign_in_that_does_not_count(house: House, how: str) -> None:
    """One answer to every reason; a good one right after it works."""
    person, other = await house.add("owner", Role.OWNER), await house.add("approver", Role.ADMIN)
    given = signed_in(house, person)
    assert await refused(house.cases.enrol.sign_in(SPOILT[how](house, given, other))) == "bad_sign_in"
    assert (await house.cases.enrol.sign_in(given)).identity == person.id


async def test_a_suspended_person_cannot_sign_in(house: House) -> None:
    """However good the signature."""
    person = await house.add("owner", Role.OWNER)
    await house.put(replace(person.row, status=IdentityStatus.SUSPENDED))
    assert await refused(house.cases.enrol.sign_in(signed_in(house, person))) == "bad_sign_in"


# ---- being recognised


async def test_a_row_is_remembered_for_less_than_a_second(house: House) -> None:
    """I-64: a suspension elsewhere counts here at the latest after one second; `again` may ask for sooner."""
    agent = await house.add("deployer")
    identify = house.cases.identify
    assert (await identify.identify(TENANT, agent.id, agent.row.key)).identity == agent.id
    await house.put(replace(agent.row, status=IdentityStatus.SUSPENDED))
    house.clock.forward(0.999)
    await identify.identify(TENANT, agent.id, agent.row.key)
    assert await refused(identify.again(TENANT, agent.id, agent.row.key, max_age=0.0)) == "unknown_identity"
    assert await refused(identify.identify(TENANT, agent.id, agent.row.key)) == "unknown_identity"
    await house.put(agent.row)
    await identify.identify(TENANT, agent.id, agent.row.key)
    await house.put(replace(agent.row, status=IdentityStatus.SUSPENDED))
    house.clock.forward(1.0)
    assert await refused(identify.identify(TENANT, agent.id, agent.row.key)) == "unknown_identity"


async def test_who_is_not_recognised(house: House) -> None:
    """Another tenant, another identity, another key: the same answer, also for what is remembered (I-40, I-46)."""
    agent, other = await house.add("deployer"), await house.add("other")
    await house.cases.identify.identify(TENANT, agent.id, agent.row.key)
    for tenant, identity, key in (
        (OTHER, agent.id, agent.row.key),
        (TENANT, other.id, agent.row.key),
        (TENANT, agent.id, other.row.key),
        ("_system", agent.id, agent.row.key),
        (TENANT, "ag_x", agent.row.key),
        (TENANT, agent.id, b""),
    ):
        assert await refused(house.cases.identify.identify(tenant, identity, key)) == "unknown_identity"


async def test_refused_calls_do_not_bury_the_log(house: House) -> None:
    """One row a caller, method and minute, with the repeats; and a log that fails does not fail the refusal."""
    viewer = await house.add("viewer", Role.VIEWER)
    refuse = house.cases.refused.not_permitted
    for _ in range(50):
        await refuse(viewer.caller, permission=Permission.POLICY_WRITE, method=METHOD)
    assert await house.events() == ["permission.refused"]
    house.clock.forward(60)
    house.store.writes_fail = True
    await refuse(viewer.caller, permission=Permission.POLICY_WRITE, method=METHOD)
    assert await house.events() == ["permission.refused"]


# ---- credentials and the gateway


def shown(house: House, made: SshCredential, **changed: object) -> Shown:
    """What a stock client shows with the certificate."""
    spec = next(one for one in reversed(house.signer.asked) if isinstance(one, CertSpec) and one.ca is Ca.INGRESS)
    parsed = parse(made.certificate)
    assert (parsed.serial, parsed.key_id) == (spec.serial, spec.key_id)
    good = Shown(
        user=made.user, key_id=spec.key_id, serial=spec.serial, key_sha256=hashlib.sha256(SSH_KEY).digest(),
        principals=spec.principals, valid_after=spec.valid_after, valid_before=spec.valid_before,
        options=frozenset(), extensions=frozenset(),
    )  # fmt: skip
    return replace(good, **changed)  # type: ignore[arg-type]


async def test_a_certificate_admits_its_holder(house: House) -> None:
    """I-06, I-07: one principal, bound to the key, ends with the grant; the first issue starts the TTL."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    made = await house.cases.issue.ssh(agent.caller, grant, SSH_KEY)
    assert (made.user, made.not_after) == ("deploy+web1", house.clock.now() + timedelta(hours=1))
    assert made.known_hosts.startswith("@cert-authority [broker.example]:2222 ssh-ed25519 ")
    admission = await house.cases.gateway.admit(shown(house, made))
    assert (admission.caller.identity, admission.grant.id) == (agent.id, grant)
    assert await house.cases.gateway.admit(shown(house, made, user="deploy")) == admission, "as `ssh deploy@host` says"
    await house.cases.gateway.refused(admission, "sftp")
    await house.cases.gateway.rejected("unknown_key")
    assert (await house.events())[-1] == "session.feature_refused"


async def test_who_is_not_admitted(house: House) -> None:
    """I-08: a valid signature is never enough: every field must agree with the rows, and every answer is the same."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    made = await house.cases.issue.ssh(agent.caller, grant, SSH_KEY)
    now = house.clock.now()
    for changed in (
        {"user": "root+web1"}, {"user": "deploy+web2", "principals": ("deploy+web2",)}, {"key_id": "x"},
        {"user": "root"}, {"user": "web1"}, {"user": ""}, {"user": "deploy+"}, {"user": "deploy+web2"},
        {"principals": ("deploy",)}, {"user": "deploy", "principals": ("deploy",)},
        {"user": "deploy", "principals": ("deploy+web2",)},
        {"key_id": GrantId("gr_" + "a" * 26)}, {"serial": 1}, {"key_sha256": bytes(32)}, {"principals": ()},
        {"principals": ("deploy+web1", "root+web1")}, {"options": frozenset({"force-command"})},
        {"extensions": frozenset({"permit-port-forwarding"})}, {"valid_before": now},
        {"valid_after": now + timedelta(seconds=1)},
    ):  # fmt: skip
        assert await refused(house.cases.gateway.admit(shown(house, made, **changed))) == "not_admitted"
    await house.put(replace(agent.row, key=bytes(32)))
    assert await refused(house.cases.gateway.admit(shown(house, made))) == "not_admitted"
    await house.put(replace(agent.row, status=IdentityStatus.SUSPENDED))
    assert await refused(house.cases.gateway.admit(shown(house, made))) == "not_admitted"
    await house.put(agent.row)
    await house.cases.gateway.admit(shown(house, made))
    await house.cases.access.revoke(agent.caller, grant, "")
    assert await refused(house.cases.gateway.admit(shown(house, made))) == "not_admitted"


async def test_tokens(house: House) -> None:
    """I-08, I-09: bound to the caller's key, worth nothing to others, without its row, or after its end."""
    agent, other = await house.add("deployer"), await house.add("other")
    grant = await house.granted(agent)
    made = await house.cases.issue.token(agent.caller, grant)
    grant_of = house.cases.issue.grant_of_token
    assert await grant_of(agent.caller, made.token) == grant
    assert await refused(grant_of(other.caller, made.token)) == "bad_token"
    assert await refused(grant_of(replace(agent.caller, tenant=OTHER), made.token)) == "bad_token"
    assert await refused(grant_of(agent.caller, made.token[:-2])) == "bad_token"
    house.store.commits_fail = True
    with pytest.raises(Exception, match="commit failed"):
        await house.cases.issue.token(agent.caller, grant)
    house.store.commits_fail = False
    house.clock.forward(3600)
    assert await refused(grant_of(agent.caller, made.token)) == "bad_token"


@pytest.mark.parametrize("key", [b"", b"x", SSH_KEY[:-1]], ids=range(3))
async def test_only_ed25519_keys_are_certified(house: House, key: bytes) -> None:
    """And a key that is none starts no TTL."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    assert await refused(house.cases.issue.ssh(agent.caller, grant, key)) == "bad_public_key"
    assert (await house.grant(grant)).not_after is None


async def test_row_and_audit_before_the_signature(house: House) -> None:
    """I-31: what the store does not take is not signed; what the signer refuses is in the log all the same."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    before = len(house.signer.asked)
    for switch in ("writes_fail", "commits_fail"):
        setattr(house.store, switch, True)
        with pytest.raises(Exception, match=r"disk is full|commit failed"):
            await house.cases.issue.ssh(agent.caller, grant, SSH_KEY)
        setattr(house.store, switch, False)
    assert len(house.signer.asked) == before
    house.signer.fails = True
    with pytest.raises(SignerFault):
        await house.cases.issue.ssh(agent.caller, grant, SSH_KEY)
    assert (await house.events())[-1] == "credential.issued"


async def test_policy_is_asked_again_when_something_is_issued(house: House) -> None:
    """The stricter answer wins: who left the team since gets nothing."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    await house.put(replace(agent.row, teams=frozenset()))
    assert await refused(house.cases.issue.token(agent.caller, grant)) == "policy_denied"
    assert await refused(house.propose(agent, grant, READ)) == "policy_denied"
    assert not any(isinstance(one, X509Spec) for one in house.signer.asked)


async def test_names_are_for_those_who_see_ids(house: House) -> None:
    """What has no row has no name."""
    agent = await house.add("deployer")
    found = await house.cases.names.of(TENANT, [(agent.id, house.web1.id), (IdentityId("ag_x"), house.web1.id)])
    assert (found.identity(agent.id), found.target(house.web1.id)) == ("deployer", "web1")
    assert found.identity(IdentityId("ag_x")) == ""
